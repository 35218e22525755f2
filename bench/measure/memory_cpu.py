"""The memory of a step that is really executed on the CPU, from the allocation events of torch's profiler.

The batch is random and the weights are initial ones, as the sizes do not depend on them. The events are those of
torch's CPU allocator, scratch of its kernels included; what libraries allocate by themselves is in the host RSS only. A
CPU has no caching allocator: what is requested is all there is to count.
"""

import json
import math
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from bench.batches import CLASSES, random_batch
from bench.cells import Task
from bench.machine.environment import collect_environment
from bench.measure.ranges import PhaseRanges
from bench.predict.memory import predict_memory
from bench.predict.recorder import INFERENCE
from bench.units import MIB
from etad.config import Config
from etad.errors import DeviceError
from etad.host_memory import host_rss_peak_bytes
from etad.infer import Detecting
from etad.models.etad import Etad
from etad.seeding import stream
from etad.step import TrainingStep
from etad.train import build_optimizer

METHOD = "torch profiler, CPU allocator"
TIMEOUT_S = 3600.0
MARK = "etad-bench "
"""Begins the name of every range that we mark in the profile."""


@dataclass(frozen=True)
class StepPeaks:
    """Requested bytes in one step: the peak of each phase and of the whole step."""

    phases: dict[str, int]
    peak_bytes: int


@dataclass(frozen=True)
class CpuMemory:
    """What was measured.

    Attributes:
        static_bytes: alive before the first step: parameters and buffers.
        first, steady: the first step and the second.
        host_rss_peak_bytes: of the whole process, torch's own code included.
    """

    static_bytes: int
    first: StepPeaks
    steady: StepPeaks
    host_rss_peak_bytes: int


def measure_cell(config: Config, task: Task) -> CpuMemory:
    """Take two steps on the CPU; run it in a process of its own.

    Raises:
        DeviceError: the step is predicted to need more memory than is free.
    """
    # The weight file, which need not exist, does not change the memory.
    encoder = config.model.encoder.model_copy(update={"weights": None})
    config = config.model_copy(update={"model": config.model.model_copy(update={"encoder": encoder})})
    refuse_what_does_not_fit(config, task)
    torch.manual_seed(0)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run_steps(config, task)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    static, steps = peaks(events)
    return CpuMemory(static, steps[0], steps[-1], host_rss_peak_bytes())


def refuse_what_does_not_fit(config: Config, task: Task) -> None:
    """Predict the step, and raise ``DeviceError`` if this machine has less memory free."""
    steady = predict_memory(config, task=task).low.steady
    assert steady is not None
    memory = collect_environment().memory
    limits = [limit for limit in (memory.available_bytes, memory.cgroup_limit_bytes) if limit is not None]
    needed = steady.peak.requested_bytes
    if limits and needed > min(limits):
        wanted, free = f"{needed / MIB:.0f} MiB", f"{min(limits) / MIB:.0f} MiB"
        raise DeviceError(
            f"--device cpu: the step needs about {wanted}, and {free} are free here; --device predict needs none of it"
        )


def run_steps(config: Config, task: Task) -> None:
    """Build the model and run it twice, marking steps and phases for the profiler."""
    model = Etad(config, CLASSES)
    if task == "infer":
        detecting = Detecting(model, config)
        for _ in range(2):
            with record_function(f"{MARK}step"):
                batch = random_batch(config)
                with record_function(f"{MARK}{INFERENCE}"):
                    detecting(batch)
                del batch
        return
    model.train()
    # At its usual first scale the first steps of fp16 overflow, and the optimizer skips them.
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0, enabled=config.step.precision == "fp16")
    ranges = PhaseRanges(MARK, nvtx=False)
    step = TrainingStep(model, build_optimizer(model, config), config, [ranges], scaler=scaler)
    for _ in range(2):
        with record_function(f"{MARK}step"):
            batch = random_batch(config)
            indices = batch.indices
            step(batch, lambda purpose, indices=indices: [stream("memory", i, purpose) for i in indices])  # type: ignore[misc]
            del batch


def peaks(events: Sequence[dict[str, Any]]) -> tuple[int, list[StepPeaks]]:
    """Return the bytes alive before the first step, and the peaks of every step, from a profile's events."""
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    ranges = [e for e in events if e.get("cat") == "user_annotation" and e["name"].startswith(MARK)]
    steps = sorted((e["ts"], e["ts"] + e["dur"]) for e in ranges if e["name"] == f"{MARK}step")
    inner = sorted((e["ts"], e["ts"] + e["dur"], e["name"].removeprefix(MARK)) for e in ranges)
    alive: list[tuple[float, int]] = []
    total = 0
    for moment, size_bytes in changes:
        total += size_bytes
        alive.append((moment, total))
    found = [
        StepPeaks(
            phases={
                name: _peak(alive, begin, end) for begin, end, name in inner if name != "step" and start <= begin < stop
            },
            peak_bytes=_peak(alive, start, stop),
        )
        for start, stop in steps
    ]
    return _peak(alive, steps[0][0], steps[0][0]), found


def _peak(alive: Sequence[tuple[float, int]], begin: float, end: float) -> int:
    """Return the largest level between two moments, that at the first one included."""
    first, last = (bisect_right(alive, (moment, math.inf)) for moment in (begin, end))
    before = alive[first - 1][1] if first else 0
    return max([before, *(level for _, level in alive[first:last])])
