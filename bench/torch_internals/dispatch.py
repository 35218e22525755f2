"""Fake tensors, dispatch modes and what they are asked: parts of torch without a promise of stability.

A release of torch that changes one of them must stop the prediction, never shift it silently: ``probe`` (probe.py) runs
once before the first trace.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

__all__ = [
    "FakeTensor",
    "FakeTensorMode",
    "PrivateApiError",
    "SteppingScaler",
    "TorchDispatchMode",
    "ValueNeededError",
    "asks_for_device",
    "device_of",
    "in_parts",
    "is_composite",
    "outside_modes",
    "reads_a_value",
    "require",
    "storage_id",
]


ValueNeededError = (DataDependentOutputException, DynamicOutputShapeException)
"""What a fake tensor raises where only values decide how large a result is."""


class PrivateApiError(RuntimeError):
    """This release of torch does not behave as the tracing needs."""


class SteppingScaler(torch.amp.GradScaler):
    """A gradient scaler that never skips a step. The true one reads a flag from the device, which has no value here."""

    def _maybe_opt_step(self, optimizer: torch.optim.Optimizer, optimizer_state: Any, *args: Any, **kwargs: Any) -> Any:
        return optimizer.step(*args, **kwargs)


def outside_modes() -> AbstractContextManager[object]:
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


def in_parts(operator: Any, args: Any, kwargs: Any) -> Any:
    """Run an operator that is made of others below autograd, so that a mode sees these."""
    return operator._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *args, **kwargs)


def is_composite(operator: Any) -> bool:
    """Tell whether an operator only calls others. Autograd takes those apart; in inference mode nobody does."""
    return bool(operator.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd))


def require(holds: bool, assumption: str) -> None:
    """Raise :class:`PrivateApiError` unless an assumption about torch holds."""
    if not holds:
        raise PrivateApiError(f"torch {torch.__version__}: it no longer holds that {assumption}; see bench/predict")
