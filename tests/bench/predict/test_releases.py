"""What earlier releases of torch do otherwise with memory."""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.predict.device_rules import cuda
from bench.predict.distributed import assigned
from bench.predict.matrix_products import cublas_workspace_bytes
from bench.predict.recorder import Trace
from bench.units import MIB
from tests.bench.predict.any_step import trace_job

SIZE = 4 * 256 * 256
"""Of each of the tensors below, in bytes."""


def of_function(function: Callable[[Tensor], Tensor], device: str) -> tuple[nn.Module, Callable[[], None]]:
    model = nn.ParameterList([nn.Parameter(torch.ones(256, 256))])

    def step() -> None:
        model[0].grad = None
        function(model[0] * 2).square().sum().backward()

    return model, step


def traced(function: Callable[[Tensor], Tensor], release: tuple[int, int]) -> Trace:
    return trace_job(functools.partial(of_function, function), cuda(torch_release=release))


def held_by_forward(trace: Trace) -> int:
    """Return how many tensors of that size are alive when the backward pass begins."""
    alive: set[int] = set()
    for event in trace.steady[0].events:
        allocation = trace.allocations[event.key]
        if "ones_like" in allocation.operator:
            break
        if allocation.size_bytes == SIZE:
            alive.add(event.key) if event.size_bytes else alive.discard(event.key)
    return len(alive)


def test_softmax_kept_its_input_before_1_11() -> None:
    for function in (lambda x: x.softmax(1), lambda x: F.log_softmax(x, 1)):
        assert held_by_forward(traced(function, (1, 10))) == held_by_forward(traced(function, (1, 11))) + 1


def test_relu6_in_place_kept_its_result_before_1_10() -> None:
    def relu6(x: Tensor) -> Tensor:
        return F.relu6(x, inplace=True)

    assert held_by_forward(traced(relu6, (1, 9))) == held_by_forward(traced(relu6, (1, 10))) - 1


def test_optimizers_worked_tensor_by_tensor_and_gradients_stayed_before_2_0() -> None:
    rules = [cuda(torch_release=release) for release in ((1, 13), (2, 0))]
    assert [(one.foreach, one.gradients_to_none) for one in rules] == [(False, False), (True, True)]


def test_cublas_had_its_own_workspace_before_2_0_and_cublaslt_until_2_11() -> None:
    def product(x: Tensor) -> Tensor:
        return torch.addmm(x[0], x, x)

    def scratch(release: tuple[int, int]) -> set[int]:
        trace = traced(product, release)
        events = (*trace.first[0].events, *trace.steady[0].events)
        allocations = (trace.allocations[event.key] for event in events)
        return {one.size_bytes for one in allocations if one.operator.startswith("scratch") and "mm" in one.operator}

    large = cublas_workspace_bytes((8, 0), (2, 14))
    assert scratch((1, 13)) == set()
    assert scratch((2, 11)) == {large, MIB}
    assert scratch((2, 12)) == {large}
    assert scratch((2, 15)) == {large, MIB}


def test_newer_gpus_have_the_large_workspace_from_2_12_on() -> None:
    releases = (2, 11), (2, 12), (2, 14)
    assert [cublas_workspace_bytes((10, 0), one) // MIB for one in releases] == [8, 32, 32]
    assert [cublas_workspace_bytes((11, 0), one) // MIB for one in releases] == [8, 8, 32]
    assert [cublas_workspace_bytes((9, 0), one) // MIB for one in releases] == [32, 32, 32]


def bucket_bytes(gradient_bytes: list[int], **limit: int) -> list[int]:
    gradients = [torch.empty(size, dtype=torch.uint8, device="meta") for size in gradient_bytes]
    return [sum(gradient_bytes[position] for position in bucket) for bucket in assigned(gradients, **limit)]


def test_buckets_of_gradients_are_closed_when_full() -> None:
    assert bucket_bytes([]) == []
    assert bucket_bytes([MIB // 2, MIB // 2, 10 * MIB, 20 * MIB, MIB]) == [MIB, 30 * MIB, MIB]
    assert bucket_bytes([40 * MIB, 3 * MIB], bucket_bytes=MIB // 4) == [40 * MIB, 3 * MIB]
