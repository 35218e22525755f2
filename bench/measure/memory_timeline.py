"""Memory over a step by category: from a predicted trace, or from what CUDA's allocator recorded.

Time is counted in allocations and their ends, in order: it is the one clock that both have.
"""

import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.measure.memory_cuda import Marks
from bench.predict.allocator import CachingAllocator
from bench.predict.recorder import Category, Part, Trace

CATEGORIES = (
    Category.PARAMETER,
    Category.OPTIMIZER_STATE,
    Category.GRADIENT,
    Category.INPUT,
    Category.ACTIVATION,
    Category.WORKSPACE,
)
"""From the bottom of the picture to its top: the longest-lived first."""


@dataclass(frozen=True)
class Timeline:
    """One step.

    Attributes:
        kind: "predicted" or "measured".
        categories: requested bytes after each event, by category, each ``[events]``.
        reserved: bytes that the allocator has from the driver after each event, ``[events]``.
        phases: name, first event and event after the last, in order.
    """

    kind: str
    categories: dict[str, NDArray[np.int64]]
    reserved: NDArray[np.int64]
    phases: tuple[tuple[str, int, int], ...]

    @property
    def total(self) -> NDArray[np.int64]:
        """All categories, ``[events]``."""
        return np.sum(list(self.categories.values()), axis=0, dtype=np.int64)


class _Sums:
    """Counts bytes by category, event by event."""

    def __init__(self) -> None:
        self._now = dict.fromkeys(CATEGORIES, 0)
        self.rows: list[tuple[int, ...]] = []
        self.reserved: list[int] = []

    def add(self, category: Category, size_bytes: int) -> None:
        self._now[category] += size_bytes

    def note(self, reserved_bytes: int) -> None:
        self.rows.append(tuple(self._now.values()))
        self.reserved.append(reserved_bytes)

    def timeline(self, kind: str, phases: Iterable[tuple[str, int, int]]) -> Timeline:
        table = np.array(self.rows, dtype=np.int64).reshape(-1, len(CATEGORIES))
        found = {str(category): table[:, column] for column, category in enumerate(CATEGORIES)}
        reserved = np.array(self.reserved, dtype=np.int64)
        return Timeline(kind, {name: sizes for name, sizes in found.items() if sizes.any()}, reserved, tuple(phases))


def predicted_timeline(trace: Trace) -> Timeline:
    """Return a later step of a trace, without the scratch that is only a bound."""
    trace = trace.keeping(lambda allocation: not allocation.uncertain)
    allocator, sums = CachingAllocator(), _Sums()
    sizes: dict[int, int] = {}
    phases: list[tuple[str, int, int]] = []
    for part, shown in [
        (Part(None, trace.setup), False),
        *((part, False) for part in trace.first),
        *((part, True) for part in trace.steady),
    ]:
        begin = len(sums.rows)
        for event in part.events:
            allocator.replay((event,))
            if event.size_bytes:
                sizes[event.key] = event.size_bytes
            change = event.size_bytes or -sizes.pop(event.key)
            sums.add(trace.allocations[event.key].category, change)
            if shown:
                sums.note(allocator.usage.reserved_bytes)
        if shown and part.phase is not None:
            phases.append((str(part.phase), begin, len(sums.rows)))
    return sums.timeline("predicted", phases)


def recorded_timeline(snapshot: Mapping[str, Any], marks: Marks) -> Timeline:
    """Return the last recorded step of a snapshot.

    What an allocation is for is known where the step told (``Marks.held``); the rest, activations and scratch alike, is
    workspace here.

    Args:
        snapshot: what ``torch.cuda.memory._dump_snapshot`` wrote.
        marks: of the same run.
    """
    events = next(trace for trace in snapshot["device_traces"] if trace)
    category_of = _categories(events, marks)
    sums = _Sums()
    alive: dict[int, tuple[Category, int]] = {}
    reserved, begun = 0, marks.steps[-1]
    times: list[int] = []
    for number, event in enumerate(events):
        action, address, size = event["action"], event.get("addr", 0), event.get("size", 0)
        if action == "alloc":
            alive[address] = (category_of.get(number, Category.WORKSPACE), size)
            sums.add(*alive[address])
        elif action == "free_completed" and address in alive:
            category, held = alive.pop(address)
            sums.add(category, -held)
        elif action in ("segment_alloc", "segment_free"):
            reserved += size if action == "segment_alloc" else -size
        if action in ("alloc", "free_completed") and event["time_us"] >= begun:
            sums.note(reserved)
            times.append(event["time_us"])
    return sums.timeline("measured", _phases(marks, times))


def read_snapshot(path: Path) -> dict[str, Any]:
    """Read a snapshot that this program wrote. A pickle can run code: read no others."""
    snapshot: dict[str, Any] = pickle.loads(path.read_bytes())
    return snapshot


def _categories(events: Sequence[Mapping[str, Any]], marks: Marks) -> dict[int, Category]:
    """Return the category of allocations, by their place among the events."""
    found: dict[int, Category] = {}
    labels = sorted(marks.held)
    place = 0
    alive: dict[int, int] = {}
    for number, event in enumerate(events):
        while place < len(labels) and labels[place][0] < event["time_us"]:
            _, address, category = labels[place]
            if address in alive:
                found[alive[address]] = category
            place += 1
        if event["action"] == "alloc":
            alive[event["addr"]] = number
        elif event["action"] == "free_requested":
            alive.pop(event["addr"], None)
    for _, address, category in labels[place:]:
        if address in alive:
            found[alive[address]] = category
    return found


def _phases(marks: Marks, times: Sequence[int]) -> list[tuple[str, int, int]]:
    """Return where the phases of the last step begin and end among the events at ``times``."""
    inside = [(time, name) for time, name in marks.phases if time >= marks.steps[-1]]
    edges = [int(np.searchsorted(times, time)) for time, _ in inside] + [len(times)]
    return [(name, edges[n], edges[n + 1]) for n, (_, name) in enumerate(inside) if name is not None]
