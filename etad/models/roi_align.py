"""RoIAlign along time, in several forms of the same numbers (``efficiency.roi_align``)."""

from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import roi_align

from etad.models.interpolation import dense_product, sample_segments, weighted_row_sums

Form = Literal["published", "matrix", "gather", "projected"]
"""published, matrix and gather: see :func:`roi_align_1d`. projected: see :func:`align_projected`."""

PROJECTED_FROM = 1.5
"""Proposals per position from which ``projected`` was the faster of the two: see the table of :func:`choose_form`."""


def choose_form(wanted: Form | Literal["auto"], device_type: str, proposals: int, length: int) -> Form:
    """Return the form to use; ``auto`` is the fastest.

    Speed-up over ``published`` on a CPU (one core of an AMD Zen 5; published sizes, T = 128, float32, ``linear:
    onednn``; training with batch 4, in the last column inference with batch 1):

        proposals of a video   48     96     192    495    8,256
        gather                 2.0    2.3    2.5    2.7    1.5
        matrix                 1.8    2.1    2.2    2.3    1.5
        projected              1.1    1.7    2.8    4.7    7.4

    The cost of ``projected`` grows with the positions, that of the others with the proposals. On a GPU nothing was
    measured: ``matrix`` has the least in it that is not a matrix product.

    Args:
        wanted: a form, or "auto".
        device_type: "cpu", "cuda", ...; of the device that will run it, which may not be the one that traces it.
        proposals: segments of a video.
        length: positions T.
    """
    if wanted != "auto":
        return wanted
    if device_type != "cpu":
        return "matrix"
    return "projected" if proposals > PROJECTED_FROM * length else "gather"


def roi_align_1d(
    features: Tensor, segments: Tensor, bins: int, form: Literal["published", "matrix", "gather"] = "published"
) -> Tensor:
    """Pool each segment of a sequence into ``bins`` values, as the published detector does.

    It is torchvision's RoIAlign with ``aligned=False`` on a sequence of width one: a segment counts as at least one
    position long, ``ceil(length / bins)`` linearly interpolated samples are averaged per bin, and samples outside
    [-1, T] count as zero (specification, section 3). Segments carry no gradient. Half precision is computed in float32.

    Args:
        features: ``[B, C, T]``.
        segments: ``[B, K, 2]`` start and end in normalised time; may reach beyond 0..1.
        bins: number of bins.
        form: published: torchvision's operator, whose backward pass is not deterministic on a GPU. matrix: a product
            with the matrix of interpolation weights. gather: weighted sums of the positions that a bin reads.

    Returns:
        ``[B, K, C, bins]``, in the features' dtype.
    """
    batch, channels, length = features.shape
    count = segments.shape[1]
    with torch.autocast(features.device.type, enabled=False):
        dtype = torch.promote_types(features.dtype, torch.float32)
        # A half-precision segment would be off by up to a position.
        segments = segments.detach().to(dtype).reshape(-1, 2)
        if form == "published":
            boxes = segments.new_zeros(batch * count, 5)  # [B * K, (video, x1, y1, x2, y2)]
            boxes[:, 0] = torch.arange(batch, device=segments.device).repeat_interleave(count)
            boxes[:, 2::2] = segments * length
            boxes[:, 3] = 1.0
            plane = features.to(dtype)[..., None]  # [B, C, T, 1]: time is y
            pooled = roi_align(plane, boxes, (bins, 1), sampling_ratio=0, aligned=False)  # [B * K, C, bins, 1]
            return pooled.view(batch, count, channels, bins).to(features.dtype)
        sequence = features.to(dtype).transpose(1, 2)  # [B, T, C]
        samples = sample_segments(segments, length, bins, range(bins))  # B * K * bins groups
        if form == "matrix":
            pooled = dense_product(sequence, samples, count * bins)  # [B, K * bins, C]
        else:
            row = samples.rows(_first_rows(batch, length, count * bins, segments.device), stride=1)  # [N, 2]
            table = sequence.reshape(-1, channels)  # [B * T, C]
            # Every sample reads two rows, so a bag begins at twice its first sample: [B * K * bins, C].
            pooled = weighted_row_sums(table, row.flatten(), samples.weight.flatten(), samples.first * 2)
        return pooled.view(batch, count, bins, channels).transpose(2, 3).to(features.dtype)


def align_projected(table: Tensor, segments: Tensor, bins: int, part: range) -> Tensor:
    """Pool features that a linear layer was applied to before, per bin and position.

    For a layer with weights ``W[o, c, b]`` on channels c and bins b, the sum over c and b of ``W[o, c, b]`` times the
    pooled ``[c, b]`` is the pooling of the numbers ``sum over c of W[o, c, b] * features[c, t]``. To make these takes
    no longer when there are more segments.

    Args:
        table: the projections of each position for each bin that the layer reads, ``[B, T, bins of part, outputs]``.
        segments: ``[B, K, 2]`` start and end in normalised time; may reach beyond 0..1. They get no gradient.
        bins: number of bins of a segment.
        part: the bins that the layer reads.

    Returns:
        ``[B, K, outputs]``: what the layer returns, less its bias; half precision becomes float32.
    """
    batch, length, groups, outputs = table.shape
    count = segments.shape[1]
    with torch.autocast(table.device.type, enabled=False):
        rows = table.to(torch.promote_types(table.dtype, torch.float32)).view(-1, outputs)  # [B * T * groups, outputs]
        samples = sample_segments(segments.detach().to(rows.dtype).reshape(-1, 2), length, bins, part)
        first_row = _first_rows(batch, length * groups, count, segments.device)[:, None]  # [B * K, 1]
        first_row = first_row + torch.arange(groups, device=segments.device)  # [B * K, groups]
        row = samples.rows(first_row.flatten(), stride=groups)  # [N, 2]
        # All groups of a segment make one bag, as the layer sums over its bins: [B * K, outputs].
        sums = weighted_row_sums(rows, row.flatten(), samples.weight.flatten(), samples.first[::groups] * 2)
        return sums.view(batch, count, outputs)


def _first_rows(batch: int, rows: int, count: int, device: torch.device) -> Tensor:
    """Return the first of each video's ``rows`` rows, ``count`` times for each video, ``[batch * count]``."""
    return (torch.arange(batch, device=device) * rows).repeat_interleave(count)
