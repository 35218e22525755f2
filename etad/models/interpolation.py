"""RoIAlign along time written out: where it samples, and sums of rows of features with its weights.

RoIAlign is linear in the features. A bin averages ``ceil(length / bins)`` samples, and a sample lies between two
positions, so a bin is a weighted sum of few rows of ``[T, C]``. Samples of a segment are at most one position apart
and, where a bin has n > 1 of them, more than (n - 1) / n. So the number of those within the sequence is bounded,
although that of a whole segment is not.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SEGMENT_LIMIT = 1e3
"""Segments are clamped to this many sequence lengths, and NaN is taken for 0: a diverged network must not index out of
bounds. torchvision's operator would loop over every sample of such a segment."""


@dataclass(frozen=True)
class Samples:
    """Where RoIAlign samples. A group is one bin of one segment; the groups of a segment follow each other.

    Attributes:
        group: group of each sample, int64 ``[N]``, rising.
        first: number of the first sample of every group, then N, int64 ``[groups + 1]``.
        before: position at or before each sample, int32 ``[N]``.
        weight: weights of that position and of the one after it, ``[N, 2]``, in the segments' dtype.
        step: from a position to the one after it; 0 in a sequence of one position.
    """

    group: Tensor
    first: Tensor
    before: Tensor
    weight: Tensor
    step: int

    def rows(self, first_row: Tensor, stride: int) -> Tensor:
        """Return the two rows of a table that each sample reads, int32 ``[N, 2]``.

        Args:
            first_row: row of position 0 for every group, ``[groups]``.
            stride: rows from a position to the next.
        """
        before = torch.add(first_row.int().index_select(0, self.group), self.before, alpha=stride)
        return before[:, None] + torch.tensor([0, self.step * stride], dtype=torch.int32, device=before.device)


def sample_segments(segments: Tensor, length: int, bins: int, chosen: range) -> Samples:
    """Return where RoIAlign (aligned=False, sampling_ratio=0) samples, in torchvision's order of operations.

    On a CPU, N depends on the values. Elsewhere, and while a graph is traced or compiled, samples of weight 0 fill
    every segment's last group up to what any segment can need: nothing waits for a device, and all shapes are known.

    Args:
        segments: start and end in normalised time, float32 or float64 ``[S, 2]``.
        length: positions T of the sequence.
        bins: number of bins of a segment.
        chosen: the bins that are wanted, a run; they are the groups of every segment.
    """
    numbers = torch.arange(chosen.start, chosen.stop, device=segments.device)  # [bins]
    start, end = (segments.nan_to_num(0.0).clamp(-SEGMENT_LIMIT, SEGMENT_LIMIT) * length)[:, :, None].unbind(1)
    bin_length = (end - start).clamp(min=1.0) / bins  # [S, 1], as start and end
    samples = bin_length.ceil()  # of each bin, [S, 1]
    base = start + numbers * bin_length  # where each bin begins, [S, bins]

    # The first sample that is inside and the first that is beyond: estimated, then settled by the samples themselves,
    # because rounding can shift an estimate by one. Both begin outside, so that they only move inwards: from one before
    # the estimate to one after it, and from two after it to one before it, which takes three moves at most.
    low = ((-1.0 - base) * samples / bin_length - 0.5).ceil() - 1
    high = ((length - base) * samples / bin_length - 0.5).ceil() + 2
    for _ in range(3):
        low += base + (low + 0.5) * bin_length / samples < -1.0
        high -= (base + (high - 0.5) * bin_length / samples > length).to(high.dtype)
    low = torch.minimum(low.clamp(min=0.0), samples)
    inside = (torch.minimum(high, samples) - low).clamp(min=0.0).int()  # [S, bins]

    counts, total = inside, None
    if not _values_are_at_hand(segments):
        most = most_samples(length, chosen)
        total = len(segments) * most
        counts = torch.cat((inside[:, :-1], most - inside[:, :-1].sum(dim=1, keepdim=True)), dim=1)
    counts = counts.flatten()  # [S * bins]
    group = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts, output_size=total)
    first = torch.cat((counts.new_zeros(1), counts.cumsum(0)))

    def spread(values: Tensor) -> Tensor:
        """Give every sample the value of its group."""
        return values.expand_as(base).flatten().index_select(0, group)

    rank = torch.arange(len(group), device=group.device, dtype=torch.int32)  # [N]
    rank -= first[:-1].int().index_select(0, group)
    per_bin = spread(samples)  # [N]
    place = (spread(low + 0.5) + rank).mul_(spread(bin_length)).div_(per_bin).add_(spread(base))
    place.clamp_(0.0, length - 1.0)
    if total is not None:
        # Padding reads all positions in turn, so that no row is read by most of it when the sums are transposed.
        padding = rank >= spread(inside)
        place = torch.where(padding, (rank % length).to(place.dtype), place)
    # At the last position the sample counts as the end of the step before it.
    before = place.floor().clamp_(max=max(length - 2.0, 0.0))
    share = per_bin.reciprocal_()
    if total is not None:
        share *= ~padding
    after = place.sub_(before).mul_(share)
    weight = torch.stack((share - after, after), dim=1)  # [N, 2]
    return Samples(group, first, before.int(), weight, step=min(1, length - 1))


