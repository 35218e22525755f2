"""What the data side hands to the model: samples, and batches of them."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One view of a video: the whole video, or one window of it.

    Attributes:
        video_id: id in the annotation file (or file stem where there is none).
        index: position in the data set; names the sample's random streams.
        start_s, duration_s: the view's place in the video, seconds. Normalised time 0..1 spans the view.
        input_: uint8 frames ``[N, 3, T, H, W]`` or float32 features ``[C, N]``.
        segments: true actions in normalised time, float32 ``[G, 2]``, clipped to 0..1.
        labels: class numbers, int64 ``[G]``.
    """

    video_id: str
    index: int
    start_s: float
    duration_s: float
    input_: Tensor
    segments: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Batch:
    """Samples stacked along a new first dimension; true actions stay lists, since their number varies."""

    video_ids: tuple[str, ...]
    indices: tuple[int, ...]
    starts_s: tuple[float, ...]
    durations_s: tuple[float, ...]
    input_: Tensor
    segments: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]

    @classmethod
    def collate(cls, samples: list[Sample]) -> Self:
        """Stack samples. Shapes of ``input_`` must agree."""
        return cls(
            video_ids=tuple(sample.video_id for sample in samples),
            indices=tuple(sample.index for sample in samples),
            starts_s=tuple(sample.start_s for sample in samples),
            durations_s=tuple(sample.duration_s for sample in samples),
            input_=torch.stack([sample.input_ for sample in samples]),
            segments=tuple(sample.segments for sample in samples),
            labels=tuple(sample.labels for sample in samples),
        )

    def __len__(self) -> int:
        return len(self.video_ids)

    def to(self, device: torch.device) -> Self:
        """Return the batch with every tensor on ``device``."""
        return replace(
            self,
            input_=self.input_.to(device, non_blocking=True),
            segments=tuple(tensor.to(device) for tensor in self.segments),
            labels=tuple(tensor.to(device) for tensor in self.labels),
        )

    def pin_memory(self) -> Self:
        """Pin the input, so that the copy to a GPU overlaps with work. Called by ``DataLoader(pin_memory=True)``."""
        return replace(self, input_=self.input_.pin_memory())
