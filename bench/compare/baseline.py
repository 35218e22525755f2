"""The deterministic quantities of eight fixed cells: predicted bytes, arithmetic, parameters, operators.

They are the same on every run, so a committed baseline is compared by equality and a single tensor too many is found.
They do depend on torch, whose operators and memory formats change from release to release, and on the processor
family, which decides what some operators are made of: there is a folder of baselines for each.
"""

import platform
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import JsonValue

from bench.cells import Cell, Task
from bench.compare.compare import Compared, compare_records
from bench.compare.pairing import NotComparableError
from bench.compare.thresholds import load_gates
from bench.machine.environment import collect_environment, slug
from bench.machine.processes import run_here
from bench.predict.allocator import Usage
from bench.predict.device_rules import DEFAULT_CAPABILITY, cuda
from bench.predict.memory import METHOD, MemoryPrediction, predict_from_trace
from bench.predict.step_costs import Cost, count
from bench.predict.trace import trace_inference, trace_training
from bench.records.draft import Asked, draft
from bench.records.record import Metric, Metrics, Record
from bench.records.store import ResultStore
from etad.config import Config, load_config
from etad.models.etad import Etad

SUITE = "baseline"
TIMEOUT_S = 600.0
KEPT_LEVELS = ("requested", "allocated", "reserved")
CLASSES = 20

SHORT_VIDEO = ("data.length=8", "train.batch=1")
"""So few snippets that a trace takes a second; the number of snippets only repeats what happens for one chunk."""
FEW_PROPOSALS = ("data.length=32", "train.batch=1")
PUBLISHED_HEADS = (
    "model.detector.bins=24",
    "model.detector.boundary_bins=6",
    "model.detector.proposal_channels=128",
    "model.detector.proposal_hidden=512",
    "train.clip_norm=null",
)
"""The published detector's sizes, with which the baselines of every release were made."""
CELLS: tuple[tuple[str, tuple[str, ...], Task], ...] = (
    ("anet_e2e", SHORT_VIDEO, "train"),
    ("anet_e2e", SHORT_VIDEO, "infer"),
    ("anet_features", FEW_PROPOSALS, "train"),
    ("anet_features", FEW_PROPOSALS, "infer"),
    ("thumos_features", (*FEW_PROPOSALS, *PUBLISHED_HEADS), "infer"),
    ("quickstart", (*SHORT_VIDEO, "step.strategy=checkpointed"), "train"),
    ("quickstart", SHORT_VIDEO, "infer"),
    ("quickstart", (*SHORT_VIDEO, "step.precision=bf16"), "infer"),
)
"""Config, its changes, and what it does."""

NOT_COUNTED = ("postprocess", "evaluate", "data.window", "data.ignored_classes")
"""Settings that change nothing that is counted here; cells that differ in them alone are one."""


def baseline_folder(folder: Path) -> Path:
    """Return where the baselines of this torch and this processor family lie: ``folder/torch-2.15-x86_64``."""
    return folder / f"torch-{_release()}-{platform.machine().lower()}"


def _release() -> str:
    return ".".join(torch.__version__.split(".")[:2])


def make_baseline() -> Iterator[Record]:
    """Yield the record of every cell of :data:`CELLS`; about a second each."""
    environment = collect_environment()
    device = slug(f"cuda sm_{DEFAULT_CAPABILITY[0]}{DEFAULT_CAPABILITY[1]}")
    for name, changes, task in CELLS:
        config = load_config(name, changes)
        [outcome] = run_here(_quantities, [(config, task)], TIMEOUT_S)
        assert outcome.value is not None
        metrics, phases = outcome.value
        # torch is part of the question, so that the baselines of several releases lie side by side.
        measurement: dict[str, JsonValue] = {"task": task, "torch_release": _release()}
        asked = Asked(SUITE, "predicted", measurement, device)
        cell = Cell(config, task, {}, "etad-bench baseline save", ())
        yield draft(cell, outcome, asked, environment).done(metrics, phases=phases)


def save_baseline(folder: Path, records: list[Record]) -> list[Path]:
    """Write the records as the baseline of this torch, in place of an earlier one; return their paths.

    Raises:
        DataError: the folder cannot be written.
    """
    store = ResultStore(baseline_folder(folder))
    before = set(store.paths())
    written = [store.write(record) for record in records]
    for outdated in before.difference(written):
        outdated.unlink()
    return written


def check_baseline(folder: Path, records: list[Record]) -> Compared:
    """Compare records with the baseline of this torch.

    Raises:
        NotComparableError: there is none; the message names those that there are.
        DataError: a file of it is damaged.
    """
    there = baseline_folder(folder)
    if not ResultStore(there).paths():
        others = ", ".join(sorted(path.name for path in folder.glob("torch-*"))) or "none at all"
        raise NotComparableError(f"{there}: no baseline there (there is: {others}); etad-bench baseline save makes one")
    return compare_records(ResultStore(there).records(), records, load_gates(), ignored=NOT_COUNTED)


def _quantities(config: Config, task: Task) -> tuple[Metrics, dict[str, Metrics]]:
    trace = (trace_inference if task == "infer" else trace_training)(config, CLASSES, cuda(DEFAULT_CAPABILITY))
    memory = predict_from_trace(trace)
    costs = count(config, task, CLASSES)
    with torch.device("meta"):
        model = Etad(config, CLASSES)
    total = sum(costs.values(), start=Cost())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    metrics = {
        "parameters": _count(parameters),
        "parameter_bytes": Metric(value=memory.parameter_bytes, unit="bytes", method=METHOD, exact=True),
        **_memory(memory, None),
        **_arithmetic(total),
    }
    phases: dict[str, Metrics] = {phase: _arithmetic(cost) for phase, cost in costs.items()}
    assert memory.low.steady is not None
    for phase in memory.low.steady.phases:
        phases.setdefault(phase, {}).update(_memory(memory, phase))
    return metrics, phases


def _memory(memory: MemoryPrediction, phase: str | None) -> Metrics:
    """Return the peaks of a later step: of a phase, or of the whole step (None)."""
    usages: list[Usage] = []
    for scenario in (memory.low, memory.high):
        assert scenario.steady is not None
        usages.append(scenario.steady.peak if phase is None else scenario.steady.phases[phase])
    metrics: Metrics = {}
    for level in KEPT_LEVELS:
        low, high = (getattr(usage, f"{level}_bytes") for usage in usages)
        metrics[f"{level}_peak_bytes"] = Metric(
            value=low, low=low, high=max(low, high), unit="bytes", method=METHOD, exact=True
        )
    return metrics


def _arithmetic(cost: Cost) -> Metrics:
    return {
        "torch_counter_flops": Metric(value=cost.flops, unit="FLOP", method="torch's flop counter", exact=True),
        "lstm_formula_flops": Metric(value=cost.lstm_flops, unit="FLOP", method="formula", exact=True),
        "moved_bytes": Metric(value=cost.moved_bytes, unit="bytes", method="fake tensors", exact=True),
        "operators": _count(cost.operators),
    }


def _count(number: int) -> Metric:
    return Metric(value=number, unit="1", exact=True)
