"""Annotation files: who did what from when to when.

One JSON form covers ActivityNet, HACS Segments, THUMOS-14 as ActionFormer distributes it, and whatever follows them::

    {"database": {ID: {"subset": ..., "duration": seconds, "fps": optional,
                       "annotations": [{"segment": [start, end], "label": ...}]}}}

Further keys are ignored. Published files are dirty, and published scores were computed on them as they are. So an
action that merely lies badly (past the end of its video, of no length, ends before it starts) is kept, because
evaluation must count it; training uses ``Video.clipped_actions``. Evaluation does not look at durations either: a video
without one is scored, and only training and inference do without it. An entry that makes no sense at all is left out.
All this is told in ``Annotations.problems``.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from etad.config import DataConfig
from etad.errors import DataError, NothingToDoError, nearest
from etad.files import read_json

AMBIGUOUS = "Ambiguous"
"""What THUMOS-14 calls stretches that count neither for nor against a detector; its 20 classes are the others."""

LEAST_UNLIKELY_LABEL = 10**9
"""A whole number from here on is no label, and too long a one cannot even be printed."""


@dataclass(frozen=True)
class Action:
    """One labelled stretch of a video, in seconds from its beginning; some files have ends before starts."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class Video:
    """One video of an annotation file. ``fps`` is None where the file does not give it, and ``duration_s`` is 0."""

    id: str
    subset: str
    duration_s: float
    fps: float | None
    actions: tuple[Action, ...]

    def clipped_actions(self) -> tuple[Action, ...]:
        """Return the actions cut to 0..``duration_s``; those of which nothing is left are dropped."""
        clipped = (
            Action(max(action.start_s, 0.0), min(action.end_s, self.duration_s), action.label)
            for action in self.actions
        )
        return tuple(action for action in clipped if action.end_s > action.start_s)

    def longest_fraction(self) -> float:
        """Return the length of the longest clipped action as a part of the video, 0 where there is none."""
        lengths = (action.end_s - action.start_s for action in self.clipped_actions())
        return max(lengths, default=0.0) / self.duration_s if self.duration_s else 0.0


@dataclass(frozen=True)
class Annotations:
    """An annotation file.

    Attributes:
        path: the file.
        videos: in the order of the file.
        classes: the labels that occur, sorted.
        problems: one line for each kind of fault in the file: how often, where first, what was done.
        blocked: ids that an experiment leaves out, with or without a leading ``v_``.
        listed: names of the classes where an experiment gives them; None: they are the labels of its training subsets.
    """

    path: Path
    videos: tuple[Video, ...]
    classes: tuple[str, ...]
    problems: tuple[str, ...]
    blocked: frozenset[str] = frozenset()
    listed: tuple[str, ...] | None = None

    def classes_of(self, subsets: Collection[str]) -> tuple[str, ...]:
        """Return the labels that occur in ``subsets``, sorted."""
        return _labels(video for video in self.videos if video.subset in subsets)

    def trained_classes(self, data: DataConfig) -> tuple[str, ...]:
        """Return the classes that a network is trained for; class numbers index them.

        Neither a test subset nor one that nobody uses adds to them: a hidden test set has no labels, and another one
        may have more.
        """
        return self.classes_of(data.train_selection) if self.listed is None else self.listed

    def untrained(self, data: DataConfig, trained: Collection[str]) -> tuple[str, ...]:
        """Return the labels of the test subsets that are not among the ``trained`` ones, sorted."""
        return tuple(label for label in self.classes_of(data.test_selection) if label not in set(trained))

    def untrained_lines(self, data: DataConfig, trained: Collection[str]) -> tuple[str, ...]:
        """Return the line that tells of labels that only the test subsets have; none where there are no such labels.

        Args:
            data: of the experiment.
            trained: the classes that a network is trained for; empty: not known, and nothing is said.
        """
        labels = self.untrained(data, trained) if trained else ()
        if not labels:
            return ()
        videos = [video for video in self.videos if video.subset in data.test_selection]
        count = sum(action.label in labels for video in videos for action in video.actions)
        return (
            f"{len(labels)} classes of the test set are none of the {len(trained)} trained for (first: {labels[0]}): "
            f"their {count} actions count in mAP, as missed where nothing else finds them",
        )

    def select(self, subsets: Collection[str], blocked: Collection[str] = ()) -> list[Video]:
        """Return the videos of ``subsets`` that are not blocked, in the order of the file.

        Args:
            subsets: names as the file writes them.
            blocked: ids to leave out, with or without a leading ``v_``.

        Raises:
            NothingToDoError: the file lacks one of the subsets, or every video is blocked.
        """
        present = Counter(video.subset for video in self.videos)
        for subset in subsets:
            if subset not in present:
                raise NothingToDoError(
                    f"{self.path}: no video in subset {subset!r}; the file has {', '.join(sorted(present)) or 'none'}"
                )
        chosen = [video for video in self.videos if video.subset in subsets]
        kept = [video for video in chosen if not _is_blocked(video.id, blocked)]
        if not kept:
            raise NothingToDoError(f"{self.path}: all {len(chosen)} videos of {', '.join(subsets)} are blocked")
        return kept


