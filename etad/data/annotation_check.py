"""What is odd about an annotation file, the videos that it speaks of, and the snippets that it is cut into."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from etad.config import Config
from etad.data.annotation_formats.interval import Interval, differs
from etad.data.annotation_overlaps import overlapping
from etad.data.annotations import Annotations, Video
from etad.data.class_names import alike, misread_by_yaml
from etad.data.video_facts import VideoFolder

FEW = 10
"""Instances of a class, in a subset, below which they are called few."""
Severity = Literal["problem", "note"]


@dataclass(frozen=True)
class Finding:
    """Something odd.

    Attributes:
        severity: a problem spoils training or scores; a note may be meant.
        what: the kind, with what it does.
        count: how often; None where the text says.
        first: the first case.
    """

    severity: Severity
    what: str
    count: int | None = None
    first: str = ""

    def line(self) -> str:
        count = "" if self.count is None else f"{self.count} "
        return f"{self.severity}: {count}{self.what}" + (f" (first: {self.first})" if self.first else "")

    def record(self) -> dict[str, Any]:
        return asdict(self)


def check_annotations(
    annotations: Annotations, folder: VideoFolder | None = None, config: Config | None = None, few: int = FEW
) -> list[Finding]:
    """Return everything odd, problems first.

    Args:
        annotations: the file, as read; its own faults are among the findings.
        folder: the videos.
        config: the experiment, for its subsets and its snippets.
        few: instances below which a class is rare.

    Raises:
        DataError: two videos of the folder share a name.
    """
    found = [Finding("problem", text) for text in annotations.problems]
    found += _overlaps(annotations.videos)
    found += _classes(annotations.videos, config, few)
    found += _names(annotations)
    if folder is not None:
        found += _files(annotations.videos, folder)
    if config is not None:
        found += _coarse(annotations.videos, config)
    return sorted(found, key=lambda one: one.severity == "note")


def _overlaps(videos: Sequence[Video]) -> Iterator[Finding]:
    intervals = [
        Interval(video.id, action.start_s, action.end_s, action.label) for video in videos for action in video.actions
    ]
    same = list(overlapping(intervals, lambda one: (one.video_id, one.label)))
    if same:
        yield Finding("note", "actions overlap one of the same class", len(same), _pair(*same[0]))
    mixed = [pair for pair in overlapping(intervals, lambda one: one.video_id) if pair[0].label != pair[1].label]
    if mixed:
        yield Finding("note", "actions overlap one of another class", len(mixed), _pair(*mixed[0]))
    twice = [key for key, count in Counter(intervals).items() if count > 1]
    if twice:
        yield Finding("problem", "actions are listed more than once", len(twice), _shown(twice[0]))


def _pair(before: Interval, one: Interval) -> str:
    return f"{_shown(before)}, and {one.label} {one.start_s:g} to {one.end_s:g} s"


def _shown(one: Interval) -> str:
    return f"{one.video_id}: {one.label} {one.start_s:g} to {one.end_s:g} s"


def _classes(videos: Sequence[Video], config: Config | None, few: int) -> Iterator[Finding]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for video in videos:
        counts[video.subset].update(action.label for action in video.actions)
    labels = sorted({label for counter in counts.values() for label in counter})
    if not labels:
        yield Finding("problem", "there is no action at all: import the annotations once more")
        return
    training, testing = _selections(counts, config)
    for subset in [*training, *testing]:
        if subset not in counts:
            there = ", ".join(sorted(counts))
            yield Finding("problem", f"the config names subset {subset!r}, which the file lacks; it has {there}")
    if config is None and len(counts) == 1:
        yield Finding("note", f"all videos are of subset {next(iter(counts))!r}; --split of import divides them")
    for subset in sorted(counts):
        if not counts[subset]:
            yield Finding("note", f"subset {subset!r} holds no action")
    trained = _sum(counts, training)
    for subset in testing:
        unseen = [label for label in counts.get(subset, ()) if training and not trained[label]]
        if unseen:
            what = f"classes of {subset!r} do not occur in {', '.join(training)}: they cannot be learnt"
            yield Finding("problem", what, len(unseen), min(unseen))
    for subset in [name for name in sorted(counts) if counts[name]]:
        absent = [label for label in labels if not counts[subset][label]]
        rare = [label for label in labels if 0 < counts[subset][label] < few]
        if absent:
            yield Finding("note", f"classes have no instance in {subset!r}", len(absent), absent[0])
        if rare:
            first = min(rare, key=lambda label: (counts[subset][label], label))
            what = f"classes have fewer than {few} instances in {subset!r}"
            yield Finding("note", what, len(rare), f"{first}: {counts[subset][first]}")


def _selections(counts: dict[str, Counter[str]], config: Config | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the subsets to train on and those to test on; without a config by their usual names."""
    if config is not None:
        if config.data.folds and config.data.fold is None:
            # Every fold is tested on in its turn, after training on all others.
            return (), config.data.folds
        return config.data.train_selection, config.data.test_selection
    known: Callable[[str], bool] = lambda name: name.lower().startswith("train")  # noqa: E731
    training = tuple(name for name in counts if known(name))
    return training, tuple(name for name in counts if training and not known(name))


