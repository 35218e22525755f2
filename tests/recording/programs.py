"""What the recorded allocator is to do: random programs that seek the edges of its rules, and our own predictions."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

from bench.predict.recorder import Trace
from bench.units import KIB, MIB

EDGES = (512, 2 * KIB, 512 * KIB, MIB, 2 * MIB, 4 * MIB, 10 * MIB, 12 * MIB, 20 * MIB, 22 * MIB, 32 * MIB, 52 * MIB)
"""Sizes at which a rule changes, or which are whole segments; the last two for a split limit of 32 MiB."""
OVERSIZE = (21 * MIB, 22 * MIB, 32 * MIB, 42 * MIB, 52 * MIB)
"""A split limit of 21 MiB, and segments above it; those 20 MiB apart are just too different to replace each other."""
BESIDE = (-MIB - 512, -MIB, -513, -512, -1, 0, 1, 512, 513, MIB, MIB + 1)
STREAMS = 3

Steps = list[list[Any]]


def random_program(seed: int, requests: int, limit_bytes: int, edges: Sequence[int] = EDGES) -> Steps:
    """Return a random program on several streams that frees everything at the end.

    Args:
        seed: another seed, another program.
        requests: number of allocations.
        limit_bytes: what it keeps allocated at most, a request aside.
        edges: sizes close to which most requests are.
    """
    choose = random.Random(seed)
    steps: Steps = []
    alive: dict[int, int] = {}
    total = 0

    def end() -> None:
        nonlocal total
        key = choose.choice(list(alive))
        total -= alive.pop(key)
        steps.append(["free", key])

    for key in range(requests):
        while alive and (total > limit_bytes or choose.random() < 0.42):
            end()
        size, stream = _size(choose, edges), choose.choice((0, 0, 0, 1, 1, 2))
        steps.append(["alloc", key, size, stream])
        alive[key] = size
        total += size
        event = choose.random()
        if event < 0.12:
            steps.append(["record_stream", key, (stream + choose.randrange(1, STREAMS)) % STREAMS])
        elif event < 0.16:
            # The allocator learns of it at its next request. A small one needs no segment as a rule, so that the end of
            # the waiting and an emptied cache do not fall together.
            steps += [["finish", choose.choice((1, 2, 1000))], ["alloc", -1, 1, 0], ["free", -1]]
        elif event < 0.17:
            steps.append(["empty_cache"])
    while alive:
        end()
    steps.append(["empty_cache"])
    return steps


def predicted_program(trace: Trace, steps: int) -> Steps:
    """Return what is predicted of a training: the parameters and some steps, without the scratch that is uncertain."""
    certain = trace.keeping(lambda allocation: not allocation.uncertain)
    parts = (part for step in itertools.islice(certain.steps(), steps) for part in step)
    events = (*certain.setup, *(event for part in parts for event in part.events))
    return [
        ["alloc", event.key, event.size_bytes, event.stream] if event.size_bytes else ["free", event.key]
        for event in events
    ]


def _size(choose: random.Random, edges: Sequence[int]) -> int:
    if choose.random() < 0.6:
        return max(1, choose.choice(edges) + choose.choice(BESIDE))
    # Of any order of magnitude alike.
    return int(2 ** choose.uniform(0, 26))
