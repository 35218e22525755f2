"""Fake tensors that remember: a result from memory is like a computed one, and shares what that shares."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.predict.trace import trace_inference, trace_training
from bench.torch_internals import dispatch as dispatch_module
from bench.torch_internals import fake_mode as fake_mode_module
from bench.torch_internals.dispatch import storage_id
from bench.torch_internals.fake_mode import fake_mode
from tests.bench.predict.test_trace import timeline
from tests.bench.small_traces import RULES, small


@pytest.fixture
def misses(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Start with nothing known; the list gets every operator that is really computed."""
    computed: list[Any] = []
    true_dispatch = dispatch_module.FakeTensorMode.__torch_dispatch__

    def dispatch(self: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        computed.append(func)
        return true_dispatch(self, func, types, args, kwargs)

    monkeypatch.setattr(fake_mode_module, "_KNOWN_RESULTS", {})
    monkeypatch.setattr(dispatch_module.FakeTensorMode, "__torch_dispatch__", dispatch)
    return computed


def facts(result: Any, arguments: list[Tensor]) -> list[Any]:
    """Return everything about a result that a trace depends on."""
    tensors = [result] if isinstance(result, Tensor) else list(result)
    storages = [storage_id(tensor) for tensor in (*arguments, *tensors)]
    return [
        (
            type(tensor),
            tuple(tensor.shape),
            tensor.stride(),
            tensor.storage_offset(),
            tensor.dtype,
            tensor.device,
            tensor.untyped_storage().nbytes(),
            [tensor is argument for argument in arguments],
            # The first tensor that it shares a storage with.
            storages.index(storage_id(tensor)),
        )
        for tensor in tensors
    ]


@pytest.mark.parametrize(
    "operator",
    [
        lambda a, b: a + b,
        lambda a, b: a.add_(b),
        lambda a, b: a[1:, 2:],
        lambda a, b: a.t().contiguous(),
        lambda a, b: a.view(-1)[3:].unflatten(0, (3, 7)),
        lambda a, b: a.split(2),
        lambda a, b: torch._foreach_add([a, b], 1.0),
        lambda a, b: torch._foreach_add_([a, b], 1.0) or [a, b],
        lambda a, b: torch.native_batch_norm(a, None, None, None, None, True, 0.1, 1e-5),
        lambda a, b: a.to(torch.bfloat16),
        lambda a, b: torch.empty_strided((4, 3), (1, 5)),
    ],
)
def test_a_remembered_result_is_like_a_computed_one(operator: Callable[..., Any], misses: list[Any]) -> None:
    found = []
    with fake_mode():
        for _ in range(2):
            misses.clear()
            arguments = [torch.empty(4, 6), torch.empty(4, 6)]
            found.append(facts(operator(*arguments), arguments))
    assert found[0] == found[1]
    # Where a tensor lies is asked every time, and costs little.
    assert set(misses) <= {torch.ops.prim.device.default}


def test_what_looks_alike_is_told_apart(misses: list[Any]) -> None:
    with fake_mode():
        a = torch.empty(4, 6, dtype=torch.int64)
        assert ((a + 1).dtype, (a + 1.0).dtype) == (torch.int64, torch.float32)
        assert ((a * 2).stride(), (a.t() * 2).stride()) == ((6, 1), (1, 6))
        with torch.inference_mode():
            assert (a + 1).is_inference()
        assert not (a + 1).is_inference()


def test_outputs_that_share_a_storage_are_computed_every_time(misses: list[Any]) -> None:
    """As the gradients of an LSTM's two biases do, through oneDNN."""
    lstm_backward = torch.ops.aten.mkldnn_rnn_layer_backward.default
    traces = [trace_training(small(), classes=2, rules=RULES["cpu"]) for _ in range(2)]
    assert timeline(traces[0]) == timeline(traces[1])
    assert misses.count(lstm_backward) > 4


def test_a_trace_from_memory_is_that_of_a_first_one(misses: list[Any]) -> None:
    for trace in (trace_training, trace_inference):
        computed = []
        timelines = []
        for _ in range(2):
            misses.clear()
            timelines.append(timeline(trace(small(precision="bf16"), classes=2, rules=RULES["cuda"])))
            computed.append(len(misses))
        assert timelines[0] == timelines[1]
        assert computed[1] < computed[0] / 2
