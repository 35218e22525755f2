"""Vidat (JSON): actions in seconds, their classes by number.

Read in anucvml/vidat (commit 61b6ecb): ``annotation.actionAnnotationList``, ``annotation.video`` and
``config.actionLabelData`` of its ``example.json``.
"""

from etad.data.annotation_formats.interval import seconds
from etad.data.annotation_formats.json_values import listing, mapping, text
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.errors import DataError


def recognises(source: Source) -> bool:
    tree = source.json
    return isinstance(tree, dict) and "actionAnnotationList" in (_annotation(tree) or {})


def _annotation(tree: dict[str, object]) -> dict[str, object] | None:
    found = tree.get("annotation")
    return found if isinstance(found, dict) else None


def read(source: Source, reading: Reading) -> None:
    if not recognises(source):
        raise DataError(f"{source.path}: no actionAnnotationList of Vidat in it")
    annotation, config = mapping(source.json.get("annotation")), mapping(source.json.get("config"))
    video = mapping(annotation.get("video"))
    name = text(video.get("src")) or source.stem
    place = str(source.path)
    video_id = reading.video(name, place, seconds(video.get("duration")), seconds(video.get("fps")))
    labels = map(mapping, listing(config.get("actionLabelData")))
    names = {text(entry.get("id")): entry.get("name") for entry in labels}
    for number, action in enumerate(listing(annotation.get("actionAnnotationList")), 1):
        where = f"{place}, action {number}"
        if not isinstance(action, dict):
            reading.faults.add("actions are no JSON objects: left out", where)
            continue
        label = names.get(text(action.get("action")), action.get("action"))
        reading.add(video_id, seconds(action.get("start")), seconds(action.get("end")), label, where)
