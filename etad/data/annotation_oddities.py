"""What is odd about annotations that were read: told where it can be kept, refused where it cannot be meant."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from etad.data.annotation_formats.interval import Interval, VideoFacts
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_overlaps import overlapping
from etad.data.video_facts import VideoFolder
from etad.errors import DataError


def refuse_two_of_one_name(reading: Reading, folder: VideoFolder | None) -> None:
    """Refuse media files that differ and would bear one id, unless the folder of videos settles which is meant.

    Raises:
        DataError: there are such files.
    """
    for video_id, names in reading.files.items():
        if folder is not None and folder.file_of(video_id) is not None:
            continue
        longest, *others = sorted(names, key=len, reverse=True)
        for other in others:
            # A bare name may be that of the same file.
            if not _as_posix(longest).endswith(f"/{_as_posix(other)}"):
                raise DataError(
                    f"{names[other]}: two videos are called {video_id}: {longest} and {other}; rename one, or, if they "
                    "are one and the same, give --videos FOLDER with it"
                )


def _as_posix(name: str) -> str:
    return str(PurePosixPath(name.replace("\\", "/")))


def tell_tiers(intervals: Sequence[Interval], reading: Reading) -> None:
    """Count the videos whose intervals come from several tiers."""
    tiers: dict[str, dict[str, Interval]] = {}
    for one in intervals:
        tiers.setdefault(one.video_id, {}).setdefault(one.tier, one)
    for found in tiers.values():
        if len(found) > 1:
            names = ", ".join(list(found)[:8])
            reading.faults.add(
                "videos have several tiers, observations or annotators: all are taken",
                f"{next(iter(found.values())).place}: {names}",
                "--tier NAME takes one",
            )


def refuse_other_units(intervals: Sequence[Interval], videos: Mapping[str, VideoFacts]) -> None:
    """Refuse actions that mostly lie far beyond their videos' ends, where another unit would explain it.

    A video whose duration was made up from its last action has none beyond its end, and tells nothing.

    Raises:
        DataError: they do; the message names the unit.
    """
    known = [(one, videos[one.video_id]) for one in intervals if one.video_id in videos]
    ratios = [one.end_s / (facts.duration_s or one.end_s or 1.0) for one, facts in known]
    far = [number for number, ratio in enumerate(ratios) if ratio > 10]
    if not far or 2 * len(far) < len(ratios):
        return
    first, facts = known[far[0]]
    most, fps = max(ratios), facts.fps or 0.0
    unit = "frames" if most <= 1.05 * fps else "ms" if most <= 1050 else None
    if unit is None or (unit == "ms" and most <= 1.05 * max(fps, 61.0)):
        return
    word = "frames" if unit == "frames" else "milliseconds"
    raise DataError(
        f"{first.place}: {len(far)} of {len(ratios)} actions lie far beyond the end of their video (here "
        f"{first.end_s:g} of {facts.duration_s:g} s), and within it if times are {word}; give --time-unit {unit}"
    )


def without_duplicates(intervals: Sequence[Interval], reading: Reading) -> list[Interval]:
    """Return the intervals without those that repeat an earlier one's video, times and class."""
    seen = set()
    kept = []
    for one in intervals:
        key = (one.video_id, one.start_s, one.end_s, one.label)
        if key in seen:
            reading.faults.add("actions are listed twice, with the same times and class: the first counts", one.place)
        else:
            seen.add(key)
            kept.append(one)
    return kept


def tell_oddities(intervals: Sequence[Interval], videos: Mapping[str, VideoFacts], reading: Reading) -> None:
    """Count what training will not use as it is, and what overlaps."""
    for one in intervals:
        facts = videos.get(one.video_id)
        if facts is not None and facts.duration_s is not None and one.end_s > facts.duration_s + 1e-6:
            reading.faults.add(
                "actions end after the end of their video: kept; training cuts them off", one.place, "check the times"
            )
        if one.start_s < 0:
            reading.faults.add(
                "actions start before their video: kept; training cuts them off", one.place, "check the times"
            )
        if one.end_s == one.start_s:
            reading.faults.add("actions have no length: kept; training leaves them out", one.place, "check the times")
    for _, one in overlapping(intervals, lambda one: (one.video_id, one.label, one.subject)):
        reading.faults.add("actions of one class and subject overlap: kept", one.place, "check their times in the tool")
    for before, one in overlapping(intervals, lambda one: (one.video_id, one.subject) if one.subject else None):
        if one.label != before.label:
            reading.faults.add(
                "states of one subject overlap: kept, as actions that may happen at once",
                f"{one.place}: {one.label} during {before.label}",
                "check them in the tool if they exclude each other",
            )
