"""EPIC-KITCHENS-100 (``EPIC_100_train.csv``): a row an action, with a verb and a noun.

Verb, noun and (verb, noun) are three tasks. Classes are the numbers of the official class lists, as the toolkit scores
them, since the words beside them are what a narrator said: many words are one class.

The columns are those of epic-kitchens/epic-kitchens-100-annotations.
"""

from etad.data.annotation_formats.interval import seconds
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.errors import DataError, nearest

_TASKS = {"verb": ("verb_class",), "noun": ("noun_class",), "action": ("verb_class", "noun_class")}


def recognises(source: Source) -> bool:
    return source.header(["narration_id"], ["video_id"], ["start_timestamp"], ["stop_timestamp"]) == 0


def read(source: Source, reading: Reading) -> None:
    if not recognises(source):
        raise DataError(f"{source.path}: no columns narration_id, video_id, start_timestamp, stop_timestamp of EPIC")
    task = reading.options.label or "verb"
    if task not in _TASKS:
        raise DataError(f"{source.path}: --label {task} is no task of EPIC; {nearest(task, _TASKS)}")
    if reading.options.label is None:
        reading.faults.add("files hold verbs and nouns; verbs are taken", str(source.path), "--label noun or action")
    for row in source.table(0):
        place = source.place(row.line)
        video_id = reading.video(row.get("video_id"), place, is_id=True)
        classes = [row.get(column) for column in _TASKS[task]]
        reading.add(
            video_id,
            seconds(row.get("start_timestamp")),
            seconds(row.get("stop_timestamp")),
            ",".join(classes) if all(classes) else "",
            place,
        )
