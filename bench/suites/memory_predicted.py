"""The predicted memory of a cell as a record, without a GPU, data or weights.

Bytes are those of the low scenario, the interval reaches to the high one (see bench/predict/memory.py). Besides the
peaks, the record holds what is alive at the peak: ``held.category.*``, ``held.module.*`` and ``held.tensor.*``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from bench.cells import Cell, Task
from bench.compare.prediction_errors import NOT_VALIDATED
from bench.machine.datasheets import CONTEXT_ALLOWANCE_BYTES
from bench.machine.environment import Environment, collect_environment, slug
from bench.machine.processes import Outcome, Runner, run_all, usable_cores
from bench.predict.allocator import Usage
from bench.predict.device_rules import DEFAULT_CAPABILITY, DEFAULT_MULTIPROCESSORS
from bench.predict.fit import Fit, Target, judge_fit
from bench.predict.memory import (
    METHOD,
    Composition,
    Interval,
    MemoryPrediction,
    Scenario,
    StepMemory,
    predict_from_trace,
    trace_for_cuda,
)
from bench.predict.recorder import Trace
from bench.records.draft import Asked, draft
from bench.records.names import LEVELS, STEPS, SUITE
from bench.records.record import Failure, Metric, Metrics, Record
from bench.units import MIB
from etad.config import Config

TIMEOUT_S = 600.0
MOST_WORKERS = 2
"""Processes at a time; each takes about 0.9 GiB of host memory for the published model."""


@dataclass(frozen=True)
class CellPrediction:
    """What a cell's process returns: the prediction, and whether it fits the GPU, if one was named."""

    memory: MemoryPrediction
    fit: Fit | None


def predict_cell(config: Config, task: Task, target: Target | None) -> CellPrediction:
    """Predict a cell; called in a process of its own."""
    trace = trace_cell(config, task, target)
    memory = predict_from_trace(trace, context_bytes=None if target is None else target.context_bytes)
    return CellPrediction(memory, None if target is None else judge_fit(memory, target, trace))


def trace_cell(config: Config, task: Task, target: Target | None) -> Trace:
    """Trace a cell with the rules of its GPU."""
    capability = DEFAULT_CAPABILITY if target is None else target.compute_capability
    profile = None if target is None else target.profile
    multiprocessors = DEFAULT_MULTIPROCESSORS if profile is None else profile.multiprocessors
    return trace_for_cuda(config, task=task, compute_capability=capability, multiprocessors=multiprocessors)


def predicted_device(target: Target | None) -> str:
    """Return the slug of the device that a prediction is for."""
    return target.device if target else slug(f"cuda sm_{DEFAULT_CAPABILITY[0]}{DEFAULT_CAPABILITY[1]}")


def asked(task: Task, target: Target | None) -> Asked:
    """Return what is asked of a cell that is predicted for ``target``."""
    measurement: dict[str, JsonValue] = {
        "task": task,
        "hardware": None if target is None else target.name,
        "hardware_memory_bytes": None if target is None else target.memory_bytes,
    }
    return Asked(SUITE, "predicted", measurement, predicted_device(target))


def predict_cells(
    cells: Sequence[Cell], target: Target | None, standing: str = NOT_VALIDATED, runner: Runner = run_all
) -> Iterator[Record]:
    """Yield the record of every cell, in order; two processes at a time where there are two cores.

    Args:
        cells: what to predict.
        target: the GPU to fit; None: the rules of an A100, and as much memory as it takes.
        standing: what is known of the predictions for it (bench/compare/prediction_errors.py).
        runner: where they are predicted.
    """
    environment = collect_environment()
    keys = [_what_matters(cell) for cell in cells]
    calls = {key: (cell.config, cell.task, target) for key, cell in zip(keys, cells, strict=True)}
    workers = min(usable_cores(), MOST_WORKERS, len(calls))
    running = zip(calls, runner(predict_cell, list(calls.values()), TIMEOUT_S, workers), strict=True)
    outcomes: dict[str, Outcome[CellPrediction]] = {}
    for cell, key in zip(cells, keys, strict=True):
        while key not in outcomes:
            name, outcome = next(running)
            outcomes[name] = outcome
        yield prediction_record(cell, outcomes[key], target, environment, standing)


def _what_matters(cell: Cell) -> str:
    """Return what cells have in common that one prediction serves; a ratio without effect is not part of it."""
    config = cell.config
    if config.step.strategy in ("frozen", "checkpointed"):
        config = config.model_copy(update={"step": config.step.model_copy(update={"snippet_ratio": 1.0})})
    return f"{cell.task} {config.model_dump_json()}"


def prediction_record(
    cell: Cell,
    outcome: Outcome[CellPrediction],
    target: Target | None,
    environment: Environment,
    standing: str = NOT_VALIDATED,
) -> Record:
    """Return the record of a cell: status "predicted", "oom" if it does not fit, or how its process failed."""
    begun, found = draft(cell, outcome, asked(cell.task, target), environment), outcome.value
    if found is None:
        return begun.failed(outcome.status, outcome.message)
    return begun.done(
        _metrics(found, target),
        phases={phase: _step_metrics(found.memory, phase) for phase in _phases(found.memory)},
        failure=_failure(found, target),
        warnings=(standing, *_warnings(found.memory, target)),
    )


