"""The memory of a step that is really executed on a CUDA GPU, by the caching allocator's own counters and by NVML.

Batch and weights are random, as the sizes do not depend on them. The peaks are reset at the edges of every phase; that
of the whole step is the largest of them. Steps are taken until what is reserved stays the same, as in a prediction. The
metrics have the names of the predicted ones (memory_prediction.py), so that the two compare.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from bench.batches import placed, random_batch
from bench.cells import Task
from bench.machine.process_memory import ProcessMemory, ProcessMeter, host_rss_peak_bytes
from bench.measure.workload import Workload
from bench.predict.allocator import Usage
from bench.predict.memory import MOST_STEPS, StepMemory, is_steady, largest
from bench.predict.recorder import INFERENCE, Category
from bench.records.names import LEVELS
from bench.torch_internals.allocator_history import dump_history, on_out_of_memory, record_history, stop_history
from etad.config import Config
from etad.data.batch import Batch
from etad.errors import DeviceError
from etad.step import Phase

METHOD = "torch caching allocator"
TIMEOUT_S = 1800.0
RECORDED_STEPS = 2
"""The first step and a later one are what a snapshot shows."""


@dataclass(frozen=True)
class Recording:
    """What a snapshot is to hold.

    Attributes:
        path: file to write, in the format of torch's memory visualiser.
        frames: whether every allocation has its Python stack.
    """

    path: Path
    frames: bool = True


@dataclass
class Marks:
    """What a snapshot does not tell; times are those of its events, in microseconds since 1970.

    Attributes:
        phases: when a phase (None: none) began.
        steps: when a step began.
        held: when it was found that an address holds a tensor of a category.
    """

    phases: list[tuple[int, str | None]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    held: list[tuple[int, int, Category]] = field(default_factory=list)

    def label(self, tensors: Iterator[Tensor | None], category: Category) -> None:
        """Note where the CUDA tensors of a category lie."""
        now = _now_us()
        for tensor in tensors:
            if tensor is not None and tensor.is_cuda:
                self.held.append((now, tensor.untyped_storage().data_ptr(), category))


@dataclass(frozen=True)
class MeasuredOutOfMemory:
    """Where memory ran out.

    Attributes:
        step: 0 for the first step; None before it.
        phase: None outside any.
        asked_bytes: what the driver was asked for, None where that is not known.
        unknown: why it is not known.
        usage: what was in use when the error arrived here, the failed call's own memory freed.
    """

    step: int | None
    phase: str | None
    asked_bytes: int | None
    unknown: str
    usage: Usage


@dataclass(frozen=True)
class CudaMemory:
    """What was measured.

    Attributes:
        gpu: its name.
        parameter_bytes: parameters and buffers.
        static: in use before the first step; None if memory ran out before.
        steps: all steps that were taken.
        settled: whether what is reserved had become steady.
        retries: how often the cache had to be emptied to make room.
        out_of_memory_errors: that the allocator raised.
        process: of the whole process, with what the allocator had reserved at that moment.
        host_rss_peak_bytes: of the process, torch's own code included.
        out_of_memory: None if all went well.
        marks: for the snapshot, if one was written.
    """

    gpu: str
    parameter_bytes: int | None
    static: Usage | None
    steps: tuple[StepMemory, ...]
    settled: bool
    retries: int
    out_of_memory_errors: int
    process: ProcessMemory
    reserved_bytes: int
    host_rss_peak_bytes: int
    out_of_memory: MeasuredOutOfMemory | None
    marks: Marks | None


class PhasePeaks:
    """A step's listener: the allocator's peaks in every phase, and between phases.

    Attributes:
        phase: the one that runs; None between phases.
    """

    def __init__(self, device: torch.device, marks: Marks) -> None:
        self.phase: str | None = None
        self._device, self._marks = device, marks
        self._phases: dict[str, Usage] = {}
        self._all: list[Usage] = []

    def begin(self, phase: Phase | str) -> None:
        """See etad.step.Listener."""
        self._close()
        self.phase = str(phase)
        self._marks.phases.append((_now_us(), self.phase))

    def end(self, phase: Phase | str) -> None:
        """See etad.step.Listener."""
        self._close()
        self.phase = None
        self._marks.phases.append((_now_us(), None))

    def reset(self) -> None:
        """Forget what was before a step."""
        self._phases, self._all = {}, []
        torch.cuda.reset_peak_memory_stats(self._device)

    def take(self) -> StepMemory:
        """Return the step's peaks."""
        self._close()
        step = StepMemory(self._phases, largest(self._all))
        self.reset()
        return step

    def _close(self) -> None:
        peak = usage_of(self._device, "peak")
        self._all.append(peak)
        if self.phase is not None:
            self._phases[self.phase] = peak
        torch.cuda.reset_peak_memory_stats(self._device)


