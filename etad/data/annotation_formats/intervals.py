"""Tables of intervals, a row each, whatever the columns are called; and the same as JSON (CreateML).

A name says the unit: ``start_ms``, ``end_frame``; else times are seconds or hh:mm:ss, unless ``--time-unit`` says
otherwise. Comments begin with ``#``. A row with a video and nothing else is a video without actions. CreateML:
developer.apple.com/documentation/createml/building-an-action-classifier-data-source (video, label, start, end).
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from etad.data.annotation_formats.interval import Interval, VideoFacts, seconds
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Row, Source
from etad.errors import DataError

_VIDEO = (
    *("video_id", "video", "videoid", "video_name", "video name", "video_uid", "file_name", "filename", "file"),
    *("media", "media file", "path", "clip", "clip_id", "youtube_id", "id", "observation id"),
)
_LABEL = (
    *("label", "labelid", "class", "class_name", "classname", "action", "activity", "behavior", "behaviour"),
    *("category", "event", "code", "name", "annotation", "tag"),
)
_START = (
    "start",
    "start_time",
    "starttime",
    "t_start",
    "t-start",
    "begin",
    "onset",
    "from",
    "timestamp",
    "start_timestamp",
    "tmin",
)
_END = (
    "end",
    "end_time",
    "endtime",
    "t_end",
    "t-end",
    "stop",
    "stop_time",
    "to",
    "endtimestamp",
    "stop_timestamp",
    "end_timestamp",
    "tmax",
)
_LENGTH = ("duration", "length", "dur")
_UNITS = {
    "s": ("", "_s", "_sec", "_secs", "_seconds", " (s)", " (sec)", " (seconds)", " [s]", "_time_s"),
    "ms": ("_ms", " (ms)", " [ms]", "_msec", "_milliseconds"),
    "frames": ("_frame", "_frames", " frame", " (frame)", " (frames)"),
}
_FRAME_FIRST = ("frame_start", "frame_begin"), ("frame_end", "frame_stop")
COLUMNS = ("video_id", "start_s", "end_s", "label", "subject", "score", "subset", "video_duration_s", "fps")


@dataclass(frozen=True)
class _Columns:
    """Which columns hold what; ``length`` where the table gives a duration instead of an end."""

    label: str
    start: str
    end: str | None
    length: str | None
    unit: str | None
    video: str | None


def _timed(names: Iterable[str], stems: Iterable[str]) -> tuple[str, str] | None:
    """Return the column and its unit."""
    there = set(names)
    for unit, endings in _UNITS.items():
        for stem in stems:
            for ending in endings:
                if f"{stem}{ending}" in there:
                    return f"{stem}{ending}", unit
    return None


def _columns(names: list[str], wanted: str | None) -> _Columns | None:
    start, end, length = _timed(names, _START), _timed(names, _END), _timed(names, _LENGTH)
    for found, other in [_FRAME_FIRST]:
        first, last = ({*names} & {*found}), ({*names} & {*other})
        if start is None and first and last:
            start, end = (first.pop(), "frames"), (last.pop(), "frames")
    label = wanted.lower() if wanted and wanted.lower() in names else next((n for n in _LABEL if n in names), None)
    if start is None or (end is None and length is None) or label is None:
        return None
    video = next((name for name in _VIDEO if name in names and name != label), None)
    named = start[1] if start[0] not in _START else None
    return _Columns(label, start[0], end[0] if end else None, length[0] if length else None, named, video)


def _found(source: Source, wanted: str | None = None) -> tuple[int, _Columns] | None:
    for index, (_, row) in enumerate(source.cells[:30]):
        columns = _columns([cell.strip().lstrip("#").strip().lower() for cell in row], wanted)
        if columns is not None:
            return index, columns
    return None


def recognises(source: Source) -> bool:
    if source.is_json:
        tree = source.json
        return isinstance(tree, list) and bool(tree) and isinstance(tree[0], dict) and _json_columns(tree) is not None
    return not source.is_xml and _found(source) is not None


def _json_columns(tree: list[Mapping[str, object]]) -> _Columns | None:
    return _columns([str(key).lower() for key in tree[0]], None)


def read(source: Source, reading: Reading) -> None:
    if source.is_json:
        _read_json(source, reading)
        return
    found = _found(source, reading.options.label)
    if found is None:
        header = source.cells[0][1] if source.cells else []
        raise DataError(
            f"{source.path}: no header that names start, end and label (it begins {', '.join(header)[:80]!r}); "
            "name the columns video_id, start_s, end_s, label"
        )
    index, columns = found
    wanted = reading.options.label
    if wanted is not None and columns.label != wanted.lower():
        raise DataError(f"{source.path}: no column {wanted!r} for --label; {', '.join(source.cells[index][1])}")
    for row in source.table(index):
        _row(row, columns, source, reading, source.place(row.line))


def _read_json(source: Source, reading: Reading) -> None:
    tree = source.json if isinstance(source.json, list) and source.json and isinstance(source.json[0], dict) else None
    columns = _json_columns(tree) if tree is not None else None
    if tree is None or columns is None:
        raise DataError(f"{source.path}: no list of objects with video, label, start and end")
    for number, entry in enumerate(tree, 1):
        place = f"{source.path}, entry {number}"
        if not isinstance(entry, dict):
            reading.faults.add("entries are no JSON objects: left out", place)
            continue
        cells = {str(key).lower(): "" if value is None else str(value) for key, value in entry.items()}
        _row(Row(number, cells), columns, source, reading, place)


def _row(row: Row, columns: _Columns, source: Source, reading: Reading, place: str) -> None:
    named = row.get(columns.video) if columns.video else source.stem
    if not named:
        reading.faults.add("rows name no video: left out", place, "fill in the column " + str(columns.video))
        return
    video_id = reading.video(
        named,
        place,
        seconds(row.get("video_duration_s", "video_duration")),
        seconds(row.get("fps")),
        row.get("subset", "split") or None,
        is_id=columns.video is None,
    )
    start, end = row.get(columns.start), row.get(columns.end) if columns.end else ""
    length = row.get(columns.length) if columns.length and not columns.end else ""
    label = row.get(columns.label)
    if not (start or end or length or label):
        return
    unit = columns.unit or reading.options.time_unit or "s"
    per_second = {"s": 1.0, "ms": 1000.0}.get(unit) or reading.fps_of(video_id, place)
    start_s, end_s = _time(start, per_second), _time(end, per_second)
    if length and start_s is not None:
        length_s = _time(length, per_second)
        end_s = None if length_s is None else start_s + length_s
    score = seconds(row.get("score", "confidence"))
    reading.add(video_id, start_s, end_s, label, place, subject=row.get("subject"), tier=row.get("tier"), score=score)


def _time(text: str, per_second: float) -> float | None:
    value = seconds(text)
    return None if value is None else value / per_second


def write(intervals: Iterable[Interval], videos: Mapping[str, VideoFacts]) -> str:
    """Return intervals as CSV; a video without any has a row of its own. Columns without any value are left out."""
    listed = list(intervals)
    without = videos.keys() - {interval.video_id for interval in listed}
    rows: list[dict[str, object]] = [
        {
            "video_id": interval.video_id,
            "start_s": repr(interval.start_s),
            "end_s": repr(interval.end_s),
            "label": interval.label,
            "subject": interval.subject,
            "score": interval.score,
        }
        for interval in listed
    ]
    rows += [{"video_id": video_id} for video_id in videos if video_id in without]
    for row in rows:
        facts = videos.get(str(row["video_id"]))
        if facts is not None:
            row |= {"subset": facts.subset, "video_duration_s": facts.duration_s, "fps": facts.fps}
    needed = COLUMNS[:4]
    used = [name for name in COLUMNS if name in needed or any(row.get(name) not in (None, "") for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, used, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
