"""Checks the allocator simulator against what torch's own allocator recorded.

``torch.cuda.memory._record_memory_history(); ...; torch.cuda.memory._snapshot()["device_traces"][0]`` is a list of
entries ``{"action", "addr", "size", "stream", ...}``. The requests and frees in it are given to the simulator; the
segments that it then makes and releases, and the addresses that it gives out, must be the recorded ones, byte for byte.
The driver's choice of addresses is taken from the record, since nothing could predict it.

Of a GPU it is not known how much memory the driver had left, and a trace does not tell why segments were released: the
simulator then empties its cache where the record releases something. (That is too much with a split limit, and too late
for memory that another stream still used.) Where the capacity is known, the simulator has to find by itself when to
empty its cache and when memory is out. For that, a record needs two kinds of entry of our own: ``empty_cache``, before
what followed from the program's call, and ``record_stream``, where another stream begins to use the memory at ``addr``.

A record may begin in the middle of a run, with what was there by then (``Start``). The release of torch decides which
of equal blocks is taken.

Records are kept as gzipped JSON, events only: what was done once is checked on every machine.
"""

import gzip
import json
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.predict.allocator import (
    DEFAULT_SETTINGS,
    AllocatorSettings,
    CachingAllocator,
    Held,
    Segment,
    SimulatedOutOfMemory,
    Usage,
)
from bench.predict.releases import PREFERS_OLDEST_SEGMENT, release_of
from etad.files import replace_atomically

IGNORED = {"snapshot", "user_defined"}
FIELDS = ("action", "addr", "size", "stream")
"""Of an entry that is kept."""
SETTINGS = "allocator_settings"
"""The fact that holds the fields of AllocatorSettings; without it, the default ones."""
START = "initial"
"""The fact that holds what was there before the first entry."""
RELEASE = "torch"
"""The fact that holds torch's version."""


class RecordedTraceError(ValueError):
    """The record cannot be replayed: it uses what was there before, or what is not simulated."""


@dataclass(frozen=True)
class Start:
    """What the allocator held when a record began.

    Attributes:
        segments: address, size in bytes and stream of each.
        blocks: address and requested bytes of each allocation.
    """

    segments: Sequence[tuple[int, int, int]] = ()
    blocks: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class RecordedTrace:
    """A trace that was kept.

    Attributes:
        facts: where it comes from.
        events: one device's entries.
    """

    facts: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def settings(self) -> AllocatorSettings:
        """How the allocator was set up."""
        settings = AllocatorSettings(**self.facts.get(SETTINGS, {}))
        return settings if RELEASE not in self.facts else of_release(self.facts[RELEASE], settings)

    @property
    def start(self) -> Start:
        """What was there before; nothing, if the record does not tell."""
        return Start(**self.facts.get(START, {}))


def of_release(version: str, settings: AllocatorSettings = DEFAULT_SETTINGS) -> AllocatorSettings:
    """Return settings with the choice among equal blocks that a version of torch makes ("2.14.1+cu130")."""
    return replace(settings, prefers_oldest=release_of(version) >= PREFERS_OLDEST_SEGMENT)


@dataclass(frozen=True)
class Replayed:
    """The outcome of a replay.

    Attributes:
        events: entries of the record that were replayed.
        difference: the first thing in which simulator and record differ; None where they agree to the byte.
        made: the segments obtained from the driver, in order, as the simulator made them.
        peak: the simulator's peaks.
        retries: how often it emptied its cache because the driver had nothing left; 0 without a capacity.
        out_of_memory_errors: requests that were refused.
    """

    events: int
    difference: str | None
    made: tuple[Segment, ...]
    peak: Usage
    retries: int
    out_of_memory_errors: int

    @property
    def counters(self) -> dict[str, int]:
        """What torch.cuda.memory_stats counts of it: the peaks, the retries and the errors."""
        return asdict(self.peak) | {"retries": self.retries, "out_of_memory_errors": self.out_of_memory_errors}


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


def read_trace(path: Path) -> RecordedTrace:
    """Read what :func:`write_trace` wrote.

    Raises:
        RecordedTraceError: it is something else.
    """
    try:
        facts = json.loads(gzip.decompress(path.read_bytes()))
        fields, rows = facts.pop("fields"), facts.pop("events")
        return RecordedTrace(facts, [dict(zip(fields, row, strict=True)) for row in rows])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordedTraceError(f"{path}: not a recorded trace ({error})") from None


class _Difference(Exception):
    pass


NOTHING = Start()


def replay_recorded(
    trace: Sequence[Mapping[str, Any]], settings: AllocatorSettings = DEFAULT_SETTINGS, start: Start = NOTHING
) -> Replayed:
    """Replay one device's trace.

    Args:
        trace: its entries.
        settings: how the allocator was set up.
        start: what was there before; by default the record begins with the process's first allocation.

    Raises:
        RecordedTraceError: see there.
    """
    replay = _Replay(settings, start)
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
    allocator = replay.allocator
    made = tuple(allocator.made[len(start.segments) :])
    return Replayed(number, difference, made, allocator.peak, allocator.retries, replay.out_of_memory_errors)


