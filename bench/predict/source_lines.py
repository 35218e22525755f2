"""Which line of a user's program is running: as FILE:NUMBER, for messages and for lists of what holds the memory."""

import functools
import os
import sys
import sysconfig
from pathlib import Path
from types import FrameType, TracebackType

PACKAGES = ("site-packages", "dist-packages")
HERE = Path(__file__).parents[1]
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))


def running_line() -> str:
    """Return the innermost line that is the user's; empty where none is."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return "" if frame is None else line_of(frame.f_code.co_filename, frame.f_lineno)


def caller_is_torch(frame: FrameType | None) -> bool:
    """Tell whether a frame is one of torch's own, or of what lies between torch and its caller here."""
    return frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "torch"


def line_in(traceback: TracebackType | None) -> str:
    """Return the last of the user's lines that an error came through; empty where it came through none."""
    found = ""
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        if is_users(filename):
            found = line_of(filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def line_of(filename: str, number: int) -> str:
    """Return FILE:NUMBER, the file as seen from the working directory where it lies below it."""
    return f"{_shown(filename, os.getcwd())}:{number}"


@functools.cache
def is_users(filename: str) -> bool:
    """Tell whether a file is the user's: neither installed, nor Python's, nor ours."""
    path = Path(filename)
    if filename.startswith("<") or any(part in PACKAGES for part in path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in (HERE, STANDARD_LIBRARY))


@functools.cache
def _shown(filename: str, folder: str) -> str:
    path = Path(filename)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else filename
