"""Geometry of one-dimensional segments.

A segment is ``[start, end]`` on the last axis of a floating tensor. Overlaps have no unit; offsets count in lengths of
the segment itself. Formulas: specification, sections 3 (refinement) and 6 (targets), after ETAD (arXiv 2205.07134).
"""

import torch
from torch import Tensor


def tiou(a: Tensor, b: Tensor) -> Tensor:
    """Return the temporal intersection over union of paired segments.

    Args:
        a: ``[..., 2]``.
        b: ``[..., 2]``, broadcast against ``a``.

    Returns:
        ``[...]`` in 0..1. Degenerate segments (no length, or end before start) overlap nothing: 0, never NaN.
    """
    intersection = _intersection(a, b)
    union = _length(a) + _length(b) - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def tiou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Return the tIoU ``[..., M, N]`` of all of ``a`` ``[..., M, 2]`` with all of ``b`` ``[..., N, 2]``."""
    return tiou(a.unsqueeze(-2), b.unsqueeze(-3))


def overlap_over_first(a: Tensor, b: Tensor, eps: float = 1e-6) -> Tensor:
    """Return intersection / (length of ``a`` + ``eps``) of paired segments (specification, section 6: boundary maps).

    Args:
        a: ``[..., 2]``, not inverted.
        b: ``[..., 2]``, broadcast against ``a``.
        eps: added to the length, in the unit of the segments.

    Returns:
        ``[...]`` in 0..1.
    """
    return _intersection(a, b) / (_length(a) + eps)


def to_centre_width(segments: Tensor) -> Tensor:
    """Return ``[..., (start, end)]`` as ``[..., (centre, width)]``."""
    start, end = segments.unbind(-1)
    return torch.stack(((start + end) / 2, end - start), dim=-1)


def from_centre_width(centre_width: Tensor) -> Tensor:
    """Return ``[..., (centre, width)]`` as ``[..., (start, end)]``."""
    centre, width = centre_width.unbind(-1)
    return torch.stack((centre - width / 2, centre + width / 2), dim=-1)


def refine(segments: Tensor, start_end: Tensor, centre_width: Tensor) -> Tensor:
    """Move segments by predicted offsets; both predictions count half (specification, section 3).

    Args:
        segments: ``[..., 2]``.
        start_end: ``[..., 2]`` offsets of start and end, in segment lengths.
        centre_width: ``[..., 2]`` offset of the centre in segment lengths, and logarithm of the growth in width.

    Returns:
        ``[..., 2]`` the mean of the two decoded segments, not clipped: it may leave 0..1, and may be inverted.
    """
    centre, width = to_centre_width(segments).unbind(-1)
    start_offset, end_offset = start_end.unbind(-1)
    centre_offset, growth = centre_width.unbind(-1)
    by_boundaries = torch.stack(
        (centre + width * (start_offset + end_offset) / 2, width + width * (end_offset - start_offset)), dim=-1
    )
    by_centre = torch.stack((centre + width * centre_offset, width * growth.exp()), dim=-1)
    return from_centre_width((by_boundaries + by_centre) / 2)


def offset_targets(segments: Tensor, true_segments: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the offsets that would move ``segments`` onto ``true_segments`` (specification, section 6).

    Args:
        segments: ``[..., 2]``.
        true_segments: ``[..., 2]``, not inverted.

    Returns:
        start, end, centre and width offset, each ``[...]``: (gt_s - s)/len, (gt_e - e)/len, their mean and
        log(gt_len/len + 1e-6). A degenerate segment gets finite values without meaning; its tIoU of 0 keeps it out of
        every offset loss.
    """
    # The floor is far below one position of any grid: it only touches degenerate segments.
    length = _length(segments).clamp(min=torch.finfo(segments.dtype).eps)
    start, end = ((true_segments - segments) / length.unsqueeze(-1)).unbind(-1)
    width = torch.log(_length(true_segments) / length + 1e-6)
    return start, end, (start + end) / 2, width


def _length(segments: Tensor) -> Tensor:
    return segments[..., 1] - segments[..., 0]


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    start = torch.maximum(a[..., 0], b[..., 0])
    end = torch.minimum(a[..., 1], b[..., 1])
    return (end - start).clamp(min=0)
