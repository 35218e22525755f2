"""A torch profiler trace of a few steps, and what it says: which operators cost the time, and whether the GPU waits.

Profiling slows a step down, so its times are shares to compare with each other; ``throughput`` measures the step.
"""

import gzip
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from bench.cells import Cell
from bench.measure.ranges import PhaseRanges
from bench.measure.workload import Workload
from etad.errors import DataError
from etad.files import replace_atomically

SUITE = "profile"
TIMEOUT_S = 3600.0
MARK = "etad-bench "
"""Begins the name of every range that we mark."""
STEP = f"{MARK}step"
WARM_UP = 1
"""Steps before the profiled ones: the first one allocates and chooses algorithms."""
KERNELS = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
"""Categories of what runs on the GPU."""
NO_KERNELS = "no GPU kernels ran"
METHOD = "torch profiler"


@dataclass(frozen=True)
class Operator:
    """Time of one operator in itself, over all profiled steps."""

    name: str
    calls: int
    self_time_s: float


@dataclass(frozen=True)
class TorchProfile:
    """What a trace says.

    Attributes:
        steps_s: the profiled steps' wall time, slowed down by the profiler.
        phases_s: phase -> time between its begin and its end on the host, per step.
        operators: by the time on the device where there is one, else on the host; most expensive first.
        kernel_idle: part of the steps during which no kernel ran; None without a GPU.
        gpu: its name.
    """

    steps_s: tuple[float, ...]
    phases_s: dict[str, float]
    operators: tuple[Operator, ...]
    kernel_idle: float | None
    gpu: str | None


def profile_cell(cell: Cell, device: torch.device, steps: int, trace: Path) -> TorchProfile:
    """Run the cell's step a few times under the profiler; call it in a process of its own.

    Args:
        cell: what to run.
        device: where.
        steps: profiled steps, after a warm-up.
        trace: file for the trace, ``.json`` or ``.json.gz``, which Chrome and Perfetto open.

    Raises:
        DataError: the trace cannot be written.
    """
    # What the profiler's library tells on stderr is for its own developers.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    on_gpu = device.type == "cuda"
    workload = Workload(cell.config, cell.task, device, [PhaseRanges(MARK, on_gpu)])
    for _ in range(WARM_UP):
        workload()
    workload.synchronize()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        _run(workload, steps)
    try:
        # torch compresses where the name ends in .gz.
        with replace_atomically(trace) as partial:
            profiler.export_chrome_trace(str(partial))
            events = _events(partial)
    except OSError as error:
        raise DataError(f"{trace}: cannot be written ({error.strerror or error})") from None
    kind = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    operators = [Operator(one.key, one.count, getattr(one, kind) / 1e6) for one in profiler.key_averages()]
    return TorchProfile(
        steps_s=tuple(stop - start for start, stop in step_windows(events)),
        phases_s=phase_times(events, steps),
        operators=tuple(
            sorted(
                (one for one in operators if one.self_time_s > 0 and not one.name.startswith(MARK)),
                key=lambda one: -one.self_time_s,
            )
        ),
        kernel_idle=kernel_idle(events),
        gpu=torch.cuda.get_device_name(device) if on_gpu else None,
    )


def mark_only(cell: Cell, device: torch.device, steps: int) -> None:
    """Run the steps with NVTX ranges and without torch's profiler, for ``nsys profile etad-bench profile --nvtx``."""
    workload = Workload(cell.config, cell.task, device, [PhaseRanges(MARK, nvtx=True)])
    for _ in range(WARM_UP):
        workload()
    _run(workload, steps)


def step_windows(events: Iterable[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return begin and end of every profiled step, in s."""
    return sorted(_span(event) for event in events if _is_range(event) and event["name"] == STEP)


def phase_times(events: Iterable[dict[str, Any]], steps: int) -> dict[str, float]:
    """Return for every phase its time per step on the host, in s, in the order in which phases began."""
    totals: dict[str, float] = defaultdict(float)
    ranges = [event for event in events if _is_range(event) and event["name"] != STEP]
    for event in sorted(ranges, key=lambda event: float(event["ts"])):
        totals[event["name"].removeprefix(MARK)] += event["dur"] / 1e6
    return {name: total / steps for name, total in totals.items()}


def kernel_idle(events: Sequence[dict[str, Any]]) -> float | None:
    """Return the part of the steps' time during which nothing ran on the GPU; None if nothing ever did."""
    busy = sorted(_span(event) for event in events if event.get("cat") in KERNELS)
    windows = step_windows(events)
    if not busy or not windows:
        return None
    total = sum(stop - start for start, stop in windows)
    covered = 0.0
    for start, stop in windows:
        reached = start
        for begin, end in busy:
            # Kernels of several streams overlap; what is covered already does not count again.
            begin, end = max(begin, reached), min(end, stop)
            if end > begin:
                covered += end - begin
                reached = end
    return 1 - covered / total


def _run(workload: Workload, steps: int) -> None:
    for _ in range(steps):
        with record_function(STEP):
            workload()
            workload.synchronize()


def _events(path: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    events: list[dict[str, Any]] = json.loads(content)["traceEvents"]
    return events


def _is_range(event: dict[str, Any]) -> bool:
    return event.get("cat") == "user_annotation" and str(event["name"]).startswith(MARK)


def _span(event: dict[str, Any]) -> tuple[float, float]:
    """Return begin and end in s; the trace counts in µs."""
    return event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6
