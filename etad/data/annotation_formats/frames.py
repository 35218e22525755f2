"""A label for every frame: text files, 0/1 tables, and FERAL's JSON.

- a line a frame, the class alone: 50 Salads, GTEA and Breakfast as MS-TCN distributes them (``groundTruth``);
- ``1-30 SIL``: first and last frame, both counted in, from 1: Breakfast's coarse segmentation;
- a table with a column a class, 0 or 1 in each frame, ``,background,scratch,groom``: DeepEthogram;
- a table with the columns Time and Behaviour, a row a frame: Solomon Coder, read by simba;
- JSON ``{class_names, is_multilabel, labels: {video: [class, or 0/1 of each class, of each frame]}, splits}``: FERAL.

Read in yabufarha/ms-tcn ``batch_gen.py`` (commit 4e70d31), jbohnslav/deepethogram ``docs/file_structure.md`` (6815242),
sgoldenlab/simba ``solomon_importer.py`` (0378be8) and files of Skovorp/feral (dc363d1). The video is named by the file.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from etad.data.annotation_formats.interval import seconds
from etad.data.annotation_formats.json_values import mapping
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.runs import read_runs
from etad.data.annotation_formats.source import Source
from etad.errors import DataError

_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)\s+(\S.*)")


def recognises(source: Source) -> bool:
    if source.is_json:
        tree = source.json
        return isinstance(tree, dict) and isinstance(tree.get("labels"), dict) and "class_names" in tree
    if source.is_xml:
        return False
    return _is_solomon(source) or _is_one_hot(source) or _is_ranges(source) or _is_lines(source)


def read(source: Source, reading: Reading) -> None:
    if source.is_json:
        _read_feral(source, reading)
    elif source.is_xml:
        raise DataError(f"{source.path}: XML is no label a frame; leave --from out to have its format found")
    elif _is_solomon(source):
        _read_solomon(source, reading)
    elif _is_one_hot(source):
        _read_one_hot(source, reading)
    elif _is_ranges(source):
        _read_ranges(source, reading)
    else:
        labels = [(line,) for _, line in source.lines]
        read_runs(reading, source.stem, labels, str(source.path), is_id=True)


def _is_lines(source: Source) -> bool:
    """Whether every line is one word, and neighbours are mostly the same: a list of names is no such file."""
    words = [line for _, line in source.lines]
    if len(words) < 2 or any(re.search(r"[\s,;]", word) for word in words):
        return False
    changes = sum(one != other for one, other in pairwise(words))
    return 2 * (changes + 1) <= len(words)


def _is_ranges(source: Source) -> bool:
    return all(_RANGE.fullmatch(line) for _, line in source.lines)


def _is_one_hot(source: Source) -> bool:
    cells = source.cells
    if len(cells) < 2 or len(cells[0][1]) < 2 or cells[0][1][0].strip().lower() not in ("", "frame"):
        return False
    return all(set(_values(row)) <= {"0", "1", "-1"} for _, row in cells[1:] if row)


def _values(row: Sequence[str]) -> list[str]:
    return [cell.strip().removesuffix(".0") for cell in row[1:]]


def _is_solomon(source: Source) -> bool:
    return source.header(["time"], ["behaviour"]) == 0 and source.header(["end"]) is None


def _read_one_hot(source: Source, reading: Reading) -> None:
    names = [name.strip() for name in source.cells[0][1][1:]]
    frames, unlabelled = [], 0
    for _, row in source.cells[1:]:
        if row:
            values = _values(row)
            unlabelled += "-1" in values
            frames.append(tuple(name for name, value in zip(names, values, strict=False) if value == "1"))
    if unlabelled:
        place = str(source.path)
        reading.faults.add("frames are not labelled yet (-1): taken as without action", place, "", unlabelled)
    # DeepEthogram's files are called VIDEO_labels.csv.
    read_runs(reading, source.stem.removesuffix("_labels"), frames, str(source.path), is_id=True)


def _read_ranges(source: Source, reading: Reading) -> None:
    video_id = reading.video(source.stem, str(source.path), is_id=True)
    last = 0.0
    for number, line in source.lines:
        match = _RANGE.fullmatch(line)
        first, end = (None, None) if match is None else (seconds(match[1]), seconds(match[2]))
        if match is None or first is None or end is None:
            reading.faults.add("rows are no FIRST-LAST CLASS: left out", source.place(number), "correct the row")
            continue
        fps = reading.fps_of(video_id, source.place(number))
        last = max(last, end)
        stop = end if end >= first else end - 1
        reading.add(video_id, (first - 1) / fps, stop / fps, match[3], source.place(number))
    if last:
        fps = reading.fps_of(video_id, str(source.path))
        reading.video(video_id, str(source.path), duration_s=last / fps, fps=fps, is_id=True)


def _read_solomon(source: Source, reading: Reading) -> None:
    """Rows carry their time; a state lasts until the first row without it."""
    rows = list(source.table(0))
    video_id = reading.video(source.stem, str(source.path), is_id=True)
    times = [seconds(row.get("time")) for row in rows]
    steps = [b - a for a, b in pairwise(times) if a is not None and b is not None and b > a]
    step = sorted(steps)[len(steps) // 2] if steps else 0.0
    began: dict[str, tuple[float, str]] = {}
    before = 0.0
    for row, time in zip(rows, times, strict=True):
        if time is None:
            reading.faults.add("rows have no time: left out", source.place(row.line), "correct the row")
            continue
        # Several states at once stand in one cell, parted by a comma, or in further columns.
        cells = [text for name, text in row.cells.items() if name.startswith("behaviour")]
        present = {part.strip() for cell in cells for part in cell.split(",") if part.strip()}
        for label in [label for label in began if label not in present]:
            start, place = began.pop(label)
            reading.add(video_id, start, time, label, place)
        for label in present:
            began.setdefault(label, (time, source.place(row.line)))
        before = time
    for label, (start, place) in began.items():
        reading.add(video_id, start, before + step, label, place)
    if rows:
        reading.video(video_id, str(source.path), duration_s=before + step, is_id=True)


def _read_feral(source: Source, reading: Reading) -> None:
    tree = source.json if source.is_json else None
    labels = tree.get("labels") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or not isinstance(labels, dict):
        raise DataError(f"{source.path}: no labels of frames in it; FERAL's JSON has labels and class_names")
    names = {str(key): str(value) for key, value in mapping(tree.get("class_names")).items()}
    subsets = {
        str(video): str(subset)
        for subset, videos in mapping(tree.get("splits")).items()
        for video in (videos if isinstance(videos, list) else [])
    }
    for video, frames in labels.items():
        place = f"{source.path}, {video}"
        if not isinstance(frames, list):
            reading.faults.add("videos have no list of frames: left out", place)
            continue
        reading.video(video, place, subset=subsets.get(video))
        read_runs(reading, video, [_named(frame, names) for frame in frames], place, is_id=False)


def _named(frame: object, names: Mapping[str, str]) -> tuple[str, ...]:
    if isinstance(frame, list):
        return tuple(names.get(str(number), str(number)) for number, value in enumerate(frame) if value)
    return () if frame is None else (names.get(str(frame), str(frame)),)
