"""What cells will take before they run: memory predicted for a GPU, time from the records so far."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.cells import Task
from bench.machine.environment import Environment
from bench.machine.processes import Outcome, run_all, usable_cores
from bench.predict.fit import Target
from bench.records.record import Record
from bench.records.store import ResultStore
from bench.suites.memory_predicted import MOST_WORKERS, TIMEOUT_S, CellPrediction, predict_cell, prediction_record
from bench.suites.suite import MemoryOptions
from bench.sweep.cells import SweepCell
from bench.sweep.run import Done, Plan, failed
from bench.timing_statistics import median
from etad.config import Config
from etad.progress import progress

Call = tuple[Config, Task, Target | None]
"""What a prediction is made of."""
MOST_IN_A_PROCESS = 8
"""Predictions that one process makes, one after the other."""

NO_MEMORY = {
    "train": (
        *("epochs", "detector_lr", "encoder_lr", "weight_decay", "schedule", "lr_drop_epochs", "lr_drop", "seed"),
        "checkpoint_every_s",
    ),
    "data": (
        *("root", "annotations", "train_subsets", "test_subsets", "folds", "fold", "blocked", "min_action_fraction"),
        *("folder", "pattern", "decoded", "workers", "cache"),
    ),
}
"""Settings that no tensor of a step depends on."""


@dataclass(frozen=True)
class Estimate:
    """What is expected of a cell.

    Attributes:
        cell: the cell.
        status: of its record so far; None: there is none.
        memory: record of its predicted memory, as of ``etad-bench memory``.
        duration_s: median over records of the same cell with other seeds; None: not known.
    """

    cell: SweepCell
    status: str | None
    memory: Record
    duration_s: float | None


def estimates(
    cells: Sequence[SweepCell], plan: Plan, store: ResultStore, target: Target | None, environment: Environment
) -> list[Estimate]:
    """Return what is expected of every cell.

    Args:
        cells: of the sweep.
        plan: which of them have a record.
        store: the records so far.
        target: the GPU to predict for; None: the rules of an A100.
        environment: of this machine.
    """
    durations = _durations(store)
    statuses = {cell.cell_id: record.status for cell, record in plan.kept}
    memories = predicted_memory(cells, target, environment)
    return [
        Estimate(cell, statuses.get(cell.cell_id), memory, durations.get(_question(cell)))
        for cell, memory in zip(cells, memories, strict=True)
    ]


def predicted_memory(cells: Sequence[SweepCell], target: Target | None, environment: Environment) -> list[Record]:
    """Return the record of every cell's predicted memory; cells that need the same memory share a prediction.

    A cell that is itself a prediction for a GPU is predicted for that one.
    """
    first = {_experiment(cell): cell for cell in reversed(cells)}
    targets = {key: _target_of(cell, target) for key, cell in first.items()}
    calls = [(cell.cell.config, cell.cell.task, targets[key]) for key, cell in first.items()]
    found = {}
    for (key, cell), outcome in zip(
        first.items(), progress(_predicted(calls), "memory", len(calls), "cell"), strict=True
    ):
        found[key] = prediction_record(cell.cell, outcome, targets[key], environment)
    return [found[_experiment(cell)] for cell in cells]


def _predicted(calls: Sequence[Call]) -> Iterator[Outcome[CellPrediction]]:
    """Yield the outcome of every prediction. A process makes several, as it takes longer to start than a prediction."""
    workers = min(usable_cores(), MOST_WORKERS)
    size = max(1, min(MOST_IN_A_PROCESS, -(-len(calls) // workers)))
    parts = [calls[start : start + size] for start in range(0, len(calls), size)]
    together: Iterator[Outcome[list[CellPrediction]]] = run_all(
        predict_several, [(part,) for part in parts], TIMEOUT_S * size, workers
    )
    for part, outcome in zip(parts, together, strict=True):
        if outcome.value is None:
            # One of them failed: each by itself, to tell which.
            yield from run_all(predict_cell, part, TIMEOUT_S, workers)
            continue
        for prediction in outcome.value:
            yield Outcome("ok", prediction, "", outcome.started_at, outcome.duration_s / len(part))


def predict_several(calls: Sequence[Call]) -> list[CellPrediction]:
    """Predict several cells, one after the other; called in a process of its own."""
    return [predict_cell(*call) for call in calls]


def skipped(cells: Sequence[SweepCell], target: Target, environment: Environment) -> Iterator[Done]:
    """Yield the cells that are predicted not to fit, each with a record that says why.

    What runs on the CPU, or runs nothing, always fits.
    """
    candidates = [cell for cell in cells if cell.options.wants_gpu]
    for cell, memory in zip(candidates, predicted_memory(candidates, target, environment), strict=True):
        if memory.status == "oom" and memory.failure is not None:
            reason = Outcome[Record]("error", None, memory.failure.message, datetime.now(UTC), 0.0)
            record = failed(cell, reason, environment, "skipped")
            yield cell, record.model_copy(update={"device": target.device})


def _durations(store: ResultStore) -> dict[str, float]:
    """Return by question the median duration of the records that answered it, whatever the seed."""
    found: dict[str, list[float]] = defaultdict(list)
    for _, record in store.scan():
        if isinstance(record, Record) and record.succeeded:
            found[_key(record.suite, record.kind, record.device, record.config, record.measurement)].append(
                record.duration_s
            )
    return {key: median(values) for key, values in found.items()}


def _question(cell: SweepCell) -> str:
    asked = cell.asked
    return _key(cell.suite, asked.kind, asked.device, cell.cell.config.resolved(), asked.measurement)


def _key(suite: str, kind: str, device: str, config: Mapping[str, object], measurement: Mapping[str, object]) -> str:
    return json.dumps([suite, kind, device, _without_seed(config), measurement], sort_keys=True)


def _target_of(cell: SweepCell, target: Target | None) -> Target | None:
    own = cell.options.target if isinstance(cell.options, MemoryOptions) else None
    return own or target


def _experiment(cell: SweepCell) -> str:
    hardware = cell.options.hardware if isinstance(cell.options, MemoryOptions) else None
    config = cell.cell.config.resolved() | {"name": None, "evaluate": None}
    for section, keys in NO_MEMORY.items():
        config[section] = config[section] | dict.fromkeys(keys)
    return json.dumps([config, cell.cell.task, hardware], sort_keys=True)


def _without_seed(config: Mapping[str, object]) -> dict[str, object]:
    train = config["train"]
    assert isinstance(train, dict)
    return {**config, "train": {**train, "seed": None}}
