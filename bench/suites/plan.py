"""Which settings fit a GPU, least arithmetic first; and which GPUs a wanted setting fits.

A search goes through strategies, precisions and recomputation. For each it walks along the border between what fits and
what does not: memory grows with the batch and with the chunk, so the largest chunk that fits can only fall as the batch
rises. Recomputation costs arithmetic, so it is only tried where the same batch and chunk do not fit without.
"""

import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from bench.cells import Cell
from bench.machine.datasheets import HardwareProfile
from bench.machine.environment import Environment, collect_environment
from bench.machine.processes import Outcome, run_all, usable_cores
from bench.predict.fit import Target, judge_fit, judge_within, predict_within
from bench.predict.matrix_products import cublas_workspace_bytes
from bench.predict.memory import MemoryPrediction, predict_from_trace, trace_for_cuda
from bench.predict.quick_flops import arithmetic_per_video
from bench.predict.recorder import Trace
from bench.records.record import Metric, Record
from bench.suites.memory_predicted import MOST_WORKERS, CellPrediction, prediction_record
from etad.config import Config, Precision, Strategy, parse_config
from etad.errors import DataError

TIMEOUT_S = 1800.0
CHUNKED: tuple[Strategy, ...] = ("sequential", "checkpointed")
"""Strategies whose gradient takes ``chunk`` snippets at once; in the others a chunk only divides the first pass."""

Kind = tuple[Strategy, Precision]


@dataclass(frozen=True)
class Search:
    """What to try.

    Attributes:
        strategies, precisions, batches, chunks: all combinations, pruned as the module's text says.
        recomputation: whether the encoder recomputes its stages (``model.encoder.checkpointing``); False first.
    """

    strategies: tuple[Strategy, ...] = ("sequential", "joint", "checkpointed")
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    batches: tuple[int, ...] = (1, 2, 4, 8)
    chunks: tuple[int, ...] = (1, 2, 4, 8)
    recomputation: tuple[bool, ...] = (False, True)


@dataclass(frozen=True)
class Option:
    """A setting that was predicted, what came out, when the prediction began (UTC) and how long it took."""

    config: Config
    found: CellPrediction
    started_at: datetime
    duration_s: float


def plan(base: Config, target: Target, search: Search, command: Sequence[str]) -> Iterator[list[Record]]:
    """Yield, for every family of settings, the records of what fits ``target``, surely or perhaps.

    Args:
        base: the experiment; the search changes its settings.
        target: the GPU.
        search: what to try.
        command: command line without the settings.

    Raises:
        DataError: a family's process died; the message says how.
    """
    environment = collect_environment()
    kinds = _families(search)
    calls = [(base, target, search, family) for family in kinds]
    outcomes = run_all(explore_family, calls, TIMEOUT_S, min(usable_cores(), MOST_WORKERS))
    for family, outcome in zip(kinds, outcomes, strict=True):
        if outcome.value is None:
            names = "; ".join(", ".join(kind) for kind in family)
            raise DataError(f"{names}: not predicted, {outcome.message}")
        yield [_record(option, target, environment, [*command, *_settings(option.config)]) for option in outcome.value]


def families(search: Search) -> int:
    """Return how many times :func:`plan` yields."""
    return len(_families(search))


def _families(search: Search) -> list[list[Kind]]:
    """Return what each process searches: a strategy, or a precision where there is one strategy.

    To start a process takes as long as to predict two settings, so there are few of them.
    """
    # Whole-graph recomputation makes the longest steps to simulate, so it begins.
    strategies = sorted(search.strategies, key=lambda name: name != "checkpointed")
    if len(strategies) > 1:
        return [[(strategy, precision) for precision in search.precisions] for strategy in strategies]
    return [[(strategies[0], precision)] for precision in search.precisions]


def explore_family(base: Config, target: Target, search: Search, kinds: Sequence[Kind]) -> list[Option]:
    """Return what :func:`explore` finds for each of ``kinds``; called in a process of its own."""
    return [option for kind in kinds for option in explore(base, target, search, *kind)]


def explore(base: Config, target: Target, search: Search, strategy: Strategy, precision: Precision) -> list[Option]:
    """Walk along the border of one strategy and precision; return what fits on its way, surely or perhaps."""
    chunks = sorted(search.chunks) if strategy in CHUNKED else [base.step.chunk]
    # Whole-graph recomputation of stages that recompute themselves would compute them twice.
    recomputation = (False,) if strategy == "checkpointed" else search.recomputation
    options: list[Option] = []
    fits_without: dict[int, int] = {}
    for recompute in recomputation:
        largest = len(chunks) - 1
        for batch in sorted(search.batches):
            for position in range(largest, -1, -1):
                chunk = chunks[position]
                if chunk <= fits_without.get(batch, 0):
                    break
                config = with_settings(base, strategy, precision, batch, chunk, recompute)
                started_at, begun = datetime.now(UTC), time.perf_counter()
                trace = trace_for_cuda(config, compute_capability=target.compute_capability)
                memory = predict_within(trace, target)
                fit = judge_within(memory, target)
                if fit.verdict == "no":
                    largest = position - 1
                    continue
                found = CellPrediction(memory, fit)
                options.append(Option(config, found, started_at, time.perf_counter() - begun))
                if fit.verdict == "yes":
                    if not recompute:
                        fits_without[batch] = chunk
                    break
    return options


