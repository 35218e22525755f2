"""Views of a video: the whole of it, or windows that slide over its feature steps."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from etad.data.annotations import Action


def windows(steps: int, length: int, overlap: float) -> list[int]:
    """Return the first steps of the windows that cover a video.

    The last window ends with the video, so it may overlap its neighbour by more than ``overlap``. A video shorter than
    a window gets one, which ``cut`` pads.

    Args:
        steps: feature steps of the video, at least 1.
        length: feature steps of a window.
        overlap: part of a window that the next one repeats, 0 to below 1.
    """
    if steps <= length:
        return [0]
    stride = max(1, round(length * (1 - overlap)))
    last = steps - length
    return [*range(0, last, stride), last]


def cut(features: Tensor, length: int) -> Tensor:
    """Return the first ``length`` steps of ``[C, T]``, followed by zeros where there are fewer: ``[C, length]``."""
    return functional.pad(features[:, :length], (0, max(0, length - features.shape[1])))


def actions_in_view(
    actions: Iterable[Action], start_s: float, duration_s: float, min_inside: float = 0.0
) -> list[Action]:
    """Return the actions of a view, cut to it, in its normalised time 0..1.

    Args:
        actions: in seconds of the video.
        start_s: where the view begins.
        duration_s: how long it is, above 0.
        min_inside: an action counts when at least this part of it lies inside. One that does not overlap the view, or
            has no length, never counts.
    """
    end_s = start_s + duration_s
    found = []
    for action in actions:
        first, last = max(action.start_s, start_s), min(action.end_s, end_s)
        if last > first and last - first >= min_inside * (action.end_s - action.start_s):
            # Rounding can push the quotient a hair above 1.
            found.append(Action((first - start_s) / duration_s, min((last - start_s) / duration_s, 1.0), action.label))
    return found


def targets(actions: Sequence[Action], classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return actions as tensors: segments float32 ``[G, 2]`` and class numbers int64 ``[G]``.

    Raises:
        ValueError: a label is not among ``classes``.
    """
    segments = torch.tensor([(action.start_s, action.end_s) for action in actions], dtype=torch.float32)
    labels = torch.tensor([classes.index(action.label) for action in actions], dtype=torch.int64)
    return segments.reshape(-1, 2), labels
