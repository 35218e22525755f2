"""BORIS: projects, tabular and aggregated exports, and sheets of events, read.

A project holds moments, not stretches: of one observation, subject, behaviour and modifier, every other moment of a
state event ends what the one before began. Times run on over the media files of a player, and the observation's time
offset is already added. An aggregated export names for each bout the media file that it lies in, and still counts its
time from the first file on.

Read in BORIS 9.12.3 (commit 73bdf077): ``boris/core.py`` (events are stored with the time offset),
``export_observation.py`` and ``db_functions.py`` (columns), ``import_observations.py``: BORIS takes events from a
project, or from a sheet (.xlsx, .ods) with the columns time, subject, code, modifier, comment, and from no CSV.
Columns of older versions: its ``tests/files`` and exports of other projects.
"""

import re
from collections.abc import Sequence

from etad.data.annotation_formats.boris_states import Observation, States, state_label
from etad.data.annotation_formats.interval import media_id, seconds
from etad.data.annotation_formats.json_values import listing, mapping
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Row, Source
from etad.errors import DataError

_MEDIA = ("media file name", "media file", "media file path", "source")
_LENGTH = ("media duration (s)", "total length")
_START = ("start (s)",)
_STATUS = ("status", "behavior type")


def recognises(source: Source) -> bool:
    if source.is_json:
        tree = source.json
        return (
            isinstance(tree, dict) and "observations" in tree and ("behaviors_conf" in tree or "subjects_conf" in tree)
        )
    return not source.is_xml and _header(source) is not None


def _header(source: Source) -> int | None:
    aggregated = source.header(["behavior"], ["start (s)"], ["stop (s)"])
    tabular = source.header(["behavior"], ["time"], _STATUS)
    events = source.header(["time"], ["subject"], ["code"])
    return next((found for found in (aggregated, tabular, events) if found is not None), None)


def read(source: Source, reading: Reading) -> None:
    if source.is_json:
        _read_project(source, reading)
        return
    header = _header(source)
    if header is None:
        raise DataError(f"{source.path}: no row of BORIS's column names; export tabular or aggregated events once more")
    names = {cell.strip().lower() for cell in source.cells[header][1]}
    if "start (s)" in names:
        _read_aggregated(source, reading, header)
    else:
        _read_moments(source, reading, header)


def _read_project(source: Source, reading: Reading) -> None:
    tree = mapping(source.json)
    kinds = {
        str(entry.get("code")): str(entry.get("type", ""))
        for entry in mapping(tree.get("behaviors_conf")).values()
        if isinstance(entry, dict)
    }
    observations = mapping(tree.get("observations"))
    if not observations:
        reading.faults.add("projects hold no observation", str(source.path), "code one in BORIS")
    for name, entry in observations.items():
        place = f"{source.path}, observation {name}"
        if not isinstance(entry, dict):
            reading.faults.add("observations are no JSON object: left out", place)
            continue
        files = mapping(entry.get("file"))
        # Players 2 to 8 show the same time from other sides.
        media = [str(file) for file in listing(files.get("1"))]
        info = mapping(entry.get("media_info"))
        lengths, rates = mapping(info.get("length")), mapping(info.get("fps"))
        observation = Observation(
            reading,
            place,
            str(name),
            media,
            [seconds(lengths.get(file)) for file in media],
            [seconds(rates.get(file)) for file in media],
            seconds(entry.get("time offset")) or 0.0,
        )
        states = States(reading, observation)
        events = [event for event in listing(entry.get("events")) if isinstance(event, list) and len(event) >= 3]
        for number, event in sorted(enumerate(events, 1), key=lambda item: seconds(item[1][0]) or 0.0):
            subject, code = str(event[1]), str(event[2])
            modifier = str(event[3]) if len(event) > 3 else ""
            status = "POINT" if kinds.get(code, "").lower().startswith("point") else ""
            states.moment(seconds(event[0]), subject, code, modifier, status, f"{place}, event {number}")
        states.close()


def _read_aggregated(source: Source, reading: Reading, header: int) -> None:
    for rows in _by_observation(source, header).values():
        observation = _observation(source, reading, header, rows)
        for row in rows:
            place = source.place(row.line)
            if row.get("behavior type").upper() == "POINT":
                reading.faults.add("point events have no length: left out", place, "code them as state events in BORIS")
                continue
            start_s, stop_s = seconds(row.get("start (s)")), seconds(row.get("stop (s)"))
            if start_s is None or stop_s is None:
                reading.faults.add("events have no time: left out", place, "correct the row")
                continue
            label = state_label(reading, row.get("behavior"), _modifiers(row), place)
            observation.add(start_s, stop_s, label, place, row.get("subject"))


def _read_moments(source: Source, reading: Reading, header: int) -> None:
    for rows in _by_observation(source, header).values():
        observation = _observation(source, reading, header, rows)
        states = States(reading, observation)
        for row in rows:
            code = row.get("behavior", "code")
            states.moment(
                seconds(row.get("time")),
                row.get("subject"),
                code,
                _modifiers(row),
                row.get(*_STATUS),
                source.place(row.line),
            )
        states.close()


def _by_observation(source: Source, header: int) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in source.table(header):
        found.setdefault(row.get("observation id"), []).append(row)
    # A table without rows still names a video above them.
    return found or {"": []}


def _observation(source: Source, reading: Reading, header: int, rows: Sequence[Row]) -> Observation:
    above = [(cells[0].strip().lower(), cells[1].strip()) for _, cells in source.cells[:header] if len(cells) > 1]
    facts = dict(above)
    first = rows[0] if rows else Row(source.cells[header][0], {})
    place = source.place(first.line)
    media = [text for key, text in above if key.startswith("player #1") and text] or _playlist(first.get("source"))
    named = list(dict.fromkeys(name for row in rows for name in _playlist(row.get(*_MEDIA))))
    if len({media_id(name) for name in media}) < len({media_id(name) for name in named}):
        media = named
    lengths = [seconds(part) for part in first.get(*_LENGTH).split(";")] if rows else []
    rates = [seconds(part) for part in first.get("fps", "fps (frame/s)").split(";")] if rows else []
    if len(lengths) != len(media):
        lengths = []
    if len(rates) == 1:
        rates *= len(media)
    name = first.get("observation id") or facts.get("observation id") or source.stem
    offset_s = seconds(first.get("time offset (s)")) or seconds(facts.get("time offset (s)")) or 0.0
    return Observation(reading, place, name, media, lengths, rates, offset_s)


def _playlist(text: str) -> list[str]:
    """Return the media files of player 1 in a cell such as ``player #1:a.mp4;b.mp4;player #2:c.mp4``."""
    players = re.split(r"player #(\d+):", text, flags=re.IGNORECASE)
    if len(players) > 1:
        text = next((files for number, files in zip(players[1::2], players[2::2], strict=True) if number == "1"), "")
    return [part.strip() for part in text.split(";") if part.strip()]


def _modifiers(row: Row) -> str:
    named = [text.strip() for name, text in row.cells.items() if name.startswith("modifier")]
    return "|".join(text for text in named if text)
