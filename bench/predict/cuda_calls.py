"""Operators that allocate on CUDA what a CPU's implementation does not: replaced while a step is traced.

Each replacement names the source in torch or cuDNN that it follows. They are made in torch's dispatcher, so that
operators called by others, from C++ or while something is recomputed, are met, too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.predict import attention, cudnn_rnn
from bench.predict.old_releases import kernels_of
from bench.predict.releases import Release
from bench.torch_internals.cuda_autocast import cuda_autocast
from bench.torch_internals.replaced_kernels import replaced_kernels


@contextmanager
def cuda_calls(release: Release) -> Iterator[None]:
    """Inside, what runs on a CPU's tensors is what would run on a GPU's, in a release of torch."""
    kernels: dict[str, Callable[..., Any]] = {"dropout": cuda_dropout, **attention.KERNELS, **cudnn_rnn.KERNELS}
    kernels |= kernels_of(release)
    with cuda_autocast(), replaced_kernels("AutogradCPU", kernels):
        yield


def cuda_dropout(input_: Tensor, p: float, train: bool) -> Tensor:
    """CUDA's dropout keeps a mask of 1 B an element, the CPU's one of the element's own size.

    aten/src/ATen/native/Dropout.cpp: the fused kernel runs for training with 0 < p < 1.
    """
    if not train or p == 0 or input_.numel() == 0:
        return input_
    if p == 1:
        return input_.mul(torch.zeros((), dtype=input_.dtype))
    return torch.native_dropout(input_, p, train)[0]
