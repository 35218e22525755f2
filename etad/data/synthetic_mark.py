"""The mark of synthetic data: a file in the data's root that says what there was made up, and how.

Whatever reports a result on such data looks for it: see :func:`synthetic_text`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etad.errors import DataError
from etad.files import write_json

MARK = "SYNTHETIC.json"


def write_mark(root: Path, what: str, made_by: Mapping[str, Any]) -> None:
    """Mark the data below ``root`` as synthetic.

    Args:
        root: folder, made if absent.
        what: in words, what of the data is made up.
        made_by: the settings that made it.

    Raises:
        OSError: the folder cannot be written.
    """
    write_json(root / MARK, {"synthetic": what, "made_by": dict(made_by)})


def read_mark(root: Path) -> dict[str, Any] | None:
    """Return the mark of ``root``, keys "synthetic" and "made_by"; None where the data is not marked.

    Raises:
        DataError: there is a mark that cannot be read.
    """
    path = root / MARK
    if not path.is_file():
        return None
    try:
        mark = json.loads(path.read_text(encoding="utf-8"))
        return {"synthetic": str(mark["synthetic"]), "made_by": dict(mark["made_by"])}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise DataError(f"{path}: cannot be read as the mark of synthetic data; remove the folder") from None


def synthetic_text(root: Path) -> str | None:
    """Return in words what of the data below ``root`` is made up; None: nothing, as far as is marked."""
    mark = read_mark(root)
    return None if mark is None else str(mark["synthetic"])
