"""A predicted run in the format of torch's memory visualiser, so that https://pytorch.org/memory_viz opens it.

The trace is replayed through the simulated allocator, which gives the addresses and segments. Where a recorded snapshot
has the Python stack of an allocation, this one has the module, the operator and the category. Times count events. The
format is that of ``torch.cuda.memory._snapshot``, a mapping of segments and device traces.
"""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.predict.allocator import SMALL_SEGMENT_BYTES, CachingAllocator, Event, Segment
from bench.predict.recorder import Allocation, Part, Trace
from etad.files import replace_atomically

Tree = dict[str, Any]


def predicted_snapshot(trace: Trace) -> Tree:
    """Return the setup, the first step and a later one, without the scratch that is only a bound."""
    trace = trace.keeping(lambda allocation: not allocation.uncertain)
    allocator = CachingAllocator()
    entries: list[Tree] = []
    alive: dict[int, tuple[int, Event]] = {}
    for part in (Part(None, trace.setup), *trace.first, *trace.steady):
        for event in part.events:
            frames = _frames(trace.allocations[event.key], part.phase)
            before = len(allocator.made)
            if event.size_bytes:
                address = allocator.allocate(event.key, event.size_bytes, event.stream)
                alive[event.key] = address, event
                entries += [_entry("segment_alloc", *segment, event, frames) for segment in allocator.made[before:]]
                entries.append(_entry("alloc", address, event.size_bytes, event, frames))
            else:
                address, begun = alive.pop(event.key)
                allocator.free(event.key)
                for action in ("free_requested", "free_completed"):
                    entries.append(_entry(action, address, begun.size_bytes, begun, frames))
    for number, entry in enumerate(entries):
        entry["time_us"] = number
    blocks = {address: (trace.allocations[key], event) for key, (address, event) in alive.items()}
    segments = [_segment(segment, allocator, blocks) for segment in sorted(allocator.made)]
    return {"segments": segments, "device_traces": [entries], "allocator_settings": {}, "external_annotations": []}


def write_snapshot(path: Path, snapshot: Tree) -> None:
    """Write a snapshot as a pickle, atomically."""
    with replace_atomically(path) as temporary:
        temporary.write_bytes(pickle.dumps(snapshot))


def _entry(action: str, address: int, size_bytes: int, event: Event, frames: list[Tree]) -> Tree:
    return {"action": action, "addr": address, "size": size_bytes, "stream": event.stream, "frames": frames}


def _frames(allocation: Allocation, phase: str | None) -> list[Tree]:
    """Return what stands for the stack, innermost first."""
    names = (allocation.operator, allocation.module or "step", str(allocation.category), str(phase or "between phases"))
    return [{"filename": "predicted", "line": 0, "name": name} for name in names]


def _segment(segment: Segment, allocator: CachingAllocator, held: dict[int, tuple[Allocation, Event]]) -> Tree:
    blocks = list(_blocks(segment, allocator, held))
    in_use = sum(block["size"] for block in blocks if block["state"] == "active_allocated")
    return {
        "device": 0,
        "address": segment.address,
        "total_size": segment.size_bytes,
        "allocated_size": in_use,
        "active_size": in_use,
        "requested_size": sum(block["requested_size"] for block in blocks),
        "stream": 0,
        "segment_type": "small" if segment.size_bytes == SMALL_SEGMENT_BYTES else "large",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "frames": [],
        "blocks": blocks,
    }


def _blocks(segment: Segment, allocator: CachingAllocator, held: dict[int, tuple[Allocation, Event]]) -> Iterator[Tree]:
    for address, size_bytes, given in allocator.blocks():
        if segment.address <= address < segment.address + segment.size_bytes:
            allocation, event = held.get(address, (None, None)) if given else (None, None)
            yield {
                "address": address,
                "size": size_bytes,
                "requested_size": event.size_bytes if event else 0,
                "state": "active_allocated" if given else "inactive",
                "frames": _frames(allocation, None) if allocation else [],
            }
