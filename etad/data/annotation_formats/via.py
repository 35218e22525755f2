"""VGG Image Annotator 3: projects (JSON) and CSV exports of temporal segments.

A project's ``metadata`` entry has the times in ``z``: two of them make a segment, one a frame, none the whole file. Its
``av`` maps attribute ids to text or to the ids of options, which the table ``attribute`` names.

Read in projects and readers of others: VIA's own template of a project, and extractors of clips from its CSV: a comment
``# CSV_HEADER = ...``, cells that hold JSON, and one column of ``temporal_coordinates`` or two,
``temporal_segment_start`` and ``temporal_segment_end``.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping

from etad.data.annotation_formats.interval import seconds
from etad.data.annotation_formats.json_values import listing, mapping, text
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.errors import DataError, nearest


def recognises(source: Source) -> bool:
    if source.is_json:
        tree = source.json
        return isinstance(tree, dict) and {"metadata", "attribute", "file"} <= tree.keys()
    return not source.is_xml and _csv_header(source) is not None


def read(source: Source, reading: Reading) -> None:
    if source.is_json:
        _read_project(source, reading)
    else:
        _read_csv(source, reading)


def _read_project(source: Source, reading: Reading) -> None:
    tree = mapping(source.json)
    attributes, files, views = (mapping(tree.get(key)) for key in ("attribute", "file", "view"))
    ids = {}
    for number, entry in files.items():
        if isinstance(entry, dict):
            ids[str(number)] = reading.video(
                text(entry.get("fname")) or text(entry.get("src")), f"{source.path}, file {number}"
            )
    found = []
    for key, entry in mapping(tree.get("metadata")).items():
        place = f"{source.path}, metadata {key}"
        times = entry.get("z") if isinstance(entry, dict) else None
        if not isinstance(times, list) or len(times) != 2:
            reading.faults.add("entries are no stretch of time (a frame, a region, a whole file): left out", place)
            continue
        view = mapping(views.get(str(entry.get("vid"))))
        listed = listing(view.get("fid_list")) or [entry.get("vid")]
        video_id = ids.get(str(listed[0]))
        if video_id is None:
            reading.faults.add("segments belong to no file of the project: left out", place, "add the file in VIA")
            continue
        values = {}
        for number, value in mapping(entry.get("av")).items():
            attribute = mapping(attributes.get(str(number)))
            options = mapping(attribute.get("options"))
            chosen = [str(value)] if str(value) in options or not options else str(value).split(",")
            values[str(attribute.get("aname", number))] = [str(options.get(part, part)) for part in chosen]
        found.append((video_id, seconds(times[0]), seconds(times[1]), values, place))
    _add(found, source, reading)


def _csv_header(source: Source) -> tuple[int, list[str]] | None:
    """Return the line of the header, from 0, and its columns."""
    for index, line in enumerate(source.text.splitlines()[:40]):
        bare = line.lstrip("#").strip()
        names = bare.partition("=")[2] if bare.startswith("CSV_HEADER") else bare
        columns = [name.strip().strip('"').lower() for name in names.split(",")]
        if "metadata" in columns and {"temporal_coordinates", "temporal_segment_start"} & set(columns):
            return index, columns
    return None


def _read_csv(source: Source, reading: Reading) -> None:
    header = _csv_header(source)
    if header is None:
        raise DataError(f"{source.path}: no CSV_HEADER of VIA with metadata and times; export it from VIA 3 once more")
    index, columns = header
    lines = source.text.splitlines()
    found = []
    # VIA doubles quotes within cells in some versions, and puts a backslash before them in others.
    for offset, line in enumerate(lines[index + 1 :], index + 2):
        if not line.strip() or line.startswith("#"):
            continue
        place = source.place(offset)
        escape = "\\" if '\\"' in line else None
        cells = dict(zip(columns, next(csv.reader(io.StringIO(line), escapechar=escape)), strict=False))
        try:
            times = json.loads(cells.get("temporal_coordinates") or "null")
            values = json.loads(cells.get("metadata") or "{}")
            named = cells.get("file_list", "")
            files = json.loads(named) if named.startswith("[") else [named]
        except (ValueError, RecursionError):
            reading.faults.add(
                "rows hold no JSON where VIA writes it: left out", place, "export them from VIA once more"
            )
            continue
        if times is None:
            times = [cells.get("temporal_segment_start"), cells.get("temporal_segment_end")]
        if not isinstance(times, list) or len(times) != 2 or not isinstance(values, dict) or not files:
            reading.faults.add("entries are no stretch of time (a frame, a region, a whole file): left out", place)
            continue
        video_id = reading.video(str(files[0]) or source.stem, place)
        chosen = {str(key): [str(value)] for key, value in values.items()}
        found.append((video_id, seconds(times[0]), seconds(times[1]), chosen, place))
    _add(found, source, reading)


def _add(
    found: Iterable[tuple[str, float | None, float | None, Mapping[str, list[str]], str]],
    source: Source,
    reading: Reading,
) -> None:
    found = list(found)
    name = chosen_field([values.keys() for *_, values, _ in found], reading, str(source.path), "attribute")
    for video_id, start_s, end_s, values, place in found:
        for label in values.get(name) or [""]:
            reading.add(video_id, start_s, end_s, label, place)


def chosen_field(found: Iterable[Iterable[str]], reading: Reading, source: str, kind: str) -> str:
    """Return which of several fields names the class: the only one, or that of ``--label``; "" where there is none.

    Raises:
        DataError: there are several and none was chosen, or the chosen one does not occur.
    """
    names = list(dict.fromkeys(name for names in found for name in names))
    wanted = reading.options.label
    if wanted is not None and names and wanted not in names:
        raise DataError(f"{source}: no {kind} {wanted!r}; {nearest(wanted, names)}")
    if wanted is None and len(names) > 1:
        raise DataError(
            f"{source}: {len(names)} {kind}s could name the class ({', '.join(names)}); choose one with --label NAME"
        )
    return wanted or (names[0] if names else "")
