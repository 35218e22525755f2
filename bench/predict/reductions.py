"""What a reduction on a GPU uses while it runs, where several blocks of threads share a result.

Their partial results, and a counter for each group of blocks, go through memory. How many blocks share is decided on
the host by shapes, strides and the number of multiprocessors: aten/src/ATen/native/cuda/Reduce.cuh,
``setReduceConfig``.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

MOST_THREADS = 512
WARP = 32
FEWEST_VALUES, MOST_VALUES = 16, 256
"""Of one thread, where values are shared out among blocks."""
LOADED_AT_ONCE = 4


WELFORD_BYTES, PAIR_BYTES = 16, 16
"""A partial variance (mean, squares, two counts); a value with its position."""

REDUCTIONS: dict[Any, int | None] = {
    aten.sum.default: None,
    aten.sum.dim_IntList: 1,
    aten.mean.default: None,
    aten.mean.dim: 1,
    aten.prod.default: None,
    aten.prod.dim_int: 1,
    aten.amax.default: 1,
    aten.amin.default: 1,
    aten.max.default: None,
    aten.min.default: None,
    aten.max.dim: 1,
    aten.min.dim: 1,
    aten.argmax.default: 1,
    aten.argmin.default: 1,
    aten.any.default: None,
    aten.any.dim: 1,
    aten.all.default: None,
    aten.all.dim: 1,
    aten.linalg_vector_norm.default: 2,
    aten.norm.ScalarOpt_dim: 2,
    aten.var.correction: 1,
    aten.std.correction: 1,
    aten.var_mean.correction: 1,
    aten.std_mean.correction: 1,
}
"""Operators that reduce, and which of their arguments names the dimensions; None: all."""
SUMS = {aten.sum.dim_IntList, aten.prod.dim_int}
WITH_POSITION = {aten.max.dim, aten.min.dim, aten.argmax.default, aten.argmin.default}
EXTREMES = {aten.amax.default, aten.amin.default, aten.max.default, aten.min.default}
VARIANCES = {aten.var.correction, aten.std.correction, aten.var_mean.correction, aten.std_mean.correction}


def scratch_of_reduction(
    operator: Any, arguments: Sequence[Any], result: Any, multiprocessors: "Multiprocessors"
) -> tuple[int, int]:
    """Return what ``reduction_scratch`` does, for a call of one of ``REDUCTIONS``."""
    input_, position = arguments[0], REDUCTIONS[operator]
    if operator in SUMS and not input_.is_floating_point() and input_.dtype != result.dtype:
        # It is copied into the type of its sum first (aten/src/ATen/native/ReduceOpsUtils.h, ``make_reduction``).
        return input_.numel() * result.element_size(), 0
    named = arguments[position] if position is not None and position < len(arguments) else None
    dimensions = [] if named is None else [named] if isinstance(named, int) else named
    if operator in WITH_POSITION:
        size = PAIR_BYTES
    elif operator in VARIANCES:
        size = WELFORD_BYTES
    elif operator in EXTREMES or result.dtype in (torch.bool, torch.float64, torch.int64):
        size = result.element_size()
    else:
        size = torch.float32.itemsize
    return reduction_scratch(input_, dimensions, size, multiprocessors)


@dataclass(frozen=True)
class Multiprocessors:
    """A GPU's streaming multiprocessors.

    Attributes:
        number: of them.
        threads: that one holds at most.
    """

    number: int
    threads: int

    @classmethod
    def of_gpu(cls, number: int, compute_capability: tuple[int, int]) -> "Multiprocessors":
        """Return those of a GPU (CUDA C++ Programming Guide, technical specifications by compute capability)."""
        few = {(7, 5): 1024}
        most = (7, 0), (7, 2), (8, 0), (9, 0), (10, 0), (10, 3)
        return cls(number, few.get(compute_capability, 2048 if compute_capability in most else 1536))


def reduction_scratch(
    input_: Tensor, dimensions: Collection[int], accumulator_bytes: int, multiprocessors: Multiprocessors
) -> tuple[int, int]:
    """Return the bytes of partial results and of counters of a reduction; zeros where each block works alone.

    Args:
        input_: what is reduced.
        dimensions: those that are; empty for all.
        accumulator_bytes: size of a partial result.
        multiprocessors: of the GPU.
    """
    dims = {dimension % max(input_.dim(), 1) for dimension in dimensions} or set(range(input_.dim()))
    reduced = _merged(sorted((stride, size) for d, (stride, size) in _strides(input_).items() if d in dims))
    kept = _merged([(stride, size) for d, (stride, size) in reversed(_strides(input_).items()) if d not in dims])
    outputs, inputs = math.prod(size for _, size in kept), math.prod(size for _, size in reduced)
    if not outputs * inputs or not reduced:
        return 0, 0
    along_rows = not kept or reduced[0][0] < kept[0][0]
    width, height, fastest = (inputs, outputs, reduced[0][0]) if along_rows else (outputs, inputs, kept[0][0])
    vector = 1
    if fastest == 1 and along_rows and width >= 128 and len(reduced) == 1:
        width //= LOADED_AT_ONCE
    elif fastest == 1 and not along_rows:
        others = (*(stride for stride, _ in reduced), *(stride for stride, _ in kept[1:]), input_.storage_offset())
        vector = math.gcd(kept[0][1], LOADED_AT_ONCE, *others)
        width //= vector
    most = MOST_THREADS // vector
    wide, high = _power_of_two(width, most), _power_of_two(height, most)
    block_width = min(wide, WARP)
    block_height = min(high, most // block_width)
    block_width = min(wide, most // block_height)
    together, beside = (block_width, 1) if along_rows else (1, block_width)
    if -(-inputs // together) < min(block_height * FEWEST_VALUES, MOST_VALUES):
        return 0, 0
    each = -(-inputs // (together * block_height))
    grid = -(-(outputs // vector) // beside)
    wanted = multiprocessors.number * (multiprocessors.threads // (block_width * block_height))
    if each < MOST_VALUES or grid > wanted:
        return 0, 0
    blocks = min(max(-(-wanted // grid), -(-each // MOST_VALUES)), -(-each // FEWEST_VALUES))
    if blocks <= 1:
        return 0, 0
    partial = accumulator_bytes * outputs * blocks * (1 if along_rows else block_width * vector)
    return partial, 4 * grid


def _strides(tensor: Tensor) -> dict[int, tuple[int, int]]:
    """Return stride and size of each dimension that has any extent."""
    both = zip(tensor.stride(), tensor.shape, strict=True)
    return {number: one for number, one in enumerate(both) if one[1] != 1}


def _merged(dimensions: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge dimensions, from the fastest on, that lie behind each other without a gap."""
    merged: list[tuple[int, int]] = []
    for stride, size in dimensions:
        if merged and merged[-1][0] * merged[-1][1] == stride:
            merged[-1] = (merged[-1][0], merged[-1][1] * size)
        else:
            merged.append((stride, size))
    return merged


def _power_of_two(number: int, most: int) -> int:
    return most if number >= most else 1 << (max(number, 1).bit_length() - 1)
