"""Linear layers by oneDNN.

On a CPU torch hands float32 products to its BLAS library. Where that is MKL on a processor that is not Intel's, oneDNN,
which torch also brings, is about twice as fast (measured on one core of an AMD Zen 5 at the detector's sizes: 65-85
against 110-190 GFLOP/s). torch reaches it by an operator of its own compiler, which is not a public name
(torch_internals.py): where it is missing, torch's default is used. The tests ask for it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from etad.torch_internals import linear_pointwise


class OneDnnSequential(nn.Sequential):
    """Linear layers with a ReLU after each, or each but the last, by oneDNN; where it cannot be, ``nn.Sequential``."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., in]`` to ``[..., out]``."""
        if not usable(x):
            return super().forward(x)
        for layer, following in zip(self, [*self[1:], None], strict=True):
            if not isinstance(layer, nn.Linear):
                continue  # a ReLU, which went with the layer before it
            x = onednn_linear(x, layer.weight, layer.bias, relu=following is not None)
        return x


def usable(x: Tensor) -> bool:
    """Say whether oneDNN can be used: in float32 on a CPU, but not while a graph is traced or compiled."""
    return (
        linear_pointwise is not None
        and type(x) is Tensor  # a fake tensor is of a subclass
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and x.numel() > 0
    )


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """Return ``x @ weight.T + bias``, by oneDNN where it can be used.

    Args:
        x: ``[..., in]``.
        weight: ``[out, in]``.
        bias: ``[out]``.
        relu: apply a ReLU, too.
    """
    if not usable(x):
        product = functional.linear(x, weight, bias)
        return product.relu() if relu else product
    rows: Tensor = _OneDnnLinear.apply(x.flatten(0, -2), weight, bias, relu)
    return rows.unflatten(0, x.shape[:-1])


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        product = _product(x, weight, bias, "relu" if relu else "none")
        ctx.save_for_backward(x, weight, product if relu else None)
        return product

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        x, weight, activated = ctx.saved_tensors
        if activated is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, activated, 0.0)
        wanted = ctx.needs_input_grad
        of_x = _product(gradient, weight.t().contiguous()) if wanted[0] else None
        # The transposed product is the faster one.
        of_weight = _product(x.t(), gradient.t()).t() if wanted[1] else None
        return of_x, of_weight, gradient.sum(0) if wanted[2] else None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, function: str = "none") -> Tensor:
    assert linear_pointwise is not None
    return linear_pointwise(x, weight, bias, function, [], "")
