"""The memory of a step that was executed on the CPU, as a record for every cell."""

import os
from collections.abc import Iterator, Sequence

from bench.batches import CLASSES
from bench.cells import Cell, Task
from bench.machine.environment import Environment, collect_environment, device_slug
from bench.machine.processes import Outcome, Runner, run_all
from bench.measure.memory_cpu import METHOD, TIMEOUT_S, CpuMemory, measure_cell
from bench.records.draft import Asked, draft
from bench.records.names import LEVELS, STEPS, SUITE
from bench.records.record import Metric, Metrics, Record

NO_CACHE = "a CPU has no caching allocator; see requested"


def measure_cells(cells: Sequence[Cell], runner: Runner = run_all) -> Iterator[Record]:
    """Yield the record of every cell, measured one after the other.

    Raises:
        DeviceError: a cell needs more memory than this machine has free.
    """
    environment = collect_environment()
    # What the profiler's library tells on stderr is for its own developers.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    outcomes = runner(measure_cell, [(cell.config, cell.task) for cell in cells], TIMEOUT_S)
    for cell, outcome in zip(cells, outcomes, strict=True):
        yield cpu_record(cell, outcome, environment)


def asked(task: Task, environment: Environment) -> Asked:
    """Return what is asked of a cell on the CPU of the machine described."""
    return Asked(SUITE, "measured", {"task": task, "device": "cpu", "classes": CLASSES}, device_slug(environment))


def cpu_record(cell: Cell, outcome: Outcome[CpuMemory], environment: Environment) -> Record:
    """Return the record of a measured cell, or of how its process failed."""
    begun, found = draft(cell, outcome, asked(cell.task, environment), environment), outcome.value
    if found is None:
        return begun.failed(outcome.status, outcome.message)
    steps = dict(zip(STEPS, (found.first, found.steady), strict=True))
    peak = max(step.peak_bytes for step in steps.values())
    videos = cell.config.train.batch
    metrics = {f"{name}_step_requested_peak_bytes": _bytes(step.peak_bytes) for name, step in steps.items()}
    metrics |= {
        "requested_peak_bytes": _bytes(peak),
        "requested_static_bytes": _bytes(found.static_bytes),
        "requested_per_video_bytes": _bytes(peak // videos, f"peak / batch of {videos}; {METHOD}"),
        "host_rss_peak_bytes": _bytes(found.host_rss_peak_bytes, "resident peak of the whole process"),
        **{f"{level}_peak_bytes": Metric(value=None, unit="bytes", reason=NO_CACHE) for level in LEVELS[1:]},
    }
    phases: dict[str, Metrics] = {}
    for name, step in steps.items():
        for phase, size_bytes in step.phases.items():
            phases.setdefault(phase, {})[f"{name}_step_requested_peak_bytes"] = _bytes(size_bytes)
    return begun.done(metrics, phases=phases)


def _bytes(size_bytes: int, method: str = METHOD) -> Metric:
    return Metric(value=size_bytes, unit="bytes", method=method)
