"""THUMOS-14 and MultiTHUMOS: a text file for each class, rows of ``video start end`` in seconds.

The class is the file's name without ``_val`` or ``_test``; whether a video is of the validation or the test set stands
in its id. There is nothing on durations. THUMOS-14's file Ambiguous holds no class of its own, but stretches that its
evaluation leaves out of account.

The rows are those of the THUMOS challenge's ``annotation/*_val.txt`` and of MultiTHUMOS's ``annotations/*.txt`` (Yeung
et al.); the subsets are named as ActionFormer's ``thumos14.json`` does.
"""

import re

from etad.data.annotation_formats.interval import seconds
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source

AMBIGUOUS = "Ambiguous"
_SUBSETS = {"video_validation": "Validation", "video_test": "Test"}


def recognises(source: Source) -> bool:
    if source.is_json or source.is_xml:
        return False
    return all(_is_row(line.split()) for _, line in source.lines)


def _is_row(cells: list[str]) -> bool:
    return len(cells) == 3 and seconds(cells[0]) is None and None not in (seconds(cells[1]), seconds(cells[2]))


def read(source: Source, reading: Reading) -> None:
    label = re.sub(r"_(val|validation|test)$", "", source.stem)
    for number, line in source.lines:
        place, cells = source.place(number), line.split()
        if len(cells) != 3:
            reading.faults.add("rows are no VIDEO START END: left out", place, "correct the row")
            continue
        subset = next((subset for start, subset in _SUBSETS.items() if cells[0].startswith(start)), None)
        video_id = reading.video(cells[0], place, subset=subset)
        if label == AMBIGUOUS:
            reading.faults.add(
                "stretches are Ambiguous, which is no class: kept under that label, for evaluation",
                place,
                f"set data.ignored_classes=[{AMBIGUOUS}], or leave them out with --background {AMBIGUOUS}",
            )
        reading.add(video_id, seconds(cells[1]), seconds(cells[2]), label, place)
