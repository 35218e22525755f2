"""The loss curve of a run, ``losses.csv``: a row a step, with its epoch, its number and every loss."""

import csv
from pathlib import Path

from etad.errors import DataError
from etad.files import read_text


def read_losses(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and the rows; a last row that a killed run left unfinished is dropped.

    Every row has a whole number for epoch and step, and a number in each other column. Both are empty where there is
    no file, or no row.

    Raises:
        DataError: the file cannot be read, or a row is damaged; the line is named.
    """
    if not path.exists():
        return [], []
    text = read_text(path)
    whole = text[: text.rfind("\n") + 1]
    try:
        header, *rows = list(csv.reader(whole.splitlines())) or [[]]
    except csv.Error as error:
        raise DataError(f"{path}: not a loss curve ({error}); {_REMEDY}") from None
    if rows and header[:2] != ["epoch", "step"]:
        raise DataError(f"{path}: not a loss curve, its first columns are not epoch and step; {_REMEDY}")
    for number, row in enumerate(rows, 2):
        try:
            fits = len(row) == len(header) and min(int(row[0]), int(row[1])) > 0
            for value in row[2:]:
                float(value)
        except (ValueError, IndexError):
            fits = False
        if not fits:
            raise DataError(f"{path}: damaged at line {number}; {_REMEDY}")
    return (header, rows) if rows else ([], [])


_REMEDY = "move it away to go on without it, since the checkpoint does not need it"