class _Holders:
    """A step's listener: notes which memory is gradients and optimizer state, once these exist."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self.workload: Workload | None = None

    def begin(self, phase: Phase) -> None:
        """See etad.step.Listener."""
        if phase in (Phase.UPDATE_DETECTOR, Phase.UPDATE_ENCODER) and self.workload is not None:
            self._marks.label((p.grad for p in self.workload.model.parameters()), Category.GRADIENT)

    def end(self, phase: Phase) -> None:
        """See etad.step.Listener."""
        if phase in (Phase.UPDATE_DETECTOR, Phase.UPDATE_ENCODER) and self.workload is not None:
            optimizer = self.workload.optimizer
            assert optimizer is not None
            tensors = (t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor))
            self._marks.label(tensors, Category.OPTIMIZER_STATE)


def measure_cell(config: Config, task: Task, recording: Recording | None = None) -> CudaMemory:
    """Take steps on the GPU until what is reserved is steady; run it in a process of its own.

    Raises:
        DeviceError: there is no CUDA GPU.
    """
    if not torch.cuda.is_available():
        raise DeviceError("there is no CUDA GPU here; use --device predict")
    meter = ProcessMeter()
    device = torch.device("cuda", torch.cuda.current_device())
    asked: list[int] = []
    unknown = on_out_of_memory(lambda number, size_bytes, total_bytes, free_bytes: asked.append(size_bytes))
    marks = Marks()
    peaks, holders = PhasePeaks(device, marks), _Holders(marks)
    if recording is not None:
        record_history(recording.frames)
    steps: list[StepMemory] = []
    reserves: list[int] = []
    static: Usage | None = None
    parameter_bytes: int | None = None
    out_of_memory: MeasuredOutOfMemory | None = None
    recorded: Marks | None = None

    def batches() -> Batch:
        batch = placed(random_batch(config), config, device)
        marks.label(iter((batch.input_, *batch.segments, *batch.labels)), Category.INPUT)
        return batch

    try:
        listeners = () if task == "infer" else (peaks, holders) if recording else (peaks,)
        workload = holders.workload = Workload(config, task, device, listeners, batches)
        held = [*workload.model.parameters(), *workload.model.buffers()]
        # cuDNN keeps all weights of an LSTM in one storage.
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
        parameter_bytes = sum(storages.values())
        marks.label(iter(held), Category.PARAMETER)
        static = usage_of(device, "current")
        peaks.reset()
        while len(steps) < MOST_STEPS and not is_steady(reserves):
            marks.steps.append(_now_us())
            if task == "infer":
                peaks.begin(INFERENCE)
            workload()
            if task == "infer":
                peaks.end(INFERENCE)
            workload.synchronize()
            steps.append(peaks.take())
            reserves.append(usage_of(device, "current").reserved_bytes)
            if recording is not None and len(steps) == RECORDED_STEPS:
                recorded = _finish(recording, marks)
    except torch.OutOfMemoryError:
        number = None if static is None else len(steps)
        reason = unknown or "the allocator did not tell what was asked for"
        in_use = usage_of(device, "current")
        out_of_memory = MeasuredOutOfMemory(
            number, peaks.phase, asked[-1] if asked else None, "" if asked else reason, in_use
        )
        if recording is not None and recorded is None:
            # Memory that ran out is what one wants to look at.
            recorded = _finish(recording, marks)
    stats = torch.cuda.memory_stats(device)
    return CudaMemory(
        gpu=torch.cuda.get_device_name(device),
        parameter_bytes=parameter_bytes,
        static=static,
        steps=tuple(steps),
        settled=is_steady(reserves),
        retries=stats["num_alloc_retries"],
        out_of_memory_errors=stats["num_ooms"],
        process=meter.read(device),
        reserved_bytes=usage_of(device, "current").reserved_bytes,
        host_rss_peak_bytes=host_rss_peak_bytes(),
        out_of_memory=out_of_memory,
        marks=recorded,
    )


def _finish(recording: Recording, marks: Marks) -> Marks:
    """Write the snapshot, record no more, and return the marks that belong to it."""
    dump_history(recording.path)
    stop_history()
    return copy.deepcopy(marks)


def usage_of(device: torch.device, which: str) -> Usage:
    """Return the allocator's counters: "current", or their "peak" since the last reset."""
    stats = torch.cuda.memory_stats(device)
    levels = {f"{level}_bytes": stats[f"{level}_bytes.all.{which}"] for level in LEVELS}
    return Usage(**levels, segments=stats[f"segment.all.{which}"])


def _now_us() -> int:
    return time.time_ns() // 1000
