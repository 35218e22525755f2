"""Label Studio: JSON and JSON-MIN exports with timeline labels of videos, or labels of audio and time series.

Timeline labels count frames, and the frame rate lies in the labelling configuration, outside the export, unless a task
carries it. Whether the first frame is 0 or 1 is disputed; Label Studio's player and its own back ends count from 1, and
the last frame belongs to the range. Labels of audio and time series are in seconds.

Read in HumanSignal/label-studio, the page of the tag TimelineLabels (``{"value": {"ranges": [{"start": 3, "end": 5}],
"timelinelabels": [...]}}``), its issues 3315 and 6593 on what counts as a frame, and its back end for YOLO, whose
ranges count from 1.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from etad.data.annotation_formats.interval import media_id, seconds
from etad.data.annotation_formats.json_values import listing, mapping
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.data.video_files import SUFFIXES
from etad.errors import DataError

_IN_SECONDS = ("labels", "timeserieslabels")


def recognises(source: Source) -> bool:
    return source.is_json and any(_is_task(task) for task in _tasks(source)[:50])


def _tasks(source: Source) -> list[Any]:
    tree = source.json
    return tree if isinstance(tree, list) else [tree]


def _is_task(task: Any) -> bool:
    if not isinstance(task, dict):
        return False
    listed = task.get("annotations", task.get("completions"))
    if isinstance(task.get("data"), dict) and isinstance(listed, list):
        return True
    return any(True for _ in _minimal(task))


def _minimal(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the regions of a task of JSON-MIN, in which each control tag is a key."""
    for value in task.values():
        for region in value if isinstance(value, list) else []:
            if isinstance(region, dict) and isinstance(region.get("ranges"), list):
                yield {"type": "timelinelabels", "value": region}


def read(source: Source, reading: Reading) -> None:
    tasks = _tasks(source)
    if not any(_is_task(task) for task in tasks):
        raise DataError(f"{source.path}: no task of Label Studio in it; export as JSON or JSON-MIN")
    for number, task in enumerate(tasks, 1):
        place = f"{source.path}, task {task.get('id', number)}" if isinstance(task, dict) else f"{source.path}"
        if not _is_task(task):
            reading.faults.add("entries are no tasks: left out", place)
            continue
        data = mapping(task.get("data", task))
        video_id = reading.video(_media(data, place), place, fps=_rate(data), duration_s=seconds(data.get("duration")))
        listed = task.get("annotations", task.get("completions")) if "data" in task else None
        if listed is None:
            _regions(list(_minimal(task)), video_id, "", place, reading)
            continue
        if task.get("predictions"):
            reading.faults.add("tasks hold predictions, which are no annotations: left out", place)
        for annotation in listing(listed):
            if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
                reading.faults.add("annotations were skipped by their annotator: left out", place)
                continue
            by = annotation.get("completed_by", "")
            annotator = str(by.get("email", by.get("id", ""))) if isinstance(by, dict) else str(by)
            _regions(listing(annotation.get("result")), video_id, annotator, place, reading)


def _media(data: Mapping[str, Any], place: str) -> str:
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    for key in ("video", "video_url", "audio", "url"):
        if key in texts:
            return texts[key]
    for value in texts.values():
        if value.lower().endswith(SUFFIXES) or media_id(value) != value.rpartition("/")[2]:
            return value
    raise DataError(f"{place}: names no video; its data needs a key video with the file's address")


def _rate(data: Mapping[str, Any]) -> float | None:
    return next((rate for key in ("fps", "framerate", "frameRate") if (rate := seconds(data.get(key)))), None)


def _regions(regions: list[Any], video_id: str, annotator: str, place: str, reading: Reading) -> None:
    first = reading.options.first_frame
    for number, region in enumerate(regions, 1):
        where = f"{place}, region {number}"
        kind, value = (region.get("type"), region.get("value")) if isinstance(region, dict) else (None, None)
        if not isinstance(value, dict) or not isinstance(kind, str):
            reading.faults.add("regions are no JSON objects: left out", where)
        elif kind == "timelinelabels":
            fps = reading.fps_of(video_id, where)
            reading.faults.add(
                f"ranges count frames, from {first}, their last frame included",
                where,
                f"--first-frame {1 - first} if they count from {1 - first}",
            )
            for part in listing(value.get("ranges")):
                start, end = seconds(mapping(part).get("start")), seconds(mapping(part).get("end"))
                for label in listing(value.get("timelinelabels")) or [""]:
                    start_s = None if start is None else (start - first) / fps
                    end_s = None if end is None else (end + 1 - first) / fps
                    reading.add(video_id, start_s, end_s, label, where, tier=annotator)
        elif kind in _IN_SECONDS and "start" in value and "end" in value:
            length_s = seconds(region.get("original_length"))
            reading.video(video_id, where, duration_s=length_s, is_id=True)
            for label in listing(value.get(kind)) or [""]:
                reading.add(video_id, seconds(value["start"]), seconds(value["end"]), label, where, tier=annotator)
        else:
            reading.faults.add(f"regions of type {kind} are no stretch of time: left out", where)
