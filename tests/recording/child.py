"""Plays a program on torch's own caching allocator, and tells what it did. Runs in a process with the stand-in loaded.

Reads ``{"program": [...]}`` from stdin and writes ``{"torch", "events", "stats"}`` to stdout; see recorder.py.
"""

import ctypes
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch

KEPT = ("action", "addr", "size", "stream")


class Player:
    """Plays a program; what the allocator's own trace does not tell goes to ``marks``, with the number of the step."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, dict[str, Any]]] = []
        self._finish = ctypes.CDLL(None).stand_in_finish
        self._finish.argtypes = (ctypes.c_uint64,)
        self._tensors: dict[int, torch.Tensor] = {}
        self._streams = [torch.cuda.default_stream(), torch.cuda.Stream(), torch.cuda.Stream()]

    def play(self, program: list[list[Any]]) -> None:
        for number, (action, *arguments) in enumerate(program):
            # Comes with every entry of the trace from here on.
            torch.cuda.memory._set_memory_metadata(str(number))
            getattr(self, action)(number, *arguments)

    def alloc(self, number: int, key: int, size_bytes: int, stream: int) -> None:
        # The trace and the counters tell when memory is out.
        with torch.cuda.stream(self._streams[stream]), suppress(torch.OutOfMemoryError):
            self._tensors[key] = torch.empty(size_bytes, dtype=torch.uint8, device="cuda")

    def free(self, number: int, key: int) -> None:
        self._tensors.pop(key, None)

    def record_stream(self, number: int, key: int, stream: int) -> None:
        tensor = self._tensors.get(key)
        if tensor is not None:
            tensor.record_stream(self._streams[stream])
            self.marks.append((number, {"action": "record_stream", "addr": tensor.data_ptr()}))

    def finish(self, number: int, events: int) -> None:
        self._finish(events)

    def empty_cache(self, number: int) -> None:
        self.marks.append((number, {"action": "empty_cache"}))
        torch.cuda.empty_cache()


def marked(trace: list[dict[str, Any]], marks: list[tuple[int, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield the allocator's entries and ours, ours before what followed from them."""
    numbered = [(int(entry["user_metadata"]), 1, {name: entry.get(name, 0) for name in KEPT}) for entry in trace]
    for _, _, entry in sorted(numbered + [(number, 0, mark) for number, mark in marks], key=lambda item: item[:2]):
        yield entry


def main() -> None:
    program = json.load(sys.stdin)["program"]
    torch.cuda.memory._record_memory_history(enabled="all", context=None, stacks="python")
    player = Player()
    player.play(program)
    [trace] = torch.cuda.memory._snapshot()["device_traces"]
    answer = {
        "torch": torch.__version__,
        "events": list(marked([entry for entry in trace if entry["action"] != "snapshot"], player.marks)),
        "stats": torch.cuda.memory_stats(),
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
