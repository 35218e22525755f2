"""Recordings of torch's own caching allocator on a machine without a GPU.

The allocator's code comes with every CUDA build of torch; what it asks of CUDA is answered by tests/stand_in. A program
is a list of steps that are played in a child process (child.py):

- ``["alloc", key, size_bytes, stream]``: a tensor; streams are numbered from 0, the default one.
- ``["free", key]``: its end. Nothing happens if memory was out for it.
- ``["record_stream", key, stream]``: another stream uses it, so that its memory must not be used again before that
  stream has finished.
- ``["finish", events]``: that many of the events recorded since are over.
- ``["empty_cache"]``.
"""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.predict.allocator import DEFAULT_SETTINGS, AllocatorSettings
from bench.predict.recorded import SETTINGS, RecordedTrace
from bench.units import MIB
from tests.stand_in import stand_in

TIMEOUT_S = 300.0
SOURCE = "torch's own allocator over a stand-in for CUDA; no GPU"
COUNTERS = {
    "requested_bytes": "requested_bytes.all.peak",
    "allocated_bytes": "allocated_bytes.all.peak",
    "active_bytes": "active_bytes.all.peak",
    "reserved_bytes": "reserved_bytes.all.peak",
    "segments": "segment.all.peak",
    "retries": "num_alloc_retries",
    "out_of_memory_errors": "num_ooms",
}
"""Counters of a replay, and what torch.cuda.memory_stats calls them."""
OPTIONS = {
    "large_segment_bytes": "large_segment_size_mb",
    "max_split_bytes": "max_split_size_mb",
    "max_non_split_rounding_bytes": "max_non_split_rounding_mb",
}
"""Fields of AllocatorSettings, and what PYTORCH_ALLOC_CONF calls them."""

Program = Sequence[Sequence[Any]]


def why_not() -> str | None:
    """Return why nothing can be recorded here; None if it can."""
    return stand_in.why_not()


def record(program: Program, library: Path, settings: AllocatorSettings, facts: Mapping[str, Any]) -> RecordedTrace:
    """Play a program on torch's allocator in a process of its own.

    Args:
        program: see above.
        library: the compiled stand-in.
        settings: of the allocator; the capacity must be given.
        facts: about the program; what was recorded is added.

    Raises:
        subprocess.CalledProcessError: the process failed; it has said why on stderr.
    """
    finished = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "child.py")],
        input=json.dumps({"program": program}),
        env=_environment(library, settings),
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    answer = json.loads(finished.stdout)
    stats = answer["stats"]
    found = {
        "source": SOURCE,
        "torch": answer["torch"],
        **facts,
        SETTINGS: dataclasses.asdict(settings),
        "counters": {name: stats[counter] for name, counter in COUNTERS.items()},
    }
    return RecordedTrace(found, answer["events"])


def _environment(library: Path, settings: AllocatorSettings) -> dict[str, str]:
    changed = {name for name in OPTIONS if getattr(settings, name) != getattr(DEFAULT_SETTINGS, name)}
    options = ",".join(f"{OPTIONS[name]}:{getattr(settings, name) // MIB}" for name in sorted(changed))
    return stand_in.with_stand_in(library, settings.capacity_bytes) | {
        "OMP_NUM_THREADS": "1",
        "PYTORCH_ALLOC_CONF": options,
    }
