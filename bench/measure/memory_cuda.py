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
from bench.machine.process_memory import ProcessMemory, ProcessMeter
from bench.measure.workload import Workload
from bench.predict.allocator import Usage
from bench.predict.memory import MOST_STEPS, StepMemory, is_steady, largest
from bench.predict.recorder import INFERENCE, Category
from bench.records.names import LEVELS
from bench.torch_internals.allocator_history import dump_history, on_out_of_memory, record_history, stop_history
from etad.config import Config
from etad.data.batch import Batch
from etad.errors import DeviceError
from etad.host_memory import host_rss_peak_bytes
from etad.phases import Phase

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
        """See etad.phases.Listener."""
        self._close()
        self.phase = str(phase)
        self._marks.phases.append((_now_us(), self.phase))

    def end(self, phase: Phase | str) -> None:
        """See etad.phases.Listener."""
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
        """See etad.phases.Listener."""
        if phase in (Phase.UPDATE_DETECTOR, Phase.UPDATE_ENCODER) and self.workload is not None:
            self._marks.label((p.grad for p in self.workload.model.parameters()), Category.GRADIENT)

    def end(self, phase: Phase) -> None:
        """See etad.phases.Listener."""
        if phase in (Phase.UPDATE_DETECTOR, Phase.UPDATE_ENCODER) and self.workload is not None:
            optimizer = self.workload.optimizer
            assert optimizer is not None
            tensors = (t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor))
            self._marks.label(tensors, Category.OPTIMIZER_STATE)


class _Steps:
    """Steps on the GPU; the fields are what is known of them so far, and so when memory runs out.

    Attributes:
        parameter_bytes, static, taken, reserves: None or empty until they are known; see :class:`CudaMemory`.
        recorded: the marks of the snapshot, once that is written.
    """

    def __init__(self, config: Config, task: Task, device: torch.device, recording: Recording | None) -> None:
        self._config, self._task, self._device, self._recording = config, task, device, recording
        self._marks = Marks()
        self.peaks = PhasePeaks(device, self._marks)
        self.parameter_bytes: int | None = None
        self.static: Usage | None = None
        self.taken: list[StepMemory] = []
        self.reserves: list[int] = []
        self.recorded: Marks | None = None
        if recording is not None:
            record_history(recording.frames)

    def run(self) -> None:
        """Build the model, and take steps until what is reserved is steady."""
        workload = self._build()
        self.static = usage_of(self._device, "current")
        self.peaks.reset()
        while len(self.taken) < MOST_STEPS and not is_steady(self.reserves):
            self._take(workload)
            if len(self.taken) == RECORDED_STEPS:
                self.finish_recording()

    def finish_recording(self) -> None:
        """Write the snapshot, if there is to be one and it is not written yet, and record no more."""
        if self._recording is not None and self.recorded is None:
            dump_history(self._recording.path)
            stop_history()
            self.recorded = copy.deepcopy(self._marks)

    def _build(self) -> Workload:
        holders = _Holders(self._marks)
        of_training = (self.peaks, holders) if self._recording else (self.peaks,)
        listeners = () if self._task == "infer" else of_training
        workload = holders.workload = Workload(self._config, self._task, self._device, listeners, self._batch)
        held = [*workload.model.parameters(), *workload.model.buffers()]
        # cuDNN keeps all weights of an LSTM in one storage.
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
        self.parameter_bytes = sum(storages.values())
        self._marks.label(iter(held), Category.PARAMETER)
        return workload

    def _batch(self) -> Batch:
        batch = placed(random_batch(self._config), self._config, self._device)
        self._marks.label(iter((batch.input_, *batch.segments, *batch.labels)), Category.INPUT)
        return batch

    def _take(self, workload: Workload) -> None:
        self._marks.steps.append(_now_us())
        if self._task == "infer":
            # Detection is one phase here.
            self.peaks.begin(INFERENCE)
            workload()
            self.peaks.end(INFERENCE)
        else:
            workload()
        workload.synchronize()
        self.taken.append(self.peaks.take())
        self.reserves.append(usage_of(self._device, "current").reserved_bytes)


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
    steps, out_of_memory = _Steps(config, task, device, recording), None
    try:
        steps.run()
    except torch.OutOfMemoryError:
        out_of_memory = MeasuredOutOfMemory(
            step=None if steps.static is None else len(steps.taken),
            phase=steps.peaks.phase,
            asked_bytes=asked[-1] if asked else None,
            unknown="" if asked else unknown or "the allocator did not tell what was asked for",
            usage=usage_of(device, "current"),
        )
        # Memory that ran out is what one wants to look at.
        steps.finish_recording()
    stats = torch.cuda.memory_stats(device)
    return CudaMemory(
        gpu=torch.cuda.get_device_name(device),
        parameter_bytes=steps.parameter_bytes,
        static=steps.static,
        steps=tuple(steps.taken),
        settled=is_steady(steps.reserves),
        retries=stats["num_alloc_retries"],
        out_of_memory_errors=stats["num_ooms"],
        process=meter.read(device),
        reserved_bytes=usage_of(device, "current").reserved_bytes,
        host_rss_peak_bytes=host_rss_peak_bytes(),
        out_of_memory=out_of_memory,
        marks=steps.recorded,
    )


def usage_of(device: torch.device, which: str) -> Usage:
    """Return the allocator's counters: "current", or their "peak" since the last reset."""
    stats = torch.cuda.memory_stats(device)
    levels = {f"{level}_bytes": stats[f"{level}_bytes.all.{which}"] for level in LEVELS}
    return Usage(**levels, segments=stats[f"segment.all.{which}"])


def _now_us() -> int:
    return time.time_ns() // 1000