def load_annotations(path: Path, classes: Collection[str] | None = None, ignored: Collection[str] = ()) -> Annotations:
    """Read an annotation file, plain or gzipped (``.gz``).

    Args:
        path: the file.
        classes: the labels to accept; an action of any other is left out. None: all.
        ignored: the labels whose actions are left out (``data.ignored_classes``).

    Raises:
        DataError: the file cannot be read, is not JSON or is cut off, or holds no usable video.
    """
    document = read_json(path, _json_object)
    database = document.get("database") if isinstance(document, dict) else None
    if not isinstance(database, _Object):
        raise DataError(f'{path}: no "database" of videos; expected the ActivityNet form (id, subset, duration, ...)')
    faults = _Faults(frozenset(ignored))
    for video_id in database.repeated:
        faults.add("videos are listed more than once", video_id, "the last entry counts")
    parsed = (_video(video_id, entry, classes, faults) for video_id, entry in database.items())
    videos = tuple(video for video in parsed if video is not None)
    if not videos:
        raise DataError("; ".join([f"{path}: no usable video", *faults.lines()]))
    lines = [*faults.lines(), *_unused(path, ignored, {*_labels(videos), *faults.ignored_found})]
    if AMBIGUOUS in (labels := _labels(videos)):
        lines.append(
            f"{path}: {AMBIGUOUS} counts as a class; where it marks what nobody can tell, as in THUMOS-14, "
            f"set data.ignored_classes=[{AMBIGUOUS}]"
        )
    return Annotations(path, videos, labels, tuple(lines))


def annotations_of(data: DataConfig) -> Annotations:
    """Read the annotation file of an experiment and its list of blocked ids. A command does so once, and hands it on.

    Raises:
        DataError: as :func:`load_annotations`, :func:`load_blocked` and :func:`load_classes`.
    """
    read = load_annotations(data.path(data.annotations), ignored=data.ignored_classes)
    return replace(read, blocked=load_blocked(data), listed=load_classes(data))


def load_blocked(data: DataConfig) -> frozenset[str]:
    """Return the ids that training and evaluation leave out, as ``data.blocked`` lists them or the JSON file it names.

    Raises:
        DataError: the file cannot be read or is not a JSON list of ids.
    """
    if not isinstance(data.blocked, Path):
        return frozenset(data.blocked)
    path = data.path(data.blocked)
    ids = read_json(path)
    if not isinstance(ids, list) or not all(isinstance(entry, str) for entry in ids):
        raise DataError(f"{path}: must be a JSON list of video ids")
    return frozenset(ids)


