"""Of several processes that fail together, one tells why: the first, as a file says that a launcher names."""

import os
import time
from pathlib import Path

MARK = "ETAD_FAILURE_MARK"
"""Variable that names the file, which the first process to fail makes."""
PATIENCE_S = 2.0
"""How long the mark may come after the end of that process's connections."""


def is_first_to_fail() -> bool:
    """Return whether no other process has failed yet, and let the others know of this one; True without a mark."""
    mark = os.environ.get(MARK)
    if mark is None:
        return True
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        pass
    return True


def has_another_failed() -> bool:
    """Return whether another process has failed, waiting a little for it to say so; False without a mark."""
    mark = os.environ.get(MARK)
    until = time.monotonic() + PATIENCE_S
    while mark is not None and time.monotonic() < until:
        if Path(mark).exists():
            return True
        time.sleep(0.05)
    return False
