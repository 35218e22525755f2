"""Other forms of an encoder's convolutions: the same numbers with less work and less memory.

folded    BatchNorm on stored statistics scales and shifts every channel, which the convolution before it can do by
          itself; its ReLU then works in place on the convolution's output. Only where no gradient is wanted: in frozen
          stages, and everywhere while features are only encoded.
planar    a kernel of one frame is a two-dimensional convolution of every frame, and one of one pixel is a
          two-dimensional convolution over time and pixels. Libraries are far better at those: for (3, 1, 1) torch has
          no fast kernel on a CPU at all.

The modules keep their places, names and parameters, so a state dict is the same in every form.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SETTINGS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")


class EquivalentConv3d(nn.Conv3d):
    """Takes the place of a convolution, with its parameters.

    Args:
        convolution: the one that it replaces.
        planar: run it as a two-dimensional one where its kernel allows.
    """

    def __init__(self, convolution: nn.Conv3d, planar: bool) -> None:
        settings: dict[str, Any] = {name: getattr(convolution, name) for name in SETTINGS}
        super().__init__(**settings, bias=False, device="meta")
        self.weight, self.bias = convolution.weight, convolution.bias
        self.planar = planar and self._is_plain()
        # Not a child: its parameters would appear under a second name.
        self._norm: tuple[FoldedNorm, ...] = ()

    def fold(self, norm: "FoldedNorm") -> None:
        """Do the work of ``norm``, which follows this convolution, whenever it leaves it."""
        norm.convolution = (self,)
        self._norm = (norm,)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``[K, C, T, H, W]``."""
        weight, bias = self.weight, self.bias
        for norm in self._norm:
            if norm.is_folded():
                weight, bias = folded(weight, bias, norm)
        if self.planar and not isinstance(self.padding, str):
            return planar_conv3d(input, weight, bias, self.stride, self.padding)
        return self._conv_forward(input, weight, bias)

    def _is_plain(self) -> bool:
        return self.groups == 1 and set(self.dilation) == {1} and self.padding_mode == "zeros"


class FoldedNorm(nn.BatchNorm3d):
    """Takes the place of a BatchNorm, with its parameters and statistics; leaves its work to a convolution."""

    convolution: tuple[EquivalentConv3d, ...] = ()

    def __init__(self, norm: nn.BatchNorm3d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        for name, statistic in norm.named_buffers():
            self.register_buffer(name, statistic)

    def is_folded(self) -> bool:
        """Tell whether the convolution does its work now: no gradient is wanted, no statistic is taken."""
        if self.training:
            return False
        if not torch.is_grad_enabled():
            return True
        parameters = (*self.convolution[0].parameters(), *self.parameters())
        return not any(parameter.requires_grad for parameter in parameters)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[K, C, T, H, W]``, unless that is done already."""
        return input if self.is_folded() else super().forward(input)


def replace_convolutions(network: nn.Module, fold_norm: bool, planar: bool) -> None:
    """Put the other forms in the place of a network's convolutions, and of BatchNorms that directly follow one."""
    parents = [module for module in network.modules() if not isinstance(module, EquivalentConv3d)]
    for parent in parents:
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv3d):
                setattr(parent, name, EquivalentConv3d(child, planar))
    if fold_norm:
        for parent in parents:
            for convolution, name, norm in _pairs(parent):
                other = FoldedNorm(norm)
                setattr(parent, name, other)
                convolution.fold(other)


def folded(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Return weight ``[O, I, ...]`` and bias ``[O]`` of a convolution that does ``norm``'s work, too."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if bias is not None:
        shift = shift + bias * scale
    return weight * scale.view(-1, *(1,) * (weight.dim() - 1)), shift


def planar_conv3d(
    input_: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """Convolve ``[K, C, T, H, W]`` with ``[O, C, t, h, w]`` as a two-dimensional convolution where t or h x w is 1.

    A kernel of one frame needs frames that lie one after the other, that is the channels-last-3d memory format; to
    bring others into that order would cost more than it gains, and they are convolved as they are.
    """
    time, height, width = weight.shape[2:]
    if (height, width) == (1, 1) and stride[1:] == (1, 1) and padding[1:] == (0, 0):
        pixels = input_.shape[3:]
        output = functional.conv2d(input_.flatten(3), weight.squeeze(4), bias, (stride[0], 1), (padding[0], 0))
        return output.unflatten(3, pixels)
    if (time, stride[0], padding[0]) == (1, 1, 0) and _has_frames_in_order(input_):
        frames = input_.transpose(1, 2).flatten(0, 1)
        output = functional.conv2d(frames, weight.squeeze(2), bias, stride[1:], padding[1:])
        return output.unflatten(0, (len(input_), -1)).transpose(1, 2)
    return functional.conv3d(input_, weight, bias, stride, padding)


def _has_frames_in_order(input_: Tensor) -> bool:
    return input_.is_contiguous(memory_format=torch.channels_last_3d)


def _pairs(parent: nn.Module) -> Iterator[tuple[EquivalentConv3d, str, nn.BatchNorm3d]]:
    """Yield BatchNorms that directly follow a convolution in a sequence, with that convolution and their name."""
    if not isinstance(parent, nn.Sequential):
        return
    for (_, before), (name, after) in pairwise(list(parent.named_children())):
        last: nn.Module = before
        # A (2+1)D convolution is itself a sequence, which ends with a convolution.
        while isinstance(last, nn.Sequential) and len(last):
            last = last[-1]
        if isinstance(last, EquivalentConv3d) and type(after) is nn.BatchNorm3d and after.affine:
            yield last, name, after