def _failure(found: CellPrediction, target: Target | None) -> Failure | None:
    if found.fit is None or target is None or found.fit.verdict != "no":
        return None
    out_of_memory, composition = found.fit.out_of_memory, found.memory.composition
    return Failure(
        message=f"does not fit {target.name}: {found.fit.reason}",
        phase=out_of_memory.phase if out_of_memory else composition.phase if composition else None,
        requested_bytes=out_of_memory.size_bytes if out_of_memory else None,
    )


def _metrics(found: CellPrediction, target: Target | None) -> Metrics:
    memory, fit = found.memory, found.fit
    metrics = _step_metrics(memory, None)
    for level in LEVELS:
        peaks = [metrics[f"{step}_step_{level}_peak_bytes"] for step in STEPS]
        highs = [peak.value if peak.high is None else peak.high for peak in peaks]
        interval = Interval(*(int(max(number or 0 for number in bound)) for bound in ([p.value for p in peaks], highs)))
        metrics[f"{level}_peak_bytes"] = _bytes(interval)
        each = Interval(*(size // memory.videos for size in interval))
        metrics[f"{level}_per_video_bytes"] = _bytes(each, f"peak / batch of {memory.videos}; {METHOD}")
    if memory.process is not None:
        metrics["process_peak_bytes"] = _bytes(memory.process, f"reserved and CUDA context; {METHOD}")
    else:
        why = "the CUDA context belongs to it, and no hardware was named" if target is None else target.context_unknown
        metrics["process_peak_bytes"] = Metric(
            value=None, unit="bytes", reason=f"{why}; it is reserved and the context"
        )
    metrics["parameter_bytes"] = Metric(value=memory.parameter_bytes, unit="bytes", method=METHOD, exact=True)
    if memory.composition is not None:
        metrics |= _composition(memory.composition)
    if fit is not None:
        if fit.margin is None:
            margin = Metric(value=None, unit="bytes", reason=fit.reason)
        else:
            low, high = fit.margin
            margin = Metric(value=high, low=low, high=high, unit="bytes", method=METHOD, exact=True)
        metrics["margin_bytes"] = margin
        fits = {"yes": 1, "no": 0, "uncertain": None}[fit.verdict]
        metrics["fits"] = Metric(value=fits, unit="1", reason=fit.reason if fits is None else None, exact=True)
    return metrics


def _step_metrics(memory: MemoryPrediction, phase: str | None) -> Metrics:
    """Return the peaks of first and steady step: of a phase, or of the whole step (None)."""
    metrics: Metrics = {}
    for step in STEPS:
        low, high = (_usage(scenario, step, phase) for scenario in (memory.low, memory.high))
        if low is not None:
            for level in LEVELS:
                # Within a GPU's memory the high scenario may end early; it has no bound then, which a warning says.
                bounds = [getattr(usage, f"{level}_bytes") for usage in (low, high or low)]
                metrics[f"{step}_step_{level}_peak_bytes"] = _bytes(Interval(bounds[0], max(bounds)))
    return metrics


def _usage(scenario: Scenario, step: str, phase: str | None) -> Usage | None:
    taken: StepMemory | None = getattr(scenario, step)
    if taken is None:
        return None
    return taken.peak if phase is None else taken.phases.get(phase)


def _phases(memory: MemoryPrediction) -> Iterator[str]:
    if memory.low.steady is not None:
        yield from map(str, memory.low.steady.phases)


def _composition(found: Composition) -> Metrics:
    def held(size_bytes: int, what: str) -> Metric:
        return Metric(value=size_bytes, unit="bytes", method=what, exact=True)

    moment = f"alive at the peak of the steady step, in {found.phase}"
    metrics = {f"held.category.{name}_bytes": held(size, moment) for name, size in found.categories.items()}
    metrics["held.category.rounding_bytes"] = held(found.rounding_bytes, f"blocks larger than asked for; {moment}")
    metrics |= {f"held.module.{name}_bytes": held(size, moment) for name, size in found.modules.items()}
    for number, tensor in enumerate(found.tensors, 1):
        shape = "x".join(map(str, tensor.shape))
        what = f"{tensor.category}, {tensor.module or 'step'}, {tensor.operator}, {shape}"
        metrics[f"held.tensor.{number:02}_bytes"] = held(tensor.size_bytes, what)
    return metrics


def _warnings(memory: MemoryPrediction, target: Target | None) -> Iterator[str]:
    if target is not None and target.context_bytes is None:
        allowance = CONTEXT_ALLOWANCE_BYTES // MIB
        yield f"the CUDA context, whose size is not known, comes off the margin; below {allowance} MiB it is uncertain"
    for name, scenario in (("low", memory.low), ("high", memory.high)):
        if scenario.out_of_memory is not None:
            yield f"{name} scenario: does not fit, so the upper bound of the interval is missing"
        elif not scenario.settled:
            yield f"{name} scenario: the reserve still grows after {scenario.steps} steps; the last one counts"


def _bytes(interval: Interval, method: str = METHOD) -> Metric:
    low, high = interval
    known = low == high
    bounds = (None, None) if known else (low, high)
    return Metric(value=low, low=bounds[0], high=bounds[1], unit="bytes", method=method, exact=True)
