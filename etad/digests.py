"""What a file or a value holds, as a short digest, so that a result can be kept beside what it was made from.

Digests depend on content alone, not on names, places or times: data that was copied to another machine has the same
ones. Files of up to 1 MiB are read whole; of larger ones the size and three pieces of 64 KiB count, at the beginning,
in the middle and at the end. So a video that was cut, encoded anew or replaced is noticed, and a few bytes changed in
place elsewhere are not.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

WHOLE_FILE_BYTES = 2**20
PIECE_BYTES = 64 * 2**10
DIGITS = 32
"""Hex digits of a digest."""


def digest(value: Any) -> str:
    """Return the digest of JSON-able values; the order of an object's keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGITS]


def file_digest(path: Path, whole_bytes: int = WHOLE_FILE_BYTES) -> str:
    """Return the digest of a file; within one command the same file is read once.

    Args:
        path: the file.
        whole_bytes: a file of up to this size is read whole.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    # Whoever copies or unpacks a file may set the time of its content back; not that of its change.
    return _file_digest(path.resolve(), status.st_size, status.st_ctime_ns, whole_bytes)


@lru_cache(maxsize=2**17)
def _file_digest(path: Path, size: int, _changed_ns: int, whole_bytes: int) -> str:
    hashed = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= whole_bytes:
            hashed.update(file.read())
        else:
            for start in (0, (size - PIECE_BYTES) // 2, size - PIECE_BYTES):
                file.seek(start)
                hashed.update(file.read(PIECE_BYTES))
    return hashed.hexdigest()[:DIGITS]
