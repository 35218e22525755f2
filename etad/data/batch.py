"""What the data side hands to the model: samples, and batches of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from etad.data.raw_clips import RawClips


@dataclass(frozen=True)
class Sample:
    """One view of a video: the whole video, or one window of it.

    Attributes:
        video_id: id in the annotation file (or file stem where there is none).
        index: position in the data set; names the sample's random streams.
        start_s, duration_s: the view's place in the video, seconds. Normalised time 0..1 spans the view.
        input_: uint8 frames ``[N, 3, T, H, W]``, float32 features ``[C, N]``, or frames for the device to augment.
        segments: true actions in normalised time, float32 ``[G, 2]``, clipped to 0..1.
        labels: class numbers, int64 ``[G]``.
    """

    video_id: str
    index: int
    start_s: float
    duration_s: float
    input_: Tensor | RawClips
    segments: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Batch:
    """Samples stacked along a new first dimension; true actions stay lists, since their number varies.

    Of ``raw``, one a sample, ``to`` makes ``input_``, which is empty before.
    """

    video_ids: tuple[str, ...]
    indices: tuple[int, ...]
    starts_s: tuple[float, ...]
    durations_s: tuple[float, ...]
    input_: Tensor
    segments: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    raw: tuple[RawClips, ...] = ()

    @classmethod
    def collate(cls, samples: list[Sample]) -> Self:
        """Stack samples. Shapes of ``input_`` must agree."""
        inputs = [sample.input_ for sample in samples if isinstance(sample.input_, Tensor)]
        return cls(
            video_ids=tuple(sample.video_id for sample in samples),
            indices=tuple(sample.index for sample in samples),
            starts_s=tuple(sample.start_s for sample in samples),
            durations_s=tuple(sample.duration_s for sample in samples),
            input_=torch.stack(inputs) if inputs else torch.empty(0, dtype=torch.uint8),
            segments=tuple(sample.segments for sample in samples),
            labels=tuple(sample.labels for sample in samples),
            raw=tuple(sample.input_ for sample in samples if isinstance(sample.input_, RawClips)),
        )

    def __len__(self) -> int:
        return len(self.video_ids)

    def to(self, device: torch.device, with_input: bool = True) -> Self:
        """Return the batch with every tensor on ``device``, raw frames made into clips there.

        Unless ``with_input``, the input stays where it is, and clips are made there.
        """
        input_ = self.input_.to(device, non_blocking=True) if with_input else self.input_
        if self.raw:
            input_ = torch.stack([one.clips(device if with_input else one.frames.device) for one in self.raw])
        return replace(
            self,
            input_=input_,
            segments=tuple(tensor.to(device) for tensor in self.segments),
            labels=tuple(tensor.to(device) for tensor in self.labels),
            raw=(),
        )

    def pin_memory(self) -> Self:
        """Pin the input, so that the copy to a GPU overlaps with work. Called by ``DataLoader(pin_memory=True)``."""
        return replace(self, input_=self.input_.pin_memory(), raw=tuple(one.pin_memory() for one in self.raw))


def ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches on a CUDA ``device``, each sent off before the one in front of it is handed out.

    Copies overlap with the step where the batch is pinned. One batch more than without lies on the device.
    """
    side = torch.cuda.Stream(device)
    waiting: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(side):
            sent = batch.to(device)
        if waiting is not None:
            yield _arrived(waiting, side, device)
        waiting = sent
    if waiting is not None:
        yield _arrived(waiting, side, device)


def _arrived(batch: Batch, side: torch.cuda.Stream, device: torch.device) -> Batch:
    """Make the training stream wait for the copy, and keep the memory until that stream has done with it."""
    current = torch.cuda.current_stream(device)
    current.wait_stream(side)
    for tensor in (batch.input_, *batch.segments, *batch.labels):
        tensor.record_stream(current)
    return batch
