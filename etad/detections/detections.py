"""What a network says of a video, raw and as detections. All arrays are numpy."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

AGNOSTIC_CLASSES = ("action",)
"""The classes of ``postprocess.classes: agnostic``."""


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one video.

    Attributes:
        segments_s: start and end, seconds, float64 ``[n, 2]``. The published clipping to the video can leave an end
            before its start; such a segment overlaps with nothing.
        scores: float64 ``[n]``.
        labels: class numbers, int64 ``[n]``.
    """

    segments_s: FloatArray
    scores: FloatArray
    labels: IntArray

    @classmethod
    def empty(cls) -> Self:
        """Return no detections."""
        return cls(np.zeros((0, 2)), np.zeros(0), np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class RawDetections:
    """What the network says about one view: the whole video, or one window of it. K proposals, T positions.

    Attributes:
        segments: refined proposals, ``[K, 2]``, in the view's normalised time 0..1 (they may reach outside).
        scores: ``[K]``, iou[0] * iou[1] after averaging over the stages.
        start, end: boundary probabilities, ``[T]``.
        snippet_classes: class probabilities of each position, ``[T, classes]``, or None without a snippet classifier.
        start_s, duration_s: the view's place in the video, seconds.
    """

    segments: NDArray[np.floating]
    scores: NDArray[np.floating]
    start: NDArray[np.floating]
    end: NDArray[np.floating]
    snippet_classes: NDArray[np.floating] | None
    start_s: float
    duration_s: float

    def segments_in_seconds(self) -> FloatArray:
        """Return ``segments`` as seconds of the video, ``[K, 2]``."""
        return self.start_s + self.segments.astype(np.float64) * self.duration_s

    def is_finite(self) -> bool:
        """Say whether no output is NaN or infinite."""
        outputs = (self.segments, self.scores, self.start, self.end, self.snippet_classes)
        return all(np.isfinite(output).all() for output in outputs if output is not None)