def _begin(allocator: CachingAllocator, start: Start) -> None:
    blocks = sorted((address, size_bytes, key) for key, (address, size_bytes) in enumerate(start.blocks))
    addresses = [address for address, *_ in blocks]
    for address, size_bytes, stream in start.segments:
        inside = blocks[bisect_left(addresses, address) : bisect_left(addresses, address + size_bytes)]
        held = (Held(key, *block) for *block, key in inside)
        try:
            allocator.begin_with(Segment(address, size_bytes), held, stream)
        except ValueError as error:
            raise RecordedTraceError(f"the record's {START} state is not possible: {error}") from None
    if allocator.held != len(blocks):
        raise RecordedTraceError(f"the record's {START} state holds blocks outside its segments")


class _Replay:
    def __init__(self, settings: AllocatorSettings, start: Start) -> None:
        self.allocator = CachingAllocator(settings, self._place)
        self.out_of_memory_errors = 0
        self._knows_capacity = settings.capacity_bytes is not None
        # Keys by address: of allocations, and of those given up whose end is not recorded yet.
        self._alive = {address: key for key, (address, _) in enumerate(start.blocks)}
        self._next_key = len(start.blocks)
        _begin(self.allocator, start)
        self._given_up: dict[int, int] = {}
        self._shared: set[int] = set()
        # What the record tells before the request that it belongs to.
        self._made: deque[Segment] = deque()
        self._released: list[Segment] = []
        self._completed: list[int] = []
        # What the simulator did before the record tells it.
        self._ahead: list[Segment] = []
        self._compared = 0

    def take(self, entry: Mapping[str, Any]) -> None:
        action, address, size = entry["action"], entry.get("addr", 0), entry.get("size", 0)
        match action:
            case "segment_free":
                segment = Segment(address, size)
                self._ahead.remove(segment) if segment in self._ahead else self._released.append(segment)
            case "segment_alloc":
                self._made.append(Segment(address, size))
            case "alloc":
                self._allocate(address, size, entry.get("stream", 0))
            case "oom":
                self._refuse(size, entry.get("stream", 0))
            case "free_requested":
                self._settle()
                self._given_up[address] = key = self._pop(self._alive, address)
                self.allocator.request_free(key)
            case "free_completed":
                self._end(address, self._pop(self._given_up, address))
            case "record_stream":
                self._shared.add(address)
            case "empty_cache":
                self._settle()
                self.allocator.empty_cache()
                self._ahead = self._newly_released()
            case _ if action not in IGNORED:
                raise RecordedTraceError(f"the trace holds {action!r}, which is not simulated")

    def left_over(self) -> str | None:
        try:
            self._settle()
        except _Difference as found:
            return str(found)
        return f"{len(self._made)} segment(s) recorded that nothing needs" if self._made else None

    def _allocate(self, address: int, size: int, stream: int) -> None:
        if not self._knows_capacity:
            self._settle()
        elif not self._released:
            # With releases, this request emptied the cache, and waited for the other streams only after its search.
            self._complete()
        try:
            given = self.allocator.allocate(self._next_key, size, stream)
        except SimulatedOutOfMemory as error:
            raise _Difference(f"recorded {size} B at {address:#x}, simulated {error}") from None
        if self._made:
            raise _Difference(f"recorded a new segment for {size} B, simulated none")
        if given != address:
            raise _Difference(f"recorded {size} B at {address:#x}, simulated {given:#x}")
        self._alive[address] = self._next_key
        self._next_key += 1
        self._settle()

    def _refuse(self, size: int, stream: int) -> None:
        self.out_of_memory_errors += 1
        if self._knows_capacity:
            try:
                given = self.allocator.allocate(self._next_key, size, stream)
            except SimulatedOutOfMemory:
                pass
            else:
                raise _Difference(f"recorded out of memory for {size} B, simulated them at {given:#x}")
        self._settle()

    def _end(self, address: int, key: int) -> None:
        shared = address in self._shared
        self._shared.discard(address)
        if key not in self.allocator.waiting:
            return  # The simulator waited for it when it emptied its cache.
        if shared and self._knows_capacity:
            self._completed.append(key)
        else:
            self.allocator.complete_free(key)

    def _place(self, size_bytes: int) -> int:
        if not self._made:
            raise _Difference(f"simulated a new segment of {size_bytes} B, recorded none")
        segment = self._made.popleft()
        if segment.size_bytes != size_bytes:
            raise _Difference(f"simulated a segment of {size_bytes} B, recorded {segment.size_bytes} B")
        return segment.address

    def _settle(self) -> None:
        """Compare what was completed and released since the last time."""
        self._complete()
        if self._released and not self._knows_capacity:
            # A run of releases is an emptied cache, whether the program or a full device asked for it.
            self.allocator.empty_cache()
        recorded, simulated = self._released, self._newly_released() + self._ahead
        if sorted(recorded) != sorted(simulated):
            raise _Difference(f"recorded {len(recorded)} released segment(s), simulated {len(simulated)} others")
        self._released = []
        if set(self._given_up.values()) != self.allocator.waiting:
            used = len(self.allocator.waiting)
            raise _Difference(f"recorded {len(self._given_up)} block(s) in use by another stream, simulated {used}")

    def _newly_released(self) -> list[Segment]:
        released = self.allocator.released[self._compared :]
        self._compared += len(released)
        return released

    def _complete(self) -> None:
        for key in self._completed:
            if key in self.allocator.waiting:
                self.allocator.complete_free(key)
        self._completed = []

    @staticmethod
    def _pop(keys: dict[int, int], address: int) -> int:
        if address not in keys:
            raise RecordedTraceError(
                f"the trace frees {address:#x}, which it did not allocate; record from the first allocation "
                "on, or tell what was there before"
            )
        return keys.pop(address)
