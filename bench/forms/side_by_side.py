"""Variants of one computation side by side: their times in one run, and how far their numbers differ.

All variants live in one process, with the same weights, batch and draws, and take turns, so that whatever happens to
the machine happens to all of them. The first one named is the reference.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from bench.batches import placed, random_batch
from bench.cells import Cell, Task
from bench.forms.differences import difference_metrics, differing, first_numbers
from bench.forms.float64_gradients import METHOD, compare_in_float64
from bench.machine.clocks import Round, Stopwatch, clock_of, listening_s
from bench.machine.environment import collect_environment, device_slug
from bench.machine.processes import Outcome, run_isolated
from bench.measure.roofs import measure_roof
from bench.measure.rounds import Limits, take_rounds
from bench.measure.timing import TIMEOUT_S, Timing
from bench.measure.workload import Workload
from bench.predict.memory import predict_memory
from bench.predict.step_costs import COUNTING_TIMEOUT_S, Counts, count_cell
from bench.records.draft import Draft, draft
from bench.records.record import Metric, Metrics, Record
from bench.suites.throughput import (
    arithmetic_metrics,
    asked,
    bound_finding,
    counting_findings,
    exceeded,
    phase_metrics,
    roof_metrics,
    sampled,
    shortfall,
    stability_finding,
    time_metrics,
)
from bench.timing_statistics import median, warmup_rounds
from etad.config import Config, parse_config
from etad.distributed import choose_device, compute_on
from etad.variants import with_variant

MEMORY_LEVELS = ("allocated", "reserved")


@dataclass(frozen=True)
class Compared:
    """Task the process of one comparison returns, by variant; ``differences`` are to the first one."""

    timings: dict[str, Timing]
    differences: dict[str, dict[str, float]]


def variant_cells(cell: Cell, names: Sequence[str]) -> dict[str, Cell]:
    """Return the cell in every variant's form.

    Args:
        cell: the setting.
        names: of variants; "fast:bf16" is the variant fast at another precision than the cell's.

    Raises:
        ConfigError: a variant is not known, or does not go with the cell's settings.
    """
    cells = {}
    for name in names:
        form, _, precision = name.partition(":")
        tree = with_variant(cell.config, form).resolved()
        if precision:
            tree["step"]["precision"] = precision
        # The checks between settings ran before the variant came in.
        cells[name] = replace(cell, config=parse_config(tree, f"variant {name}"))
    return cells


def compare_cell(configs: dict[str, Config], task: Task, device_name: str, limits: Limits) -> Compared:
    """Time variants in turn; called in a process of its own."""
    device = compute_on(device_name)
    clock = clock_of(device)
    roofs = {name: measure_roof(device, config) for name, config in configs.items()}
    watches = {name: Stopwatch(clock) for name in configs}
    torch.manual_seed(0)
    batch = random_batch(next(iter(configs.values())))
    workloads: dict[str, Workload] = {}
    for name, config in configs.items():
        batches = itertools.repeat(placed(batch, config, device)).__next__
        workloads[name] = Workload(config, task, device, [watches[name]], batches)
        # Forms may draw their initial weights in another order.
        workloads[name].model.load_state_dict(next(iter(workloads.values())).model.state_dict())
    reference, *others = configs
    of_reference = first_numbers(workloads[reference])
    differences = {name: differing(of_reference, first_numbers(workloads[name])) for name in others}
    del of_reference
    rounds = take_rounds(list(workloads.values()), list(watches.values()), limits)
    cost_s = listening_s(clock)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    # Whatever else runs on the machine only ever lowers what is reached.
    roofs = {name: roofs[name].best(measure_roof(device, config)) for name, config in configs.items()}
    timings = {
        name: Timing(tuple(taken), workloads[name].amounts, roofs[name], clock.method, cost_s, gpu)
        for name, taken in zip(configs, rounds, strict=True)
    }
    return Compared(timings, differences)


def predicted_peaks(config: Config, task: Task) -> dict[str, int]:
    """Return the predicted peak of memory on a GPU in bytes, by level; called in a process of its own."""
    steady = predict_memory(config, task=task).low.steady
    assert steady is not None
    return {level: getattr(steady.peak, f"{level}_bytes") for level in MEMORY_LEVELS}


def compare_variants(
    cell: Cell, names: Sequence[str], task: Task, device_name: str, limits: Limits, row: str | None = None
) -> Iterator[Record]:
    """Yield the record of one cell in every variant's form, the reference first.

    Args:
        cell: the setting.
        names: the variants; the first is the reference of all ratios and differences.
        task: "train" or "infer".
        device_name: as of ``--device``.
        limits: when to stop.
        row: name of the row of a fixed list, if it is one.

    Raises:
        UserError: no such device or variant.
    """
    environment = collect_environment()
    cells = variant_cells(cell, names)
    configs = {name: one.config for name, one in cells.items()}
    outcome = run_isolated(compare_cell, configs, task, device_name, limits, timeout_s=TIMEOUT_S)
    found = outcome.value
    in_float64 = float64_metrics(configs, task, device_name) if found else {}
    for name, one in cells.items():
        question = asked(task, False, environment, device_name)
        question.measurement.update({"variant": name, "variants": list(names), "row": row})
        if found is not None:
            question = question.on(device_slug(environment, found.timings[name].device))
        command = f"{one.command if row is None else 'etad-bench throughput'} --variants {','.join(names)}"
        begun = draft(replace(one, command=command), outcome, question, environment)
        if found is None:
            yield begun.failed(outcome.status, outcome.message)
            continue
        record = variant_record(name, one, found, task, begun, limits)
        yield record.model_copy(update={"metrics": record.metrics | in_float64.get(name, {})})


def variant_record(name: str, cell: Cell, found: Compared, task: Task, begun: Draft, limits: Limits) -> Record:
    """Return the record of one variant; its arithmetic and its memory are looked at in processes of their own."""
    timing, reference = found.timings[name], next(iter(found.timings.values()))
    rounds = timing.counted
    step_s = [one.duration_s for one in rounds]
    counted = run_isolated(count_cell, cell.config, task, timeout_s=COUNTING_TIMEOUT_S)
    counts = counted.value or Counts(None, None, f"counting failed: {counted.message}")
    memory = run_isolated(predicted_peaks, cell.config, task, timeout_s=COUNTING_TIMEOUT_S)
    metrics = time_metrics(timing) | roof_metrics(timing.roof) | arithmetic_metrics(counts, timing.roof, median(step_s))
    metrics["speedup_ratio"] = speedup(reference.rounds, timing.rounds)
    metrics |= memory_metrics(memory) | difference_metrics(found.differences.get(name, {}))
    findings = {"stability.step_s": stability_finding(step_s)}
    return begun.done(
        metrics,
        phases=phase_metrics(rounds, timing.method, counts),
        findings=findings | counting_findings(counts) | bound_finding(timing, counts),
        warnings=(*shortfall(rounds, limits), *exceeded(metrics)),
    )


def speedup(reference: Sequence[Round], other: Sequence[Round]) -> Metric:
    """Return how many times faster ``other`` is: the median over pairs of rounds that followed each other."""
    durations = [[one.duration_s for one in rounds] for rounds in (reference, other)]
    warm = max(map(warmup_rounds, durations))
    ratios = [before / after for before, after in zip(*(taken[warm:] for taken in durations), strict=True)]
    return sampled(ratios, "1", "time of the reference / this time, round by round, in turn")


def float64_metrics(configs: Mapping[str, Config], task: Task, device_name: str) -> dict[str, Metrics]:
    """Return how far gradients are from the reference's in float64, by variant, of those that train in fp32 on a CPU.

    See :func:`bench.forms.float64_gradients.compare_in_float64`.
    """
    in_fp32 = {name: config for name, config in configs.items() if config.step.precision == "fp32"}
    reference = next(iter(configs))
    if task != "train" or choose_device(device_name).type != "cpu" or reference not in in_fp32 or len(in_fp32) == 1:
        return {}
    outcome = run_isolated(compare_in_float64, in_fp32, timeout_s=COUNTING_TIMEOUT_S)
    if outcome.value is None:
        unknown = Metric(value=None, unit="1", reason=f"the comparison in float64 failed: {outcome.message}")
        return {name: {"detector_gradient_rounding": unknown} for name in in_fp32}
    return {name: difference_metrics(differences, METHOD) for name, differences in outcome.value.items()}


def memory_metrics(memory: Outcome[dict[str, int]]) -> Metrics:
    """Return the predicted peaks; a metric of a measured record, so their names say that they are predicted."""
    method = "predicted for a GPU of compute capability 8.0; see etad-bench memory"
    if memory.value is None:
        reason = f"the prediction failed: {memory.message}"
        return {
            f"predicted_{level}_peak_bytes": Metric(value=None, unit="bytes", reason=reason) for level in MEMORY_LEVELS
        }
    return {
        f"predicted_{level}_peak_bytes": Metric(value=value, unit="bytes", method=method, exact=True)
        for level, value in memory.value.items()
    }