def _sum(counts: dict[str, Counter[str]], subsets: Sequence[str]) -> Counter[str]:
    total: Counter[str] = Counter()
    for subset in subsets:
        total.update(counts.get(subset, {}))
    return total


def _names(annotations: Annotations) -> Iterator[Finding]:
    pairs = list(alike(annotations.classes))
    if pairs:
        yield Finding("note", "pairs of class names are nearly the same", len(pairs), " and ".join(map(repr, pairs[0])))
    odd = misread_by_yaml(annotations.classes)
    if odd:
        what = "classes are no text to YAML: put their names in quotes in a config"
        yield Finding("note", what, len(odd), repr(odd[0]))


def _files(videos: Sequence[Video], folder: VideoFolder) -> Iterator[Finding]:
    absent, unreadable, different = [], [], []
    used = set()
    for video in videos:
        file = folder.file_of(video.id)
        facts = folder.facts_of(video.id)
        used.add(file)
        if file is None:
            absent.append(video.id)
        elif facts is None or facts.duration_s is None:
            unreadable.append(folder.unreadable.get(video.id, video.id))
        elif differs(video.duration_s, facts.duration_s):
            different.append(f"{video.id}: {video.duration_s:.2f} s, its file {facts.duration_s:.2f} s")
    if absent:
        yield Finding("problem", f"videos have no file in {folder.folder}", len(absent), absent[0])
    if unreadable:
        yield Finding("problem", "videos cannot be opened", len(unreadable), unreadable[0])
    if different:
        yield Finding("problem", "durations differ from the file's", len(different), different[0])
    spare = [path.name for path in folder.files if path not in used]
    if spare:
        yield Finding("note", f"files in {folder.folder} have no annotations", len(spare), spare[0])


def _coarse(videos: Sequence[Video], config: Config) -> Iterator[Finding]:
    data = config.data
    wanted = {*data.folds, *data.train_selection, *data.test_selection}
    short, steps, total = [], [], 0
    for video in videos:
        step_s = _step_s(video, config)
        if video.subset not in wanted or step_s is None:
            continue
        for action in video.clipped_actions():
            total += 1
            length_s = action.end_s - action.start_s
            if length_s < step_s:
                short.append(f"{video.id}: {action.label} of {length_s:.2f} s, a snippet every {step_s:.2f} s")
                steps.append(step_s / length_s)
    if short:
        what = (
            f"of {total} actions are shorter than the distance of two snippets, half of these by a factor of "
            f"{median(steps):.1f} and more: raise data.length, or use data.window"
        )
        yield Finding("note", what, len(short), short[0])


def _step_s(video: Video, config: Config) -> float | None:
    """Return the seconds from one position of the detector to the next; None where nothing tells it."""
    data = config.data
    if data.window is None:
        return video.duration_s / data.length
    fps = data.fps or video.fps
    return data.stride_frames / fps if data.stride_frames is not None and fps else None
