"""Detections kept as they come, so that an interrupted inference goes on where it stopped."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from etad.detections.detections import Detections
from etad.inputs import Inputs


class DetectionLog:
    """A file of JSON lines: the first says what made the detections, each other one holds those of a video.

    A file that something else made is started anew. A last line that was cut off, or is damaged, is dropped.

    Attributes:
        path: the file.
        made_by: what its detections depend on.
        found: detections by video id, those of earlier calls included.
        spent_s: seconds that all of them took, over all calls.
        replaced: what the detections depended on that were there and were not taken over, empty where the file does not
            tell; None: there were none.
    """

    def __init__(self, path: Path, made_by: Inputs) -> None:
        """Read what is there.

        Args:
            path: the file; its folder is made if absent.
            made_by: what the detections depend on. Only detections of the same are taken over.

        Raises:
            OSError: the file cannot be written.
        """
        self.path, self.made_by = path, made_by
        self.found: dict[str, Detections] = {}
        self.spent_s = 0.0
        self.replaced: Mapping[str, str] | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        header, *lines = _whole_lines(path) or [b""]
        earlier = _made_by(header)
        known = earlier == made_by
        if lines and not known:
            self.replaced = earlier
        kept = len(header)
        for line in lines if known else ():
            try:
                entry = json.loads(line)
                detections, took_s = _detections(entry), float(entry["took_s"])
                self.found[str(entry["id"])] = detections
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                break
            self.spent_s += took_s
            kept += len(line)
        self._file = path.open("r+b" if known else "wb")
        if known:
            self._file.truncate(self._file.seek(kept))
        else:
            self._file.write(_encode({"made_by": made_by}))
        self._last = time.monotonic()

    def add(self, video_id: str, detections: Detections) -> None:
        """Keep the detections of a video; the time since the one before is what it took."""
        now = time.monotonic()
        took_s, self._last = now - self._last, now
        entry = {
            "id": video_id,
            "took_s": took_s,
            "segments_s": detections.segments_s.tolist(),
            "scores": detections.scores.tolist(),
            "labels": detections.labels.tolist(),
        }
        self._file.write(_encode(entry))
        self._file.flush()
        self.found[video_id] = detections
        self.spent_s += took_s

    def __enter__(self) -> Self:
        self._last = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _whole_lines(path: Path) -> list[bytes]:
    if not path.is_file():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _made_by(header: bytes) -> dict[str, str]:
    """Return what the first line says; nothing where it is damaged or of an earlier version."""
    try:
        made_by = json.loads(header)["made_by"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    return dict(made_by) if isinstance(made_by, dict) else {}


def _encode(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _detections(entry: Mapping[str, Any]) -> Detections:
    return Detections(
        np.array(entry["segments_s"], dtype=np.float64).reshape(-1, 2),
        np.array(entry["scores"], dtype=np.float64),
        np.array(entry["labels"], dtype=np.int64),
    )