def with_settings(
    base: Config, strategy: Strategy, precision: Precision, batch: int, chunk: int, recompute: bool
) -> Config:
    """Return the experiment with these settings."""
    tree = base.resolved()
    tree["step"] |= {"strategy": strategy, "precision": precision, "chunk": chunk}
    tree["train"]["batch"] = batch
    tree["model"]["encoder"]["checkpointing"] = recompute
    return parse_config(tree, base.name)


def fastest_first(records: Sequence[Record]) -> list[Record]:
    """Sort by the least time for the arithmetic where the GPU's peak is known, else by the arithmetic itself.

    Of equal ones the larger batch, then the larger chunk, then the larger margin comes first.
    """
    return sorted(records, key=_order)


def wanted(config: Config, profiles: Sequence[HardwareProfile], command: Sequence[str]) -> Iterator[Record]:
    """Yield a record for every GPU: whether the setting fits it. GPUs with the same rules share one trace.

    Args:
        config: the setting.
        profiles: the GPUs.
        command: command line without the GPU.
    """
    environment = collect_environment()
    traced: dict[int, tuple[Trace, MemoryPrediction]] = {}
    for profile in profiles:
        started_at, begun = datetime.now(UTC), time.perf_counter()
        target = Target.of_profile(profile)
        rules = cublas_workspace_bytes(target.compute_capability)
        if rules not in traced:
            trace = trace_for_cuda(config, compute_capability=target.compute_capability)
            traced[rules] = trace, predict_from_trace(trace)
        trace, free = traced[rules]
        memory = replace(free, context_bytes=target.context_bytes)
        found = CellPrediction(memory, judge_fit(memory, target, trace))
        option = Option(config, found, started_at, time.perf_counter() - begun)
        yield _record(option, target, environment, [*command, "--hardware", profile.name])


def _settings(config: Config) -> list[str]:
    """Return the options of ``etad-bench plan`` that leave one setting."""
    step = config.step
    options = {"strategy": step.strategy, "precision": step.precision, "batch": config.train.batch, "chunk": step.chunk}
    recompute = "on" if config.model.encoder.checkpointing else "off"
    return [part for key, value in options.items() for part in (f"--{key}", str(value))] + ["--recompute", recompute]


def _record(option: Option, target: Target, environment: Environment, command: Sequence[str]) -> Record:
    """Return the memory record of a setting, with its arithmetic."""
    cell = Cell(option.config, "train", {}, shlex.join(command), ())
    outcome = Outcome("ok", option.found, "", option.started_at, option.duration_s)
    record = prediction_record(cell, outcome, target, environment)
    flop = arithmetic_per_video(option.config).total
    more = {
        "arithmetic_per_video_flop": Metric(value=flop, unit="FLOP", method="formulas of the operators", exact=True)
    }
    peak = None if target.profile is None else peak_flops_per_s(target.profile, option.config.step.precision)
    if peak is not None:
        how = "arithmetic / peak of the profile: a bound, not a measured time"
        more["arithmetic_floor_per_video_s"] = Metric(value=flop / peak, unit="s", method=how, exact=True)
    return record.model_copy(update={"metrics": record.metrics | more})


def peak_flops_per_s(profile: HardwareProfile, precision: Precision) -> float | None:
    """Return a GPU's peak for a precision of ours; None where it has no such units.

    By default torch lets convolutions, which are nearly all of the arithmetic, use TF32 for fp32 where there is any.
    """
    if precision == "fp32":
        return max(profile.peak_fp32_flops_per_s, profile.peak_tf32_flops_per_s or 0.0)
    return profile.peak_flops_per_s(precision)


def _order(record: Record) -> tuple[float, int, int, float]:
    def number(name: str) -> float:
        metric = record.metrics.get(name)
        return float("inf") if metric is None or metric.value is None else float(metric.value)

    config = parse_config(record.config, record.cell_id)
    floor = number("arithmetic_floor_per_video_s")
    first = floor if floor != float("inf") else number("arithmetic_per_video_flop")
    return first, -config.train.batch, -config.step.chunk, -number("margin_bytes")