def load_classes(data: DataConfig) -> tuple[str, ...] | None:
    """Return the class names that ``data.classes`` lists, or the text file it names; None where it is not set.

    Raises:
        DataError: the file cannot be read, or the list is empty or has a name twice.
    """
    if data.classes is None:
        return None
    if isinstance(data.classes, Path):
        path = data.path(data.classes)
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "not a text file in UTF-8"
            raise DataError(
                f"{path}: cannot be read ({reason}); data.classes is a file of one class name a line"
            ) from None
        names, source = tuple(line.strip() for line in lines if line.strip()), str(path)
    else:
        names, source = data.classes, "data.classes"
    if not names:
        raise DataError(f"{source}: holds no class name")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{source}: has the class {repeated[0]!r} more than once")
    return names


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its keys the file gave more than once."""

    repeated: tuple[str, ...] = ()


class _Faults:
    """Counts faults by kind, so that a thousand alike make one line; and knows the labels to leave out."""

    def __init__(self, ignored: frozenset[str]) -> None:
        self._found: dict[tuple[str, str], list[str]] = {}
        self.ignored = ignored
        self.ignored_found: set[str] = set()

    def add(self, what: str, video_id: str, done: str) -> None:
        self._found.setdefault((what, done), []).append(video_id)

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{len(ids)} {what} (first: {ids[0]}): {done}" for (what, done), ids in self._found.items())


def _json_object(pairs: list[tuple[str, Any]]) -> _Object:
    result = _Object(pairs)
    if len(result) < len(pairs):
        result.repeated = tuple(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
    return result


def _video(video_id: str, entry: Any, classes: Collection[str] | None, faults: _Faults) -> Video | None:
    left_out = "left out"
    if not isinstance(entry, dict):
        faults.add("videos are not JSON objects", video_id, left_out)
        return None
    subset, duration_s = entry.get("subset"), _number(entry.get("duration"))
    if not isinstance(subset, str):
        faults.add("videos have no subset", video_id, left_out)
        return None
    # The published evaluator looks at segments only, so these count there.
    if duration_s is None:
        faults.add("videos have no duration, or one that is not a number", video_id, "scored, but left out elsewhere")
        duration_s = 0.0
    elif duration_s <= 0:
        faults.add("videos have a duration of zero or less", video_id, "scored, but left out elsewhere")
        duration_s = 0.0
    fps = _number(entry.get("fps"))
    if "fps" in entry and (fps is None or fps <= 0):
        faults.add("videos have an unusable fps", video_id, "taken as not given")
        fps = None
    listed = entry.get("annotations")
    if not isinstance(listed, list):
        faults.add("videos have no list of annotations", video_id, "taken as without actions")
        listed = []
    parsed = (_action(video_id, duration_s, item, classes, faults) for item in listed)
    return Video(video_id, subset, duration_s, fps, tuple(action for action in parsed if action is not None))


def _action(
    video_id: str, duration_s: float, item: Any, classes: Collection[str] | None, faults: _Faults
) -> Action | None:
    left_out, untrained = "left out", "kept for evaluation, not trained on"
    clipped = "kept for evaluation, clipped to the video for training"
    segment, label = (item.get("segment"), _label(item.get("label"))) if isinstance(item, dict) else (None, None)
    if label is None:
        faults.add("actions have no label", video_id, left_out)
        return None
    if label in faults.ignored:
        faults.ignored_found.add(label)
        faults.add(f"actions are of the class {label!r}", video_id, "left out, as data.ignored_classes says")
        return None
    if classes is not None and label not in classes:
        faults.add("actions have a label that is not among the classes", video_id, left_out)
        return None
    numbers = [_number(value) for value in segment] if isinstance(segment, list) else []
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        faults.add("actions have no segment of two numbers", video_id, left_out)
        return None
    start_s, end_s = numbers[0], numbers[1]
    if end_s < start_s:
        # As published: it counts, and overlaps with nothing.
        faults.add("actions end before they start", video_id, "kept for evaluation, which misses them; not trained on")
        return Action(start_s, end_s, label)
    if start_s < 0:
        faults.add("actions start before their video", video_id, clipped)
    if duration_s and start_s >= duration_s:
        faults.add("actions start after the end of their video", video_id, untrained)
    elif duration_s and end_s > duration_s:
        faults.add("actions end after the end of their video", video_id, clipped)
    if end_s == start_s:
        faults.add("actions have no length", video_id, untrained)
    return Action(start_s, end_s, label)


def _label(value: Any) -> str | None:
    """Return a label, which some files write as a whole number; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:d}" if abs(value) < LEAST_UNLIKELY_LABEL else None
    return value if isinstance(value, str) else None


def _unused(path: Path, ignored: Collection[str], labels: Collection[str]) -> Iterator[str]:
    for name in ignored:
        # A file without them is in order; a misspelt one is not.
        if name not in labels and (hint := nearest(name, labels, otherwise="")):
            yield f"{path}: data.ignored_classes names {name!r}, which is no class of it; {hint}"


def _number(value: Any) -> float | None:
    """Return a finite number, which some files write as a string; None for anything else, NaN and infinity included."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _labels(videos: Iterable[Video]) -> tuple[str, ...]:
    return tuple(sorted({action.label for video in videos for action in video.actions}))


def _is_blocked(video_id: str, blocked: Collection[str]) -> bool:
    return not {video_id, f"v_{video_id}", video_id.removeprefix("v_")}.isdisjoint(blocked)
