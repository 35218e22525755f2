"""What earlier releases of torch kept for the backward pass; see releases.py for when that changed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.predict.releases import HARDTANH_KEEPS_INPUT, SOFTMAX_KEEPS_RESULT_ALONE, Release
from bench.torch_internals.replaced_kernels import below_autograd

aten = torch.ops.aten


class _Softmax(torch.autograd.Function):
    """Keeps its input beside its result."""

    @staticmethod
    def forward(ctx: Any, forward: Any, backward: Any, input_: Tensor, dim: int, half_to_float: bool) -> Tensor:
        with below_autograd():
            result: Tensor = forward(input_, dim, half_to_float)
        ctx.save_for_backward(input_, result)
        ctx.of_gradient, ctx.dim = backward, dim
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        input_, result = ctx.saved_tensors
        return None, None, ctx.of_gradient(gradients[0], result, ctx.dim, input_.dtype), None, None


class _HardtanhInPlace(torch.autograd.Function):
    """Keeps its result alone."""

    @staticmethod
    def forward(ctx: Any, input_: Tensor, low: float, high: float) -> Tensor:
        with below_autograd():
            aten.hardtanh_(input_, low, high)
        ctx.mark_dirty(input_)
        ctx.save_for_backward(input_)
        ctx.bounds = low, high
        return input_

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return aten.hardtanh_backward(gradients[0], ctx.saved_tensors[0], *ctx.bounds), None, None


def _softmax(input_: Tensor, dim: int, half_to_float: bool) -> Tensor:
    operators = aten._softmax.default, aten._softmax_backward_data.default
    result: Tensor = _Softmax.apply(*operators, input_, dim, half_to_float)
    return result


def _log_softmax(input_: Tensor, dim: int, half_to_float: bool) -> Tensor:
    operators = aten._log_softmax.default, aten._log_softmax_backward_data.default
    result: Tensor = _Softmax.apply(*operators, input_, dim, half_to_float)
    return result


def _hardtanh_in_place(input_: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    result: Tensor = _HardtanhInPlace.apply(input_, min_val, max_val)
    return result


def kernels_of(release: Release) -> dict[str, Callable[..., Tensor]]:
    """Return, by name of operator, what stands for those that a release of torch differentiates otherwise."""
    kernels: dict[str, Callable[..., Tensor]] = {}
    if release < SOFTMAX_KEEPS_RESULT_ALONE:
        kernels |= {"_softmax": _softmax, "_log_softmax": _log_softmax}
    if release < HARDTANH_KEEPS_INPUT:
        kernels["hardtanh_"] = _hardtanh_in_place
    return kernels
