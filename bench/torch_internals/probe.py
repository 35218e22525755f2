"""A check, on a few bytes, of every assumption about torch that tracing makes."""

import functools
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.torch_internals.dispatch import device_of, outside_modes, reads_a_value, require, storage_id
from bench.torch_internals.fake_mode import fake_mode
from bench.torch_internals.lone_gradients import (
    holders_of_a_lone_gradient,
    holders_of_fresh_zeros,
    holders_while_adding,
)


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
        require(tensor.untyped_storage().nbytes() == 60, "a fake tensor's storage has the size of a real one")
        require(device_of(tensor) == tensor.device, "a fake tensor knows its device")
        for again in (view, tensor[1:]):
            require(storage_id(tensor) == storage_id(again), "views of a fake tensor share its storage")
        del again
        ended: list[None] = []
        reference = weakref.ref(tensor.untyped_storage(), lambda _: ended.append(None))
        del tensor
        require(not ended, "a storage lives as long as its last view")
        require(view.sum().item() == 1.0, "reading a value can be answered by a dispatch mode")
        del view
        require(bool(ended) and reference() is None, "the end of a fake tensor's storage can be observed")
        first, second = holders_while_adding(_with_a_shared_gradient)
        require(first > second == holders_of_a_lone_gradient(), "it can be counted who holds a gradient")
        require(holders_of_fresh_zeros() > 0, "it can be counted who holds zeros that a gradient is written to")
        weight = torch.nn.Parameter(torch.ones(2, 2))
        (torch.randperm(2, generator=torch.Generator()).float() @ weight).sum().backward()
        with outside_modes():
            require(torch.ones(2).sum().item() == 2.0, "the modes can be left for a while")
        require(weight.grad is not None, "a backward pass runs on fake tensors")
    require("aten.mv.default" in seen or "aten.mm.default" in seen, "a dispatch mode sees the operators")
    require(callable(getattr(torch.amp.GradScaler, "_maybe_opt_step", None)), "GradScaler has _maybe_opt_step")


def _with_a_shared_gradient(x: Tensor) -> Tensor:
    one, other = x * 1, x.sin()
    later = one.exp()
    # When the gradient of one is added to that of later, it still waits for other, too.
    return (one + other) + later
