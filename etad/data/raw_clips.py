"""Frames on their way to a device that crops, augments and arranges them itself: less to move, and less for the host.

A video's snippets share frames where they overlap, and a crop is smaller than its frame, so this is often the smaller
parcel, too; and augmentation, the host's costliest step after decoding, runs where the arithmetic is cheap.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from etad.data.transforms import Draw, apply


@dataclass(frozen=True)
class RawClips:
    """One video's frames, and what is to become of them.

    Attributes:
        frames: distinct frames, uint8 ``[F, 3, H, W]``.
        index: frame of every frame of every snippet, int64 ``[N, T]``.
        draw: crop and augmentation.
    """

    frames: Tensor
    index: Tensor
    draw: Draw

    def clips(self, device: torch.device) -> Tensor:
        """Return the clips uint8 ``[N, 3, T, crop, crop]``, made on ``device``."""
        frames = self.frames.to(device, non_blocking=True)
        return gather_clips(apply(frames, self.draw), self.index.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Pin the frames, so that their copy to a GPU overlaps with work."""
        return replace(self, frames=self.frames.pin_memory(), index=self.index.pin_memory())


def gather_clips(frames: Tensor, index: Tensor) -> Tensor:
    """Arrange the distinct frames of a video as snippets.

    Args:
        frames: ``[F, 3, H, W]``.
        index: frame number of every frame of every snippet, int64 ``[N, T]``.

    Returns:
        Clips ``[N, 3, T, H, W]``.
    """
    snippets, clip_frames = index.shape
    clips = frames.new_empty((snippets, frames.shape[1], clip_frames, *frames.shape[2:]))
    # One snippet at a time, because gathering all at once would hold the clips twice.
    for clip, numbers in zip(clips, index, strict=True):
        clip.copy_(frames[numbers].transpose(0, 1))
    return clips
