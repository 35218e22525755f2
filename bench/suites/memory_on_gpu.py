"""The memory of a step that was executed on a CUDA GPU, as a record for every cell."""

from collections.abc import Iterator, Sequence

from bench.batches import CLASSES
from bench.cells import Cell, Task
from bench.machine.environment import Environment, collect_environment, slug
from bench.machine.processes import Outcome, Runner, run_all
from bench.measure.memory_cuda import METHOD, TIMEOUT_S, CudaMemory, Marks, MeasuredOutOfMemory, Recording, measure_cell
from bench.records.draft import Asked, draft
from bench.records.names import LEVELS, STEPS, SUITE
from bench.records.record import Failure, Finding, Metric, Metrics, Record
from bench.units import MIB


def measure_cells(
    cells: Sequence[Cell], recording: Recording | None = None, runner: Runner = run_all
) -> Iterator[tuple[Record, Marks | None]]:
    """Yield the record of every cell, measured one after the other, with the marks of its snapshot.

    Raises:
        DeviceError: there is no CUDA GPU.
    """
    environment = collect_environment()
    outcomes = runner(measure_cell, [(cell.config, cell.task, recording) for cell in cells], TIMEOUT_S)
    for cell, outcome in zip(cells, outcomes, strict=True):
        yield cuda_record(cell, outcome, environment), outcome.value.marks if outcome.value else None


def asked(task: Task, environment: Environment) -> Asked:
    """Return what is asked of a cell on a GPU of the machine described; by its name where only one can be meant."""
    names = {state.name for state in environment.gpus.found}
    device = slug(names.pop() if len(names) == 1 else "cuda")
    return Asked(SUITE, "measured", {"task": task, "device": "cuda", "classes": CLASSES}, device)


def cuda_record(cell: Cell, outcome: Outcome[CudaMemory], environment: Environment) -> Record:
    """Return the record of a measured cell: status "ok", "oom", or how its process failed."""
    found, question = outcome.value, asked(cell.task, environment)
    if found is None:
        return draft(cell, outcome, question, environment).failed(outcome.status, outcome.message)
    exclusive = {True: "yes, as far as NVML shows", False: "no", None: "not known"}[found.process.exclusive]
    return draft(cell, outcome, question.on(slug(found.gpu)), environment).done(
        _metrics(found, cell.config.train.batch),
        phases={phase: _step_metrics(found, phase) for phase in _phases(found)},
        findings={
            "process_memory.method": Finding(verdict=found.process.method),
            "process_memory.exclusive": Finding(verdict=exclusive),
        },
        failure=None if found.out_of_memory is None else _failure(found.out_of_memory),
        warnings=_warnings(found),
    )


def _failure(shortage: MeasuredOutOfMemory) -> Failure:
    when = "before the first step" if shortage.step is None else f"in step {shortage.step + 1}"
    where = f", {shortage.phase}" if shortage.phase else ""
    asked = (
        shortage.unknown
        if shortage.asked_bytes is None
        else f"asked the driver for {shortage.asked_bytes / MIB:.1f} MiB"
    )
    held = f"{shortage.usage.reserved_bytes / MIB:.1f} MiB are reserved after it"
    return Failure(
        message=f"out of memory {when}{where}: {asked}; {held}",
        phase=shortage.phase,
        requested_bytes=shortage.asked_bytes,
    )


def _metrics(found: CudaMemory, videos: int) -> Metrics:
    metrics = _step_metrics(found, None)
    for level in LEVELS:
        if found.static is not None:
            metrics[f"{level}_static_bytes"] = _bytes(getattr(found.static, f"{level}_bytes"))
        taken = [step.peak for step in found.steps]
        if taken and found.out_of_memory is None:
            peak = max(getattr(usage, f"{level}_bytes") for usage in (taken[0], taken[-1]))
            metrics[f"{level}_peak_bytes"] = _bytes(peak)
            metrics[f"{level}_per_video_bytes"] = _bytes(peak // videos, f"peak / batch of {videos}; {METHOD}")
    metrics |= _process_metrics(found)
    if found.parameter_bytes is not None:
        metrics["parameter_bytes"] = _bytes(found.parameter_bytes, "parameters and buffers")
    metrics["host_rss_peak_bytes"] = _bytes(found.host_rss_peak_bytes, "resident peak of the whole process")
    for name, count in (("alloc_retries", found.retries), ("out_of_memory_errors", found.out_of_memory_errors)):
        metrics[name] = Metric(value=count, unit="1", method=METHOD)
    metrics["steps"] = Metric(value=len(found.steps), unit="1", method="steps taken until the reserve is steady")
    return metrics


def _process_metrics(found: CudaMemory) -> Metrics:
    """Return what the process holds; the reserve may have been larger than when that was read, so its peak counts."""
    process = found.process
    metrics: Metrics = {}
    used_bytes, reason = process.used_bytes, process.method
    if used_bytes is not None and used_bytes < found.reserved_bytes:
        used_bytes, reason = None, f"{reason}: less than what is reserved, so it counts something else"
    peak = _reserved_peak(found)
    for name, base in (("process_peak_bytes", peak), ("context_overhead_bytes", 0)):
        if used_bytes is None or base is None:
            why = reason if used_bytes is None else "memory ran out before a step was complete"
            metrics[name] = Metric(value=None, unit="bytes", reason=why)
        else:
            method = f"{reason}, less reserved" + (", and the peak of reserved" if base else "")
            metrics[name] = _bytes(used_bytes - found.reserved_bytes + base, method)
    if process.total_bytes is not None:
        metrics["device_total_bytes"] = _bytes(process.total_bytes, "NVML")
    return metrics


def _reserved_peak(found: CudaMemory) -> int | None:
    """Return the peak of what is reserved over first and steady step; None if memory ran out."""
    if found.out_of_memory is not None or not found.steps:
        return None
    return max(step.peak.reserved_bytes for step in (found.steps[0], found.steps[-1]))


def _step_metrics(found: CudaMemory, phase: str | None) -> Metrics:
    """Return the peaks of first and steady step: of a phase, or of the whole step (None)."""
    metrics: Metrics = {}
    # Where memory ran out in the second step, there is a first one only.
    ends = (found.steps[0], found.steps[-1])[: len(found.steps)] if found.steps else ()
    for name, step in zip(STEPS, ends, strict=False):
        usage = step.peak if phase is None else step.phases.get(phase)
        if usage is not None:
            for level in LEVELS:
                metrics[f"{name}_step_{level}_peak_bytes"] = _bytes(getattr(usage, f"{level}_bytes"))
    return metrics


def _phases(found: CudaMemory) -> list[str]:
    return list(dict.fromkeys(phase for step in found.steps for phase in step.phases))


def _warnings(found: CudaMemory) -> Iterator[str]:
    if found.out_of_memory is None and not found.settled:
        yield f"the reserve still grows after {len(found.steps)} steps; the last one counts"
    if found.retries:
        yield f"the cache had to be emptied {found.retries} times to make room: the step is slower than it need be"
    if found.process.exclusive is False:
        yield "other processes are on the GPU: what they hold is missing here"


def _bytes(size_bytes: int, method: str = METHOD) -> Metric:
    return Metric(value=size_bytes, unit="bytes", method=method)
