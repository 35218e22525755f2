"""ActivityNet's JSON, which HACS Segments, FineAction and the THUMOS-14 of ActionFormer share; read and written.

``{"database": {id: {"subset", "duration", "fps", "annotations": [{"segment": [start, end], "label"}]}}}``; further keys
are ignored. It is the form that :mod:`etad.data.annotations` describes and trains from.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from etad.data.annotation_formats.interval import Interval, VideoFacts, seconds
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.errors import DataError


def recognises(source: Source) -> bool:
    tree = source.json
    return isinstance(tree, dict) and isinstance(tree.get("database"), dict)


def read(source: Source, reading: Reading) -> None:
    if not recognises(source):
        raise DataError(f'{source.path}: no "database" of videos; expected the ActivityNet form')
    for name, entry in source.json["database"].items():
        place = f"{source.path}, video {name}"
        if not isinstance(entry, dict):
            reading.faults.add("videos are no JSON objects: left out", place)
            continue
        subset = entry.get("subset")
        video_id = reading.video(
            name,
            place,
            seconds(entry.get("duration")),
            seconds(entry.get("fps")),
            subset if isinstance(subset, str) else None,
            is_id=True,
        )
        listed = entry.get("annotations")
        for number, action in enumerate(listed if isinstance(listed, list) else [], 1):
            where = f"{place}, action {number}"
            segment = action.get("segment") if isinstance(action, dict) else None
            if not isinstance(segment, list) or len(segment) != 2:
                reading.faults.add("actions have no segment of two numbers: left out", where)
                continue
            label, subject = action.get("label"), action.get("subject")
            reading.add(
                video_id,
                seconds(segment[0]),
                seconds(segment[1]),
                label,
                where,
                subject=subject if isinstance(subject, str) else "",
                score=seconds(action.get("score")),
            )


def write(intervals: Iterable[Interval], videos: Mapping[str, VideoFacts]) -> dict[str, Any]:
    """Return the database, ready for JSON. Videos keep their order, and the actions of each are sorted by time.

    What is not known of a video (``duration``, ``fps``, ``subset``) is left out.
    """
    actions: dict[str, list[dict[str, Any]]] = {video_id: [] for video_id in videos}
    for interval in sorted(intervals, key=lambda one: (one.start_s, one.end_s)):
        action: dict[str, Any] = {"segment": [interval.start_s, interval.end_s], "label": interval.label}
        if interval.subject:
            action["subject"] = interval.subject
        if interval.score is not None:
            action["score"] = interval.score
        actions.setdefault(interval.video_id, []).append(action)
    database = {}
    for video_id, listed in actions.items():
        facts = videos.get(video_id, VideoFacts(video_id))
        entry: dict[str, Any] = {"subset": facts.subset, "duration": facts.duration_s, "fps": facts.fps}
        database[video_id] = {key: value for key, value in entry.items() if value is not None} | {"annotations": listed}
    return {"version": "etad-bench", "database": database}