def weighted_row_sums(table: Tensor, row: Tensor, weight: Tensor, first: Tensor) -> Tensor:
    """Sum rows of a table, bag by bag, without holding the rows that are summed.

    Deterministic on every device, forward and backward: each sum is one loop in a fixed order.

    Args:
        table: ``[R, C]``.
        row: rows to sum, int32 ``[N]``; those of a bag follow each other.
        weight: a factor for each, in the table's dtype, ``[N]``. It gets no gradient.
        first: where each bag begins in ``row``, then N, ``[bags + 1]``.

    Returns:
        ``[bags, C]``.
    """
    sums: Tensor = _WeightedRowSums.apply(table, row, weight, first.int())
    return sums


def dense_product(features: Tensor, samples: Samples, groups: int) -> Tensor:
    """Apply samples as a product with the matrix that they make.

    Args:
        features: ``[B, T, C]``, in the dtype of the samples' weights.
        samples: of all segments, those of a video following each other.
        groups: number of groups of each video.

    Returns:
        ``[B, groups, C]``.
    """
    length = features.shape[1]
    first_cell = torch.arange(len(features) * groups, device=features.device) * length
    cell = samples.rows(first_cell, stride=1)  # [N, 2], numbers in the matrix [B, groups, T]
    product: Tensor = _DenseProduct.apply(features, cell, samples.weight, groups)
    return product


def most_samples(length: int, chosen: range) -> int:
    """Return an upper bound on the samples that the ``chosen`` bins of any segment have within the sequence."""
    # Samples inside [-1, length] that are more than (n - 1) / n apart; one more for rounding.
    room = ((n, int((length + 1) * n / (n - 1)) + 2) for n in range(2, length + 4))
    return max(len(chosen), *(min(len(chosen) * n, fit) for n, fit in room))


class _WeightedRowSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, row: Tensor, weight: Tensor, first: Tensor) -> Tensor:
        ctx.save_for_backward(row, weight, first)
        ctx.rows = len(table)
        return functional.embedding_bag(
            row, table, first, mode="sum", per_sample_weights=weight, include_last_offset=True
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Sum the transposed way: the bags that read a row, row by row. torch's own backward is 2 to 4 times slower."""
        row, weight, first = ctx.saved_tensors
        bag = torch.arange(len(first) - 1, device=row.device, dtype=torch.int32)
        bag = torch.repeat_interleave(bag, first.diff(), output_size=len(row))  # [N], whose sum each row went into
        by_row, order = row.sort(stable=True)  # [N] each
        begin = torch.searchsorted(by_row, torch.arange(ctx.rows + 1, device=row.device), out_int32=True)  # [R + 1]
        table = functional.embedding_bag(
            bag.index_select(0, order),
            gradients[0].contiguous(),
            begin,
            mode="sum",
            per_sample_weights=weight.index_select(0, order),
            include_last_offset=True,
        )
        return table, None, None, None


class _DenseProduct(torch.autograd.Function):
    """Makes the matrix anew for the backward pass: the samples are a small part of its size."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, cell: Tensor, weight: Tensor, groups: int) -> Tensor:
        ctx.save_for_backward(cell, weight)
        ctx.shape = (len(features), groups, features.shape[1])
        return torch.bmm(_matrix(cell, weight, ctx.shape), features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        cell, weight = ctx.saved_tensors
        matrix = _matrix(cell, weight, ctx.shape)
        return torch.bmm(matrix.transpose(1, 2), gradients[0]), None, None, None


def _matrix(cell: Tensor, weight: Tensor, shape: tuple[int, int, int]) -> Tensor:
    matrix = weight.new_zeros(shape)
    # Unlike scatter_add, this is deterministic on a GPU: it sorts.
    matrix.view(-1).index_put_((cell.flatten(),), weight.flatten(), accumulate=True)
    return matrix


def _values_are_at_hand(tensor: Tensor) -> bool:
    # A fake tensor, whose type is a subclass, has no values; those of a GPU would have to be waited for.
    return type(tensor) is Tensor and tensor.device.type == "cpu" and not torch.compiler.is_compiling()
