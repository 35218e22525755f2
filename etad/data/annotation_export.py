"""From annotations, or from a detector's predictions, to files of the tools in which a person can look and correct."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from etad.data.annotation_formats import activitynet, boris_writing, elan, intervals, webvtt
from etad.data.annotation_formats.interval import Interval, VideoFacts, media_id, seconds
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.data.video_facts import VideoFolder
from etad.errors import DataError, NothingToDoError
from etad.files import write_text

PREDICTED = "predicted"
"""Subset of videos of which only predictions are known."""


@dataclass(frozen=True)
class Labelled:
    """Labelled stretches of videos, with what is known of the videos.

    Attributes:
        path: the file.
        intervals: annotations, or detections with their scores.
        videos: id -> facts, of every video of the file.
        problems: a line for each kind of fault.
    """

    path: Path
    intervals: tuple[Interval, ...]
    videos: dict[str, VideoFacts]
    problems: tuple[str, ...]


def read_labelled(path: Path) -> Labelled:
    """Read an annotation file of ours, or a submission; which it is stands in the file.

    Raises:
        DataError: it is neither, or cannot be read.
    """
    source = Source(path)
    reading = Reading()
    if activitynet.recognises(source):
        activitynet.read(source, reading)
    elif isinstance(source.json, dict) and isinstance(source.json.get("results"), dict):
        _read_submission(source, reading)
    else:
        raise DataError(
            f"{path}: holds neither a database of annotations nor results of a detector; import other formats first "
            "(etad-bench annotations import)"
        )
    return Labelled(path, tuple(reading.intervals), reading.videos, tuple(reading.faults.lines()))


def _read_submission(source: Source, reading: Reading) -> None:
    for name, detections in source.json["results"].items():
        place = f"{source.path}, video {name}"
        video_id = reading.video(name, place, subset=PREDICTED, is_id=True)
        for number, entry in enumerate(detections if isinstance(detections, list) else [], 1):
            where = f"{place}, detection {number}"
            segment = entry.get("segment") if isinstance(entry, dict) else None
            if not isinstance(segment, list) or len(segment) != 2:
                reading.faults.add("detections have no segment of two numbers: left out", where)
                continue
            score = seconds(entry.get("score"))
            if score is None:
                reading.faults.add("detections have no score: left out", where)
                continue
            reading.add(video_id, seconds(segment[0]), seconds(segment[1]), entry.get("label"), where, score=score)


def select(
    labelled: Labelled,
    subsets: Collection[str] = (),
    ids: Collection[str] = (),
    min_score: float | None = None,
    top: int | None = None,
) -> Labelled:
    """Return what was chosen.

    Args:
        labelled: from :func:`read_labelled`.
        subsets: the only ones to take; none: all.
        ids: the only videos to take; none: all.
        min_score: the least score of a detection. Annotations, which have none, stay.
        top: how many detections of a video to take, those of the highest scores.

    Raises:
        NothingToDoError: no video is left.
    """
    videos = {
        key: facts
        for key, facts in labelled.videos.items()
        if (not subsets or facts.subset in subsets) and (not ids or key in ids)
    }
    unknown = [one for one in ids if one not in labelled.videos]
    if unknown or not videos:
        there = ", ".join(sorted({facts.subset or "none" for facts in labelled.videos.values()}))
        what = f"there is no video {unknown[0]!r}" if unknown else f"no video of the chosen subsets; it has {there}"
        raise NothingToDoError(f"{labelled.path}: {what}")
    kept = [one for one in labelled.intervals if one.video_id in videos]
    if min_score is not None:
        kept = [one for one in kept if one.score is None or one.score >= min_score]
    if top is not None:
        counts: dict[str, int] = dict.fromkeys(videos, 0)
        best = []
        for one in sorted(kept, key=lambda one: -(one.score if one.score is not None else float("inf"))):
            counts[one.video_id] += one.score is not None
            if one.score is None or counts[one.video_id] <= top:
                best.append(one)
        kept = best
    kept.sort(key=lambda one: (one.video_id, one.start_s, one.end_s))
    return replace(labelled, intervals=tuple(kept), videos=videos)


def with_files(labelled: Labelled, folder: VideoFolder) -> Labelled:
    """Return the same with the files, lengths and frame rates of the videos in a folder.

    Raises:
        DataError: two videos of the folder share a name.
    """
    videos = {}
    for video_id, facts in labelled.videos.items():
        measured = folder.facts_of(video_id)
        if measured is not None and measured.file is not None:
            # Tools look for a relative path where their own file lies.
            facts = replace(measured, file=str(Path(measured.file).absolute())).merged(facts)
        videos[video_id] = facts
    return replace(labelled, videos=videos)


def _file(facts: VideoFacts) -> VideoFacts:
    """Name a media file, which tools want: the id itself is one if nothing is cut off it when it is read again."""
    if facts.file is not None:
        return facts
    return replace(facts, file=facts.id if media_id(facts.id) == facts.id else f"{facts.id}.mp4")


Texts = dict[str, str]
"""Names of files and what they hold; a single one may be named by the user."""


def _for_each(labelled: Labelled, suffix: str, write: Callable[[list[Interval], VideoFacts], str]) -> Texts:
    found: dict[str, list[Interval]] = {video_id: [] for video_id in labelled.videos}
    for one in labelled.intervals:
        found[one.video_id].append(one)
    return {
        f"{video_id.replace('/', '%2F')}{suffix}": write(found[video_id], _file(facts))
        for video_id, facts in labelled.videos.items()
    }


def _activitynet(labelled: Labelled) -> dict[str, Any]:
    """Give every video the subset and the duration that the form asks for."""
    ends: dict[str, float] = {}
    for one in labelled.intervals:
        ends[one.video_id] = max(ends.get(one.video_id, 0.0), one.end_s)
    videos = {
        key: replace(facts, subset=facts.subset or PREDICTED, duration_s=facts.duration_s or ends.get(key))
        for key, facts in labelled.videos.items()
    }
    return activitynet.write(labelled.intervals, videos)


def _boris(labelled: Labelled) -> dict[str, Any]:
    return boris_writing.write_project(
        labelled.intervals, {key: _file(facts) for key, facts in labelled.videos.items()}
    )


SINGLE: Mapping[str, tuple[str, Callable[[Labelled], str]]] = {
    "intervals": (".csv", lambda labelled: intervals.write(labelled.intervals, labelled.videos)),
    "activitynet": (".json", lambda labelled: json.dumps(_activitynet(labelled), indent=1) + "\n"),
    "boris": (".boris", lambda labelled: json.dumps(_boris(labelled), indent=1) + "\n"),
}
"""Formats that are one file: its ending, and how it is made."""

FOLDERS: Mapping[str, Callable[[Labelled], Texts]] = {
    "boris-events": lambda labelled: _for_each(labelled, ".csv", lambda found, _: boris_writing.write_events(found)),
    "elan": lambda labelled: _for_each(labelled, ".eaf", elan.write),
    "webvtt": lambda labelled: _for_each(labelled, ".vtt", lambda found, _: webvtt.write(found)),
}
"""Formats that are a file for each video, in a folder."""


def export(labelled: Labelled, form: str, output: Path) -> list[Path]:
    """Write a format, each file atomically, and return the files.

    Raises:
        DataError: ``output`` is a file where a folder is wanted, or the other way round.
    """
    if form in SINGLE:
        if output.is_dir():
            raise DataError(f"{output}: is a folder; {form} is one file, e.g. -o {output / 'export'}{SINGLE[form][0]}")
        write_text(output, SINGLE[form][1](labelled))
        return [output]
    if output.is_file():
        raise DataError(f"{output}: is a file; {form} is a file for each video, so name a folder")
    written = []
    for name, text in FOLDERS[form](labelled).items():
        write_text(output / name, text)
        written.append(output / name)
    return written
