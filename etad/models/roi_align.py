"""RoIAlign along time."""

import torch
from torch import Tensor
from torchvision.ops import roi_align


def roi_align_1d(features: Tensor, segments: Tensor, bins: int) -> Tensor:
    """Pool each segment of a sequence into ``bins`` values, as the published detector does.

    It is torchvision's RoIAlign with ``aligned=False`` on a sequence of width one: a segment counts as at least one
    position long, ``ceil(length / bins)`` linearly interpolated samples are averaged per bin, and samples outside
    [-1, T] count as zero (etad-spec section 3). Segments carry no gradient.

    Args:
        features: ``[B, C, T]``.
        segments: ``[B, K, 2]`` start and end in normalised time; may reach beyond 0..1.
        bins: number of bins.

    Returns:
        ``[B, K, C, bins]``, in the features' dtype.
    """
    batch, channels, length = features.shape
    count = segments.shape[1]
    boxes = segments.new_zeros(batch * count, 5)
    boxes[:, 0] = torch.arange(batch, device=segments.device).repeat_interleave(count)
    boxes[:, 2::2] = segments.detach().reshape(-1, 2) * length
    boxes[:, 3] = 1.0
    pooled = roi_align(features[..., None], boxes.to(features.dtype), (bins, 1), sampling_ratio=0, aligned=False)
    return pooled.view(batch, count, channels, bins)
