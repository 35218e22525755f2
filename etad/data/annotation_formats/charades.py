"""Charades (``Charades_v1_train.csv``): a row a video, its actions in one cell, ``c092 11.90 21.20;c147 0.00 12.60``.

The columns are those of Charades v1 (Sigurdsson et al., 2016): id, subject, ..., actions, length.
"""

from etad.data.annotation_formats.interval import seconds
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.errors import DataError


def recognises(source: Source) -> bool:
    return source.header(["id"], ["actions"], ["length"]) == 0


def read(source: Source, reading: Reading) -> None:
    if not recognises(source):
        raise DataError(f"{source.path}: no columns id, actions and length of Charades")
    for row in source.table(0):
        place = source.place(row.line)
        video_id = reading.video(row.get("id"), place, seconds(row.get("length")), is_id=True)
        for number, action in enumerate(filter(None, row.get("actions").split(";")), 1):
            cells = action.split()
            where = f"{place}, action {number}"
            if len(cells) != 3:
                reading.faults.add("actions are no CLASS START END: left out", where, "correct the row")
                continue
            reading.add(video_id, seconds(cells[1]), seconds(cells[2]), cells[0], where)
