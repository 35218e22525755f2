"""Checks the allocator simulator against what a real GPU's allocator recorded.

``torch.cuda.memory._record_memory_history(); ...; torch.cuda.memory._snapshot()["device_traces"][0]`` is a list of
entries ``{"action", "addr", "size", "stream", ...}``. The requests and frees in it are given to the simulator; the
segments that it then makes and releases, and the addresses that it gives out, must be the recorded ones, byte for byte.
The driver's choice of addresses is taken from the record, since nothing could predict it.

Records are kept as gzipped JSON, events only: what a GPU did once is checked on every machine.
"""

import gzip
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.predict.allocator import DEFAULT_SETTINGS, AllocatorSettings, CachingAllocator, Segment, Usage
from etad.files import replace_atomically

IGNORED = {"snapshot", "user_defined"}
FIELDS = ("action", "addr", "size", "stream")
"""Of an entry that is kept."""


class RecordedTraceError(ValueError):
    """The record cannot be replayed: it does not begin with an empty allocator, or uses what is not simulated."""


@dataclass(frozen=True)
class Replayed:
    """The outcome of a replay.

    Attributes:
        events: entries of the record that were replayed.
        difference: the first thing in which simulator and record differ; None where they agree to the byte.
        made: the segments obtained from the driver, in order, as the simulator made them.
        peak: the simulator's peaks.
    """

    events: int
    difference: str | None
    made: tuple[Segment, ...]
    peak: Usage


def write_trace(path: Path, trace: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    """Keep a device's trace.

    Args:
        path: file to write, ``.json.gz``.
        trace: one device's entries.
        facts: where it comes from: GPU, torch, the step.
    """
    rows = [[entry.get(name, 0) for name in FIELDS] for entry in trace if entry["action"] not in IGNORED]
    text = json.dumps({**facts, "fields": FIELDS, "events": rows}, separators=(",", ":"))
    with replace_atomically(path) as temporary:
        # Without a time stamp, equal traces are equal files.
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_trace(path: Path) -> list[dict[str, Any]]:
    """Read what :func:`write_trace` wrote.

    Raises:
        RecordedTraceError: it is something else.
    """
    try:
        tree = json.loads(gzip.decompress(path.read_bytes()))
        return [dict(zip(tree["fields"], row, strict=True)) for row in tree["events"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecordedTraceError(f"{path}: not a recorded trace ({error})") from None


class _Difference(Exception):
    pass


def replay_recorded(trace: Sequence[Mapping[str, Any]], settings: AllocatorSettings = DEFAULT_SETTINGS) -> Replayed:
    """Replay one device's trace, which must have been recorded from the process's first allocation on.

    Raises:
        RecordedTraceError: see there.
    """
    replay = _Replay(settings)
    difference = None
    number = 0
    for number, entry in enumerate(trace):
        try:
            replay.take(entry)
        except _Difference as found:
            difference = f"entry {number}: {found}"
            break
    else:
        difference = replay.left_over()
        number = len(trace)
    return Replayed(number, difference, tuple(replay.allocator.made), replay.allocator.peak)


class _Replay:
    def __init__(self, settings: AllocatorSettings) -> None:
        self.allocator = CachingAllocator(settings, self._place)
        self._made: deque[Segment] = deque()
        self._released: list[Segment] = []
        self._keys: dict[int, int] = {}
        self._next_key = 0

    def take(self, entry: Mapping[str, Any]) -> None:
        action, address, size = entry["action"], entry.get("addr", 0), entry.get("size", 0)
        if action == "segment_free":
            self._released.append(Segment(address, size))
            return
        self._release()
        match action:
            case "segment_alloc":
                # Comes before the allocation that needs it.
                self._made.append(Segment(address, size))
            case "alloc":
                self._allocate(address, size, entry.get("stream", 0))
            case "free_requested":
                self.allocator.request_free(self._key(address))
            case "free_completed":
                self.allocator.complete_free(self._keys.pop(address))
            case _ if action not in IGNORED:
                raise RecordedTraceError(f"the trace holds {action!r}, which is not simulated")

    def left_over(self) -> str | None:
        try:
            self._release()
        except _Difference as found:
            return str(found)
        return f"{len(self._made)} segment(s) recorded that nothing needs" if self._made else None

    def _allocate(self, address: int, size: int, stream: int) -> None:
        given = self.allocator.allocate(self._next_key, size, stream)
        if self._made:
            raise _Difference(f"recorded a new segment for {size} B, simulated none")
        if given != address:
            raise _Difference(f"recorded {size} B at {address:#x}, simulated {given:#x}")
        self._keys[address] = self._next_key
        self._next_key += 1

    def _place(self, size_bytes: int) -> int:
        if not self._made:
            raise _Difference(f"simulated a new segment of {size_bytes} B, recorded none")
        segment = self._made.popleft()
        if segment.size_bytes != size_bytes:
            raise _Difference(f"simulated a segment of {size_bytes} B, recorded {segment.size_bytes} B")
        return segment.address

    def _release(self) -> None:
        # A run of releases is an emptied cache, whether the program or a full device asked for it.
        if not self._released:
            return
        before = len(self.allocator.released)
        self.allocator.empty_cache()
        simulated = self.allocator.released[before:]
        if sorted(simulated) != sorted(self._released):
            raise _Difference(f"recorded {len(self._released)} released segment(s), simulated {len(simulated)} others")
        self._released.clear()

    def _key(self, address: int) -> int:
        if address not in self._keys:
            raise RecordedTraceError(
                f"the trace frees {address:#x}, which it did not allocate; record from the first allocation on"
            )
        return self._keys[address]
