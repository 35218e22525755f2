"""Records torch's own caching allocator as test fixtures, on a machine without a GPU.

``python -m tests.recording`` (in the repository, about a minute, 1.5 GiB) writes tests/fixtures/allocator_traces anew:
with the same torch and the same predictions, the same bytes. It needs Linux, a CUDA build of torch and a C compiler.
``etad-bench validate --traces`` puts the records of a real GPU into the same folder; a file's facts tell its source.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.cells import make_cells
from bench.predict.allocator import AllocatorSettings
from bench.predict.memory import trace_for_cuda
from bench.predict.recorded import replay_recorded, write_trace
from bench.suites.validation import SMALL, TRACED
from bench.units import MIB
from tests.paths import FIXTURES
from tests.recording.programs import EDGES, OVERSIZE, Steps, predicted_program, random_program
from tests.recording.recorder import record, why_not
from tests.stand_in.stand_in import compile_stand_in

FOLDER = FIXTURES / "allocator_traces"
CONFIG = "anet_e2e"
AMPLE = AllocatorSettings(capacity_bytes=80 * 1024 * MIB)
RANDOM = {
    "ample": (AllocatorSettings(capacity_bytes=600 * MIB), EDGES),
    "tight": (AllocatorSettings(capacity_bytes=250 * MIB), EDGES),
    "too-little": (AllocatorSettings(capacity_bytes=200 * MIB), EDGES),
    "split-limit-21m": (AllocatorSettings(capacity_bytes=400 * MIB, max_split_bytes=21 * MIB), OVERSIZE),
    "split-limit-32m": (AllocatorSettings(capacity_bytes=250 * MIB, max_split_bytes=32 * MIB), EDGES),
    "large-segments-32m": (
        AllocatorSettings(
            capacity_bytes=300 * MIB,
            large_segment_bytes=32 * MIB,
            max_split_bytes=40 * MIB,
            max_non_split_rounding_bytes=36 * MIB,
        ),
        EDGES,
    ),
}
"""Settings and sizes of the random programs, which would like to keep LIMIT_BYTES allocated."""
LIMIT_BYTES = 200 * MIB
REQUESTS = 600


def programs() -> Iterator[tuple[str, Steps, AllocatorSettings, dict[str, Any]]]:
    """Yield name, program, settings and facts of every fixture."""
    for seed, (name, (settings, edges)) in enumerate(RANDOM.items()):
        facts = {"program": "random", "seed": seed, "requests": REQUESTS, "limit_bytes": LIMIT_BYTES}
        yield f"random-{name}", random_program(seed, REQUESTS, LIMIT_BYTES, edges), settings, facts
    for strategy, precision in TRACED:
        knobs = {**SMALL, "strategy": strategy, "precision": precision}
        yield _predicted(f"small-{strategy}-{precision}", knobs, steps=3)
    yield _predicted("published", {"ratio": "0.3", "batch": "1", "strategy": "sequential"}, steps=2)


def _predicted(name: str, knobs: dict[str, str], steps: int) -> tuple[str, Steps, AllocatorSettings, dict[str, Any]]:
    [cell] = make_cells(["etad-bench", "memory"], CONFIG, knobs)
    facts = {"program": "predicted training", "config": CONFIG, "knobs": knobs, "steps": steps}
    return name, predicted_program(trace_for_cuda(cell.config), steps), AMPLE, facts


def main() -> int:
    """Write every fixture; return 1 if the simulator differs from one."""
    reason = why_not()
    if reason is not None:
        print(f"nothing can be recorded here: {reason}", file=sys.stderr)
        return 6
    differences = 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        library = compile_stand_in(Path(temporary))
        for name, program, settings, facts in programs():
            path = FOLDER / f"stand-in-{name}.json.gz"
            recorded = record(program, library, settings, facts)
            write_trace(path, recorded.events, recorded.facts)
            replayed = replay_recorded(recorded.events, recorded.settings)
            difference = replayed.difference
            if difference is None and replayed.counters != recorded.facts["counters"]:
                difference = f"counters: recorded {recorded.facts['counters']}, simulated {replayed.counters}"
            differences += difference is not None
            size = f"{len(recorded.events)} events, {path.stat().st_size} B"
            print(f"{path.name}: {size}, {difference or 'as simulated'}", flush=True)
    return int(differences > 0)


if __name__ == "__main__":
    sys.exit(main())
