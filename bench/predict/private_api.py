"""The parts of torch without a promise of stability that we need, in one place, and a probe of those that trace.

A release of torch that changes one of them must stop the prediction, never shift it silently: ``probe`` runs once
before the first trace.
"""

import functools
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

__all__ = [
    "FakeTensorMode",
    "SteppingScaler",
    "TorchDispatchMode",
    "asks_for_device",
    "device_of",
    "dump_history",
    "fake_mode",
    "on_out_of_memory",
    "probe",
    "reads_a_value",
    "really",
    "record_history",
    "stop_history",
    "storage_id",
]


class PrivateApiError(RuntimeError):
    """This release of torch does not behave as the tracing needs."""


class SteppingScaler(torch.amp.GradScaler):
    """A gradient scaler that never skips a step. The true one reads a flag from the device, which has no value here."""

    def _maybe_opt_step(self, optimizer: torch.optim.Optimizer, optimizer_state: Any, *args: Any, **kwargs: Any) -> Any:
        return optimizer.step(*args, **kwargs)


SHARED_OUTPUTS = {torch.ops.aten.mkldnn_rnn_layer_backward.default}
"""Operators with two outputs in one storage: the gradients of an LSTM's two biases."""


class _FakeMode(FakeTensorMode):
    """Fake tensors, with a cache that changes nothing: torch's forgets that outputs may share a storage."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.cache_enabled = func not in SHARED_OUTPUTS
        return super().__torch_dispatch__(func, types, args, kwargs)


def fake_mode() -> FakeTensorMode:
    """Return a new mode. What operators make of which shapes is remembered by all of them: a second trace is faster."""
    return _FakeMode(allow_non_fake_inputs=True)


def really() -> AbstractContextManager[object]:
    """Return a context in which operators run on real tensors, from within a mode."""
    return _disable_current_modes()


def storage_id(tensor: Tensor) -> int:
    """Return the identity of a tensor's storage: equal for views, and reused once the storage has died."""
    return int(tensor.untyped_storage()._cdata)


def reads_a_value(operator: Any) -> bool:
    """Tell whether an operator brings a tensor's value to the host, which a fake tensor does not have."""
    return operator is torch.ops.aten._local_scalar_dense.default


def asks_for_device(operator: Any) -> bool:
    """Tell whether an operator asks a tensor where it lies, which a fake tensor answers itself."""
    return operator is torch.ops.prim.device.default


def device_of(tensor: Tensor) -> torch.device:
    """Return where a fake tensor pretends to lie, without dispatching the question."""
    assert isinstance(tensor, FakeTensor)
    return tensor.fake_device


def is_composite(operator: Any) -> bool:
    """Tell whether an operator only calls others. Autograd takes those apart; in inference mode nobody does."""
    return bool(operator.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd))


def on_out_of_memory(observer: Callable[[int, int, int, int], None]) -> str | None:
    """Let CUDA's allocator call ``observer`` just before it raises ``torch.OutOfMemoryError``.

    Args:
        observer: gets the device's number, the bytes that the driver was asked for, the device's bytes in all, and
            those that are free.

    Returns:
        Why that is not possible; None if it is.
    """
    attach = getattr(torch._C, "_cuda_attach_out_of_memory_observer", None)
    if attach is None:
        return f"torch {torch.__version__} does not tell what was asked for"
    attach(observer)
    return None


def record_history(frames: bool) -> None:
    """Let CUDA's allocator write down what it does from now on, with or without the Python stack of every request."""
    context = "alloc" if frames else None
    torch.cuda.memory._record_memory_history(enabled="all", context=context, stacks="python")


def dump_history(path: Path) -> None:
    """Write what was recorded, in the format of torch's memory visualiser (https://pytorch.org/memory_viz)."""
    torch.cuda.memory._dump_snapshot(str(path))


def stop_history() -> None:
    """Record no more."""
    torch.cuda.memory._record_memory_history(enabled=None)


@functools.cache
def probe() -> None:
    """Check every assumption on a few bytes.

    Raises:
        PrivateApiError: naming the assumption that does not hold.
    """
    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return 1.0 if reads_a_value(func) else func(*args, **(kwargs or {}))

    with fake_mode(), Watch():
        tensor = torch.ones(3, 5)
        view = tensor[1:]
        _require(tensor.untyped_storage().nbytes() == 60, "a fake tensor's storage has the size of a real one")
        _require(device_of(tensor) == tensor.device, "a fake tensor knows its device")
        _require(storage_id(tensor) == storage_id(view), "views of a fake tensor share its storage")
        ended: list[None] = []
        reference = weakref.ref(tensor.untyped_storage(), lambda _: ended.append(None))
        del tensor
        _require(not ended, "a storage lives as long as its last view")
        _require(view.sum().item() == 1.0, "reading a value can be answered by a dispatch mode")
        del view
        _require(bool(ended) and reference() is None, "the end of a fake tensor's storage can be observed")
        weight = torch.nn.Parameter(torch.ones(2, 2))
        (torch.randperm(2, generator=torch.Generator()).float() @ weight).sum().backward()
        with really():
            _require(torch.ones(2).sum().item() == 2.0, "the modes can be left for a while")
        _require(weight.grad is not None, "a backward pass runs on fake tensors")
    _require("aten.mv.default" in seen or "aten.mm.default" in seen, "a dispatch mode sees the operators")
    _require(callable(getattr(torch.amp.GradScaler, "_maybe_opt_step", None)), "GradScaler has _maybe_opt_step")


def _require(holds: bool, assumption: str) -> None:
    if not holds:
        raise PrivateApiError(f"torch {torch.__version__}: it no longer holds that {assumption}; see bench/predict")
