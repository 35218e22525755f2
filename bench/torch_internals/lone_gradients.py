"""Where autograd would work in place, were its tensors true ones."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.torch_internals.dispatch import outside_modes, require, storage_id
from bench.torch_internals.fake_mode import fake_mode

AROUND_A_MODE = {__name__, fake_mode.__module__, "torch._compile", "torch._dynamo.eval_frame"}
"""Modules whose functions lie between an operator's caller and a mode that sees it, besides the mode's own module."""


aten = torch.ops.aten
WRITES = {
    aten.index_put.default: aten.index_put_.default,
    aten.scatter.src: aten.scatter_.src,
    aten.scatter.value: aten.scatter_.value,
    aten.scatter_add.default: aten.scatter_add_.default,
    aten.put.default: aten.put_.default,
}
"""Operators that write a gradient to its places among zeros, and what they are in place."""


def in_place(operator: Any, args: Any) -> Any:
    """Return what autograd would call, if its tensors were true ones, of an operator; for a mode's own module.

    Ask while the operator is called. To an instance of a subclass, as fake tensors are, autograd never writes in place.
    With true tensors it adds in place where nobody else holds that gradient (torch/csrc/autograd/input_buffer.cpp,
    ``can_accumulate_inplace``), and writes gradients of an indexing, a selection and the like into the zeros that it
    has just made for them (torch/csrc/autograd/FunctionsManual.cpp, ``areAnyTensorSubclassLike``).
    """
    adds = operator is aten.add.Tensor
    if (not adds and operator not in WRITES) or not _is_engines_call(sys._getframe(1).f_globals["__name__"]):
        return operator
    if adds:
        lone = _holders(args[0]) <= holders_of_a_lone_gradient() and _is_dense(args[0])
        return aten.add_.Tensor if lone else operator
    return WRITES[operator] if _holders(args[0]) <= holders_of_fresh_zeros() else operator


def _is_dense(tensor: Tensor) -> bool:
    """Tell whether a tensor fills its memory without gaps, in whatever order of its dimensions."""
    below = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != below:
                return False
            below *= size
    return True


def _is_engines_call(mode: str = __name__) -> bool:
    """Tell whether autograd's engine called the operator that a mode of module ``mode`` sees."""
    around = AROUND_A_MODE | {mode}
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"] in around:
        frame = frame.f_back
    return frame.f_code is torch.autograd.graph._engine_run_backward.__code__


def _holders(tensor: Tensor) -> int:
    """Return how many hold a tensor or its storage; the caller's own call counts, too."""
    untyped: Any = tensor  # torch before 2.15 does not declare _use_count
    return int(untyped._use_count()) + int(torch._C._storage_Use_Count(storage_id(tensor)))


@functools.cache
def holders_of_a_lone_gradient() -> int:
    """Return how many hold a gradient that autograd would add to in place."""
    found = holders_while_adding(lambda x: x * 1 + x * 2)
    require(len(found) == 1, "autograd adds gradients by an operator")
    return found[0]


@functools.cache
def holders_of_fresh_zeros() -> int:
    """Return how many hold the zeros that autograd has just made for a gradient."""
    found = _holders_while(aten.index_put.default, lambda x: x[torch.zeros(1, dtype=torch.int64)])
    require(len(found) == 1, "autograd writes the gradient of an indexing by an operator")
    return found[0]


def holders_while_adding(function: Callable[[Tensor], Tensor]) -> list[int]:
    """Return the holders of the gradients that are added to while a function of one tensor is differentiated."""
    return _holders_while(aten.add.Tensor, function)


def _holders_while(operator: Any, function: Callable[[Tensor], Tensor]) -> list[int]:
    found: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is operator and _is_engines_call():
                found.append(_holders(args[0]))
            return func(*args, **(kwargs or {}))

    with outside_modes(), fake_mode(), torch.enable_grad(), Watch():
        function(torch.ones(2, 3, requires_grad=True)).sum().backward()
    return found
