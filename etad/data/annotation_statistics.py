"""Counts and durations of an annotation file, by class and by subset."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from etad.data.annotations import Annotations, Video


@dataclass(frozen=True)
class ClassStatistics:
    """One class, or all of them.

    Attributes:
        label: the class.
        videos: in which it occurs.
        actions: its instances, with a length or without.
        by_subset: instances in each subset.
        durations_s: of those that have a length within their video, sorted.
    """

    label: str
    videos: int
    actions: int
    by_subset: dict[str, int]
    durations_s: tuple[float, ...]

    @property
    def total_s(self) -> float:
        return sum(self.durations_s)

    @property
    def median_s(self) -> float | None:
        return median(self.durations_s) if self.durations_s else None

    def record(self) -> dict[str, Any]:
        tree = asdict(self)
        tree.pop("durations_s")
        ends = (self.durations_s[0], self.durations_s[-1]) if self.durations_s else (None, None)
        return tree | {"total_s": self.total_s, "shortest_s": ends[0], "median_s": self.median_s, "longest_s": ends[1]}


@dataclass(frozen=True)
class SubsetStatistics:
    """One subset: its videos, those without any action, their length, and the part of it that is labelled.

    Where actions overlap, the time counts once.
    """

    subset: str
    videos: int
    without_actions: int
    actions: int
    duration_s: float
    labelled_s: float


@dataclass(frozen=True)
class Statistics:
    """An annotation file: by class, most frequent first; all classes together; by subset."""

    classes: tuple[ClassStatistics, ...]
    all: ClassStatistics
    subsets: tuple[SubsetStatistics, ...]

    def record(self) -> dict[str, Any]:
        return {
            "classes": [one.record() for one in self.classes],
            "all": self.all.record(),
            "subsets": [asdict(one) for one in self.subsets],
        }


def statistics_of(annotations: Annotations) -> Statistics:
    """Count."""
    subsets = sorted({video.subset for video in annotations.videos})
    classes = [_class(label, annotations.videos, subsets) for label in annotations.classes]
    classes.sort(key=lambda one: (-one.actions, one.label))
    everything = _class(None, annotations.videos, subsets)
    return Statistics(tuple(classes), everything, tuple(_subset(name, annotations.videos) for name in subsets))


def _class(label: str | None, videos: Sequence[Video], subsets: Sequence[str]) -> ClassStatistics:
    counts: Counter[str] = Counter()
    holding = 0
    durations: list[float] = []
    for video in videos:
        number = sum(label in (None, action.label) for action in video.actions)
        holding += number > 0
        counts[video.subset] += number
        durations += [a.end_s - a.start_s for a in video.clipped_actions() if label in (None, a.label)]
    by_subset = {subset: counts[subset] for subset in subsets}
    return ClassStatistics(label or "all", holding, sum(counts.values()), by_subset, tuple(sorted(durations)))


def _subset(name: str, videos: Sequence[Video]) -> SubsetStatistics:
    there = [video for video in videos if video.subset == name]
    return SubsetStatistics(
        name,
        len(there),
        sum(not video.actions for video in there),
        sum(len(video.actions) for video in there),
        sum(video.duration_s for video in there),
        sum(_labelled_s(video) for video in there),
    )


def _labelled_s(video: Video) -> float:
    total, reached = 0.0, 0.0
    for action in sorted(video.clipped_actions(), key=lambda one: one.start_s):
        total += max(action.end_s - max(action.start_s, reached), 0.0)
        reached = max(reached, action.end_s)
    return total
