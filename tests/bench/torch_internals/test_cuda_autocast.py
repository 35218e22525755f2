"""CUDA's autocast on a CPU's tensors: what becomes fp32, what half precision, and what is kept of the weights."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.torch_internals import cuda_autocast as module
from bench.torch_internals.cuda_autocast import cuda_autocast
from bench.torch_internals.fake_mode import fake_mode
from bench.torch_internals.inference import inference_in_parts

HALF = torch.bfloat16
OTHERWISE = {"binary_cross_entropy", "_cudnn_rnn", "cudnn_convolution", "cudnn_convolution_transpose"}
"""Refused, or called by nobody directly."""


def half(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=HALF)


CALLS: dict[str, tuple[Callable[[], Tensor], torch.dtype]] = {
    "exp": (lambda: half(2, 3).exp(), torch.float32),
    "logsumexp": (lambda: half(2, 3).logsumexp(1), torch.float32),
    "a power": (lambda: half(2, 3) ** 2, torch.float32),
    "layer norm": (lambda: F.layer_norm(half(2, 3), (3,)), torch.float32),
    "softmax": (lambda: half(2, 3).softmax(1), torch.float32),
    "a sum": (lambda: half(2, 3).sum(), torch.float32),
    "a sum of some dimensions": (lambda: half(2, 3).sum(1, keepdim=True), torch.float32),
    "a sum of integers": (lambda: torch.ones(2, dtype=torch.int64).sum(), torch.int64),
    "a norm": (lambda: torch.norm(half(2, 3), 2), torch.float32),
    "an old norm": (lambda: torch.ops.aten.norm(half(2, 3), 2), torch.float32),
    "an old norm of some dimensions": (lambda: torch.ops.aten.norm(half(2, 3), 2, [1]), torch.float32),
    "a sum told otherwise": (lambda: half(2, 3).sum(dtype=torch.float64), torch.float64),
    "a loss made of others": (lambda: F.cross_entropy(half(2, 3), torch.zeros(2, dtype=torch.int64)), torch.float32),
    "bilinear upsampling": (lambda: F.interpolate(half(1, 1, 4, 4), scale_factor=2, mode="bilinear"), torch.float32),
    "of two widths": (lambda: torch.atan2(half(2), torch.ones(2)), torch.float32),
    "of one width": (lambda: torch.atan2(half(2), half(2)), HALF),
    "einsum": (lambda: torch.einsum("ij,kj->ik", torch.ones(2, 3), torch.ones(4, 3)), HALF),
    "a vector": (lambda: torch.mv(torch.ones(2, 3), torch.ones(3)), HALF),
    "linear": (lambda: F.linear(torch.ones(2, 3), torch.ones(4, 3)), HALF),
    "double precision": (lambda: torch.ones(2, dtype=torch.float64).exp(), torch.float64),
    # A CPU's autocast would make these fp32.
    "pooling": (lambda: F.avg_pool3d(half(1, 1, 2, 2, 2), 2), HALF),
    "gelu": (lambda: F.gelu(half(2, 3)), HALF),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_becomes_of_precision(name: str) -> None:
    call, dtype = CALLS[name]
    with fake_mode(), cuda_autocast(), torch.autocast("cpu", HALF):
        assert call().dtype == dtype


def test_outside_nothing_has_changed() -> None:
    with cuda_autocast():
        pass
    with torch.autocast("cpu", HALF):
        assert half(2, 3).exp().dtype == HALF
        assert half(2, 3).sum().dtype == HALF
        assert F.avg_pool3d(half(1, 1, 2, 2, 2), 2).dtype == torch.float32
    assert not hasattr(torch.clear_autocast_cache, "__wrapped__")


def test_the_lists_are_those_of_this_torch() -> None:
    known = module.SINGLE | module.SINGLE_RESULT | module.NORMS | module.WIDEST | module.IN_HALF | OTHERWISE
    # Dimensions with names, of which each release has fewer, and solvers.
    others = {name for name in module._names("AutocastCUDA") - known if "name" not in name.lower()}
    assert others <= {"linalg_matrix_sqrth"}


def test_a_weight_is_cast_once_as_long_as_autocast_lasts_and_each_time_in_inference_mode() -> None:
    weight = nn.Parameter(torch.ones(4, 3))
    seen: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        if tensor.dtype == HALF and tensor.numel() == weight.numel():
            seen.append(tensor)
        return tensor

    kept = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with cuda_autocast(), torch.autocast("cpu", HALF), kept:
        for _ in range(2):
            torch.einsum("ij,kj->ik", torch.ones(2, 3, requires_grad=True), weight)
        first, second = seen
        assert first.data_ptr() == second.data_ptr()
    with cuda_autocast(), inference_in_parts(), torch.inference_mode(), torch.autocast("cpu", HALF):
        assert not torch.is_autocast_cache_enabled()
        assert not torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert torch.is_autocast_cache_enabled()
    assert torch.is_grad_enabled()
