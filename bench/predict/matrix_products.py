"""What a matrix product on a GPU uses while it runs: cuBLAS's workspace, and copies of operands that it cannot read."""

import torch
from torch import Tensor

from bench.predict.releases import (
    LARGE_WORKSPACE_FROM_CAPABILITY_10,
    LARGE_WORKSPACE_FROM_CAPABILITY_11,
    ONE_WORKSPACE_FOR_BOTH,
    WORKSPACE_FROM_ALLOCATOR,
    Release,
    release_of,
)
from bench.units import MIB

aten = torch.ops.aten
GEMMS = {
    aten.mm.default: (0, 1),
    aten.addmm.default: (1, 2),
    aten.bmm.default: (0, 1),
    aten.baddbmm.default: (1, 2),
    aten.mv.default: (0,),
    aten.addmv.default: (1,),
    aten.dot.default: (),
}
"""Operators that go to cuBLAS, and which of their arguments are matrices."""

CUBLASLT_WORKSPACE_BYTES = MIB
"""What a product that goes through cuBLASLt takes, where it does not share cuBLAS's workspace."""


def cublas_workspace_bytes(compute_capability: tuple[int, int], release: Release | None = None) -> int:
    """Return the workspace that torch gives cuBLAS: 32 MiB or 8,519,680 B; 0 where cuBLAS allocates its own.

    aten/src/ATen/cuda/CublasHandlePool.cpp, ``parseChosenWorkspaceSize``: ":4096:2:16:8", that is 2 x 4 MiB and
    8 x 16 KiB, and 32 MiB on Hopper and, of late, newer GPUs. Before torch 1.11 it did not come from the caching
    allocator. Without a release it is that of the torch that is here.
    """
    release = release or release_of(torch.__version__)
    if release < WORKSPACE_FROM_ALLOCATOR:
        return 0
    large = {9}
    if release >= LARGE_WORKSPACE_FROM_CAPABILITY_10:
        large |= {10, 12}
    if release >= LARGE_WORKSPACE_FROM_CAPABILITY_11:
        large |= {11}
    return 32 * MIB if compute_capability[0] in large else 2 * 4096 * 1024 + 8 * 16 * 1024


def lt_workspace_is_apart(release: Release) -> bool:
    """Tell whether cuBLASLt has a kept workspace beside that of cuBLAS."""
    return WORKSPACE_FROM_ALLOCATOR <= release < ONE_WORKSPACE_FOR_BOTH


def uses_cublaslt(bias: Tensor, left: Tensor, right: Tensor) -> bool:
    """Tell whether torch gives ``bias + left @ right`` to cuBLASLt: where one bias per column can be added on the way.

    aten/src/ATen/native/cuda/Blas.cpp, ``isInputCompliesAddmmCudaLt``.
    """
    return bias.dim() == 1 and bias.is_contiguous() and len(bias) == right.shape[1] and min(right.shape) > 1


def copied_bytes(matrix: Tensor) -> int:
    """Return the bytes of the copy that cuBLAS needs of an operand; 0 where it can read it as it lies.

    It reads rows or columns that lie apart, but whose elements do not (aten/src/ATen/native/cuda/Blas.cpp,
    ``prepare_matrix_for_cublas``, ``prepare_batch_matrix_for_cublas``).
    """
    if matrix.dim() < 2 or matrix.numel() == 0 or matrix.is_contiguous():
        return 0
    (outer, inner), (rows, columns) = matrix.stride()[-2:], matrix.shape[-2:]
    if (inner == 1 and outer >= max(1, columns)) or (outer == 1 and inner >= max(1, rows)):
        return 0
    return matrix.numel() * matrix.element_size()
