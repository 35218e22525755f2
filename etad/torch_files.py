"""Reading files that ``torch.save`` wrote without running code that they may hold.

``weights_only=True`` lets tensors and Python's plain types through. Training scripts write a few more beside the
weights: their command line (``argparse.Namespace``), numpy's scalars and arrays, paths, ``defaultdict``. Making one of
these runs nothing of the file's, so they are let through as well, for the time of the call.
"""

import argparse
import pickle
import re
import threading
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch.serialization import get_safe_globals, get_unsafe_globals_in_checkpoint, safe_globals

from etad.errors import DataError

NAMES_SHOWN = 3
_READING = threading.Lock()
"""torch keeps what is let through in one place for all threads."""


def read_torch_file(path: Path, what: str) -> Any:
    """Return what a file holds, tensors on the CPU.

    Args:
        path: the file.
        what: what it should be, for the message: "checkpoint".

    Raises:
        DataError: it is missing or damaged, or holds objects that only the program that wrote it can make.
    """
    with _READING:
        # torch takes back all that a block names, also what the program had let through before.
        known = get_safe_globals()
        with safe_globals([one for one in _PLAIN if one not in known]):
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except FileNotFoundError:
                raise DataError(f"{path}: no such {what} file") from None
            except pickle.UnpicklingError as error:
                foreign = _foreign(path, error)
                if not foreign:
                    raise DataError(f"{path}: not a readable {what}, perhaps damaged or of another format") from None
                raise DataError(
                    f"{path}: not loaded, since it holds more than weights and plain values ({', '.join(foreign)}), "
                    "which could run code; save the weights alone with the program that wrote it"
                ) from None
            except Exception as error:  # whatever the unpickler stumbles over in a damaged file
                reason = (error.strerror if isinstance(error, OSError) else None) or _first_sentence(error)
                # A text is read as a pickle: of what stands nowhere the message is a bare number.
                detail = "" if reason.isdigit() else f" ({reason})"
                raise DataError(
                    f"{path}: not a readable {what}, perhaps truncated or of another format{detail}"
                ) from None


def _plain_dtype(text: str, align: bool = False, copy: bool = False) -> np.dtype[Any]:
    """Return the data type of numbers or text that a pickle names; arrays of objects are not let through."""
    dtype = np.dtype(text, align, copy)
    if dtype.kind not in "biufcSU":
        raise pickle.UnpicklingError(f"an array of {dtype}")
    return dtype


def _without_default(_factory: object = None) -> dict[Any, Any]:
    """Return a dictionary for a ``defaultdict``, which torch makes where it is let through, but does not fill."""
    return {}


_reconstruct = np.empty(0).__reduce__()[0]
_scalar = np.float64(0).__reduce__()[0]
_PLAIN: list[Any] = [
    argparse.Namespace,
    (_without_default, "collections.defaultdict"),
    *(bool, int, float, str, list, dict, tuple),
    # Not the system's own: a path of Windows cannot be made elsewhere. Python 3.13 moved them.
    *((PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
    *((PureWindowsPath, f"{module}.WindowsPath") for module in ("pathlib", "pathlib._local")),
    *((kind, f"pathlib.{kind.__name__}") for kind in (PurePosixPath, PureWindowsPath)),
    np.ndarray,
    (_plain_dtype, "numpy.dtype"),
    *(type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDGSU"),
    # numpy 2 moved them.
    *((_reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


def _foreign(path: Path, error: pickle.UnpicklingError) -> list[str]:
    """Return the names of what a file holds and may not, as far as they can be told."""
    try:
        names = sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # the file may be of an older form, or damaged as well
        names = []
    # Of such a file the message names the first one.
    names = names or re.findall(r"GLOBAL (\S+) was", str(error)) or re.findall(r"an array of \w+", str(error))
    more = [f"{len(names) - NAMES_SHOWN} more"] if len(names) > NAMES_SHOWN else []
    return [*names[:NAMES_SHOWN], *more]


def _first_sentence(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text.split(". ", 1)[0][:200]
