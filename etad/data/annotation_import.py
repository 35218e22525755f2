"""From the files of a labelling tool, or of a data set, to the annotations that a detector is trained from.

Nothing is dropped silently: what is left out, and what is odd, is counted and told with file, row and remedy.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from etad.data.annotation_formats import activitynet
from etad.data.annotation_formats.interval import Interval, VideoFacts, differs
from etad.data.annotation_formats.reading import Reading, ReadOptions
from etad.data.annotation_formats.registry import FORMATS, Format, formats_of, read_as
from etad.data.annotation_formats.source import Source
from etad.data.annotation_oddities import (
    refuse_other_units,
    refuse_two_of_one_name,
    tell_oddities,
    tell_tiers,
    without_duplicates,
)
from etad.data.annotation_split import TRAINING, split_videos
from etad.data.video_facts import VideoFolder
from etad.errors import ConfigError, DataError, NothingToDoError, UserError, one_line

BACKGROUND = ("background", "Background", "BG", "bg", "SIL")
"""Names that data sets give to what is no action."""


@dataclass(frozen=True)
class ImportOptions:
    """What to read, and what to make of it.

    Attributes:
        format: name of a format; "auto" tells it by what the files hold.
        read: what the files do not say themselves.
        videos: folder of the videos, for their lengths and frame rates.
        tiers, subjects: the only ones to take; none: all.
        background: labels that are no class.
        subset: of videos whose files name none.
        split: part of the videos to train on, where they are to be divided.
        seed: of the division.
    """

    format: str = "auto"
    read: ReadOptions = field(default_factory=ReadOptions)
    videos: Path | None = None
    tiers: Collection[str] = ()
    subjects: Collection[str] = ()
    background: Collection[str] = BACKGROUND
    subset: str = TRAINING
    split: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Imported:
    """What became of it.

    Attributes:
        format: that the files are in.
        intervals: sorted by video and time.
        videos: id -> facts, each with subset and duration.
        problems: a line for each kind of fault.
    """

    format: str
    intervals: tuple[Interval, ...]
    videos: dict[str, VideoFacts]
    problems: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({interval.label for interval in self.intervals}))

    def database(self) -> dict[str, Any]:
        """Return the annotations in the ActivityNet form, ready for JSON."""
        return activitynet.write(self.intervals, self.videos)


def named_files(words: Sequence[str]) -> list[tuple[Path, str | None]]:
    """Return the files that ``FILE`` or ``SUBSET=FILE`` name; a folder stands for the files in it.

    Raises:
        DataError: there is no such file.
        NothingToDoError: a folder is empty.
    """
    found: list[tuple[Path, str | None]] = []
    for word in words:
        path, subset = Path(word), None
        if not path.exists() and "=" in word:
            subset, _, rest = word.partition("=")
            path = Path(rest)
        if path.is_dir():
            inside = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
            if not inside:
                raise NothingToDoError(f"{path}: holds no file")
            found += [(one, subset) for one in inside]
        elif path.exists():
            found.append((path, subset))
        else:
            raise DataError(f"{path}: no such file or folder")
    return found


def import_annotations(files: Sequence[tuple[Path, str | None]], options: ImportOptions) -> Imported:
    """Read annotation files.

    Args:
        files: with the subset that each is of; None: what the file says, or ``options.subset``.
        options: what to read, and what to make of it.

    Raises:
        DataError: a file cannot be read, its format is unknown, the files are of several formats, frames are counted
            and the frame rate is unknown, times are evidently in another unit, or two videos share a name.
        ConfigError: the options contradict the files.
        NothingToDoError: no video is left, or a part of the split is empty.
    """
    try:
        return _imported(files, options)
    except UserError as error:
        # Names and labels of the files stand in the messages, whatever they hold.
        raise type(error)(one_line(str(error))) from None


def _imported(files: Sequence[tuple[Path, str | None]], options: ImportOptions) -> Imported:
    folder = None if options.videos is None else VideoFolder(options.videos)
    read = options.read if folder is None else replace(options.read, facts_of=folder.facts_of)
    sources = [(Source(path), subset) for path, subset in files]
    found = _format(sources, options.format)
    unit = read.time_unit
    if unit == "frames" and found.name != "intervals":
        raise ConfigError(f"--time-unit frames is for tables of intervals; {found.name} files say what they count")
    reading = Reading(read)
    for source, subset in sources:
        before = set(reading.videos)
        read_as(found, source, reading)
        if subset is not None:
            _name_subset(reading, source, subset, before)
    if unit == "ms" and found.name != "intervals":
        reading.intervals = [
            replace(one, start_s=one.start_s / 1000, end_s=one.end_s / 1000) for one in reading.intervals
        ]
    refuse_two_of_one_name(reading, folder)
    intervals = _chosen(reading, options)
    videos = _with_durations(reading, intervals, folder)
    refuse_other_units(intervals, videos)
    intervals = without_duplicates(intervals, reading)
    tell_oddities(intervals, videos, reading)
    if not videos:
        raise NothingToDoError("; ".join([f"{files[0][0]}: no usable video", *reading.faults.lines()]))
    order = {video_id: number for number, video_id in enumerate(videos)}
    intervals = sorted(
        (one for one in intervals if one.video_id in order),
        key=lambda one: (order[one.video_id], one.start_s, one.end_s),
    )
    videos = _with_subsets(videos, intervals, options, reading)
    return Imported(found.name, tuple(intervals), videos, tuple(reading.faults.lines()))


def _format(sources: Sequence[tuple[Source, str | None]], name: str) -> Format:
    if not sources:
        raise NothingToDoError("no file was named")
    return formats_of([source for source, _ in sources]) if name == "auto" else FORMATS[name]


def _name_subset(reading: Reading, source: Source, subset: str, before: Collection[str]) -> None:
    for video_id, facts in reading.videos.items():
        if video_id not in before:
            reading.videos[video_id] = replace(facts, subset=subset)
        elif facts.subset not in (None, subset) and any(
            one.video_id == video_id and one.place.startswith(str(source.path)) for one in reading.intervals
        ):
            reading.faults.add(
                "videos are named in the files of two subsets: the first counts",
                f"{source.path}, {video_id}",
                "name each video in the files of one subset",
            )


def _chosen(reading: Reading, options: ImportOptions) -> list[Interval]:
    """Return the intervals of the wanted tiers and subjects that are no background."""
    kept = reading.intervals
    choices: tuple[tuple[str, Collection[str], Callable[[Interval], str]], ...] = (
        ("tier", options.tiers, lambda one: one.tier),
        ("subject", options.subjects, lambda one: one.subject),
    )
    for name, wanted, of in choices:
        if not wanted:
            continue
        there = sorted({of(one) for one in kept})
        missing = [one for one in wanted if one not in there]
        if missing and kept:
            listed = ", ".join(one or "(none)" for one in there[:20])
            raise NothingToDoError(f"--{name} {missing[0]}: there is no such {name}; there are: {listed}")
        for one in kept:
            if of(one) not in wanted:
                reading.faults.add(f"actions are of another {name}: left out (--{name})", one.place)
        kept = [one for one in kept if of(one) in wanted]
    if not options.tiers:
        tell_tiers(kept, reading)
    for one in kept:
        if one.label in options.background:
            reading.faults.add(
                f"stretches are {one.label!r}, which is no action: left out", one.place, "--background '' keeps them"
            )
    return [one for one in kept if one.label not in options.background]


def _with_durations(
    reading: Reading, intervals: Sequence[Interval], folder: VideoFolder | None
) -> dict[str, VideoFacts]:
    ends: dict[str, float] = {}
    for one in intervals:
        ends[one.video_id] = max(ends.get(one.video_id, 0.0), one.end_s)
    result = {}
    for video_id, facts in reading.videos.items():
        measured = None if folder is None else folder.facts_of(video_id)
        if folder is not None and measured is None:
            why = folder.unreadable.get(video_id)
            what = "videos cannot be opened" if why else f"videos have no file in {folder.folder}"
            reading.faults.add(what, why or video_id, "" if why else "give the file the name of the id")
        if measured is not None and measured.duration_s is not None:
            stated = facts.duration_s
            if stated is not None and differs(stated, measured.duration_s):
                reading.faults.add(
                    "durations differ from the video's, which was taken",
                    f"{video_id}: {stated:.2f} s stated, {measured.duration_s:.2f} s measured",
                    "check that it is the video that was labelled",
                )
            facts = replace(facts, duration_s=measured.duration_s, fps=facts.fps or measured.fps, file=measured.file)
        if facts.duration_s is None and ends.get(video_id, 0.0) > 0:
            reading.faults.add(
                "videos have no duration in the files: the end of their last action is taken",
                video_id,
                "--videos FOLDER measures them",
            )
            facts = replace(facts, duration_s=ends[video_id])
        elif facts.duration_s is None:
            reading.faults.add(
                "videos have neither a duration nor actions: left out", video_id, "--videos FOLDER measures them"
            )
            continue
        result[video_id] = facts
    return result


def _with_subsets(
    videos: dict[str, VideoFacts], intervals: Sequence[Interval], options: ImportOptions, reading: Reading
) -> dict[str, VideoFacts]:
    if options.split is None:
        return {key: replace(facts, subset=facts.subset or options.subset) for key, facts in videos.items()}
    for video_id, facts in videos.items():
        if facts.subset is not None:
            reading.faults.add(
                "videos have a subset in the files, which --split replaces",
                f"{video_id}: {facts.subset}",
                "leave --split out to keep it",
            )
    classes: dict[str, set[str]] = {video_id: set() for video_id in videos}
    for one in intervals:
        classes[one.video_id].add(one.label)
    subsets = split_videos(classes, options.split, options.seed)
    return {video_id: replace(facts, subset=subsets[video_id]) for video_id, facts in videos.items()}
