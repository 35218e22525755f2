"""Reading JSON files that others wrote."""

import json
from pathlib import Path
from typing import Any

from etad.errors import DataError


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        DataError: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def kind(value: Any) -> str:
    """Return the name of a value's type, for an error."""
    return "null" if value is None else type(value).__name__
