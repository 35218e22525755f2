"""How long a cell takes: a pass for time alone, in processes of its own, and what its arithmetic says about that time.

Rounds of one call each are taken until enough of them lie behind the warm-up, which is found in the samples, not
assumed. The batch is random and on the device from the start, the weights are initial ones; time depends on neither.
It does depend on the process (where its memory lies, what else the machine does meanwhile), so there are several, one
after the other, and their rounds are put together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import torch
from pydantic import JsonValue

from bench.cells import HOST_KNOBS, Cell, Task, make_cells
from bench.machine.clocks import Round
from bench.machine.environment import Environment, collect_environment, device_meant, device_slug
from bench.machine.processes import Outcome, Runner, run_all
from bench.machine.speeds import matmul_flops_per_s
from bench.measure.host_workloads import DATA_WAIT
from bench.measure.roofs import GEMM_SIZE
from bench.measure.rounds import LEAST_ROUNDS, MOST_ROUNDS, Limits
from bench.measure.timing import TIMEOUT_S, Timing, energy_cell, time_in_processes
from bench.measure.workload import amounts_of
from bench.predict.quick_flops import arithmetic_per_video, detection_flop, snippet_flop
from bench.predict.roofline import Roof, least_times, what_bounds
from bench.predict.step_costs import COUNTING_TIMEOUT_S, Cost, Counts, count_cell
from bench.records.draft import Asked, draft
from bench.records.record import Finding, Metric, Metrics, Record
from bench.timing_statistics import bootstrap_interval, median, median_absolute_deviation, stability
from bench.units import format_seconds
from etad.config import Config
from etad.distributed import choose_device

SUITE = "throughput"
USUAL_SHARE = 0.4
"""Of a matrix product's speed: what a step reaches, roughly; it only serves to warn of long measurements."""
LONG_S = 60.0
FEW_SNIPPETS = 8
OTHER = "other"


def asked(task: Task, real_data: bool, environment: Environment, device_name: str) -> Asked:
    """Return what is asked of a cell, on the machine described."""
    measurement: dict[str, JsonValue] = {"task": task, "real_data": real_data}
    return Asked(SUITE, "measured", measurement, device_meant(environment, device_name))


def throughput_cells(
    name: str,
    knobs: Mapping[str, str | None],
    assignments: Sequence[str],
    task: Task,
    device_name: str,
    real_data: bool = False,
    threads: int | None = None,
) -> list[Cell]:
    """Return the cells of all combinations of the comma lists; see :func:`bench.cells.make_cells`."""
    command = ["etad-bench", "throughput", "--what", task, "--device", device_name]
    command += [] if threads is None else ["--threads", str(threads)]
    command += ["--real-data"] if real_data else []
    cells = make_cells(command, name, knobs, assignments, task)
    return [replace(cell, warnings=(*cell.warnings, *_host_only(cell, task))) for cell in cells]


def _host_only(cell: Cell, task: Task) -> Iterator[str]:
    for option in cell.chosen:
        if task in HOST_KNOBS and option not in (*HOST_KNOBS[task], *cell.without_effect):
            yield f"--{option} has no effect: --what {task} runs no network"


def expected_duration(cells: Sequence[Cell], task: Task, device_name: str, limits: Limits) -> str | None:
    """Return a warning if the cells will take long, by their arithmetic and a short matrix product; else None.

    Only a CPU is judged: on a GPU no step takes long.
    """
    if task not in ("train", "infer") or choose_device(device_name).type != "cpu":
        return None
    rate = USUAL_SHARE * matmul_flops_per_s(torch.device("cpu"), torch.float32, GEMM_SIZE // 2)
    steps_s = [_flops(cell.config, task) / rate for cell in cells]
    total_s = sum(
        max(min(limits.rounds * step_s, limits.max_time_s), limits.min_time_s, limits.processes * LEAST_ROUNDS * step_s)
        for step_s in steps_s
    )
    if total_s < LONG_S:
        return None
    longest = f"a step takes about {format_seconds(max(steps_s))}"
    large = any(cell.config.train.batch * cell.config.data.length > FEW_SNIPPETS for cell in cells)
    hint = f"; fewer videos and snippets (--batch 1 --snippets {FEW_SNIPPETS}) take less" if large else ""
    return f"{longest} by its arithmetic, and all of this about {format_seconds(total_s)}{hint}"


def _flops(config: Config, task: Task) -> int:
    if task == "train":
        return arithmetic_per_video(config).total * config.train.batch
    proposals, channels, encode = amounts_of(config, "infer").proposals, config.data.channels, 0
    if config.data.input == "frames":
        channels, forward, _ = snippet_flop(config.model.encoder, config.data.frames)
        encode = forward * config.data.length * config.train.batch
    detect, _ = detection_flop(channels, config.data.length, config.model.detector, proposals, trains_encoder=False)
    return encode + detect


def measure_cells(
    cells: Sequence[Cell],
    task: Task,
    device_name: str,
    limits: Limits,
    real_data: bool = False,
    energy: bool = False,
    runner: Runner = run_all,
) -> Iterator[Record]:
    """Yield the record of every cell, timed one after the other.

    Args:
        cells, task: what to time.
        device_name: as of ``--device``.
        limits: when to stop.
        real_data: take batches of the data set.
        energy: measure energy, too, on a random batch, in another process.
        runner: where each pass runs.

    Raises:
        UserError: as :func:`time_cell`.
    """
    environment = collect_environment()
    for cell in cells:
        outcome = time_in_processes(cell.config, task, device_name, limits, real_data, runner)
        counts = None
        if outcome.value is not None and task in ("train", "infer"):
            # Counted when the time is taken, so that it cannot disturb.
            [counted] = runner(count_cell, [(cell.config, task)], COUNTING_TIMEOUT_S)
            counts = counted.value or Counts(None, None, f"counting failed: {counted.message}")
        question = asked(task, real_data, environment, device_name)
        record = throughput_record(cell, outcome, counts, question, environment, limits)
        yield with_energy(record, task, device_name, cell.config, runner) if energy and record.succeeded else record


def with_energy(record: Record, task: Task, device_name: str, config: Config, runner: Runner) -> Record:
    """Return the record with the metrics of the energy pass; null with the reason where that failed."""
    [outcome] = runner(energy_cell, [(config, task, device_name)], TIMEOUT_S)
    if outcome.value is None:
        reason = f"the energy pass failed: {outcome.message}"
        metrics, findings = {"energy_per_video_j": Metric(value=None, unit="J", reason=reason)}, dict[str, Finding]()
    else:
        metrics, findings = outcome.value
    return record.model_copy(update={"metrics": record.metrics | metrics, "findings": record.findings | findings})


def throughput_record(
    cell: Cell,
    outcome: Outcome[Timing],
    counts: Counts | None,
    asked: Asked,
    environment: Environment,
    limits: Limits,
) -> Record:
    """Return the record of a timed cell, or of how its process failed."""
    found = outcome.value
    if found is None:
        return draft(cell, outcome, asked, environment).failed(outcome.status, outcome.message)
    rounds = found.counted
    metrics = time_metrics(found) | roof_metrics(found.roof)
    findings = {"stability.step_s": stability_finding([one.duration_s for one in rounds])}
    if counts is not None:
        metrics |= arithmetic_metrics(counts, found.roof, median([one.duration_s for one in rounds]))
        findings |= counting_findings(counts)
        findings |= bound_finding(found, counts)
    return draft(cell, outcome, asked.on(device_slug(environment, found.device)), environment).done(
        metrics,
        phases=phase_metrics(rounds, found.method, counts),
        findings=findings,
        warnings=(*shortfall(rounds, limits), *exceeded(metrics)),
    )


def exceeded(metrics: Metrics) -> Iterator[str]:
    """Say that a step was faster than the measured peak, which then was measured too low."""
    mfu = metrics.get("mfu_ratio")
    if mfu is not None and mfu.value is not None and mfu.value > 1:
        yield f"MFU is {mfu.value:.0%}: the peak was measured too low, by other processes or too few threads"


def shortfall(rounds: Sequence[Round], limits: Limits) -> Iterator[str]:
    """Say that the time ran out before there were enough rounds."""
    if len(rounds) < min(limits.rounds, MOST_ROUNDS):
        yield f"{len(rounds)} of {limits.rounds} rounds: --max-time {limits.max_time_s:g} was over"


def sampled(samples: Sequence[float], unit: str, method: str) -> Metric:
    """Return a metric of samples: their median, with its bootstrap interval."""
    centre, interval = median(samples), bootstrap_interval(samples)
    # The median of an even number may lie outside the quantiles of resampled medians by a rounding error.
    low, high = (None, None) if interval is None else (min(interval[0], centre), max(interval[1], centre))
    return Metric(value=centre, low=low, high=high, unit=unit, samples=tuple(samples), method=method)


def time_metrics(found: Timing) -> Metrics:
    """Return durations and rates."""
    rounds = found.counted
    durations = [one.duration_s for one in rounds]
    warm = [one.duration_s for one in found.warmup]
    step = sampled(durations, "s", f"{found.method}; median of {len(rounds)} rounds after warm-up")
    metrics = {
        "step_s": step,
        "step_mad_s": Metric(value=median_absolute_deviation(durations), unit="s", method="median absolute deviation"),
        "warmup_rounds": Metric(value=len(warm), unit="1", method="rounds slower than later ones scatter"),
    }
    if warm:
        metrics["warmup_step_s"] = Metric(value=median(warm), unit="s", samples=tuple(warm), method=found.method)
    if found.device is not None:
        metrics["issue_s"] = sampled([one.issued_s for one in rounds], "s", "perf_counter until the host had issued it")
    for name, amount in asdict(found.amounts).items():
        if amount:
            metrics[f"{name}_per_s"] = _rate(amount, step, name)
    # A pair of marks for every phase, and one around the window.
    pairs = len(rounds[-1].phases) + 1
    metrics["measuring_overhead_ratio"] = Metric(
        value=pairs * found.listening_s / median(durations),
        unit="1",
        method=f"{pairs} pairs of marks of {found.listening_s * 1e6:.2f} us each, per step",
    )
    return metrics


def _rate(amount: int, step: Metric, name: str) -> Metric:
    def per_second(duration_s: float | None) -> float | None:
        return amount / duration_s if duration_s else None

    low, high = per_second(step.high), per_second(step.low)
    return Metric(value=per_second(step.value), low=low, high=high, unit="1/s", method=f"{amount} {name} / step_s")


def roof_metrics(roof: Roof) -> Metrics:
    """Return what the device can do."""

    def known(value: float | None, unit: str) -> Metric:
        if value is None:
            return Metric(value=None, unit=unit, reason=roof.source)
        return Metric(value=value, unit=unit, method=roof.source)

    return {
        "peak_flops_per_s": known(roof.peak_flops_per_s, "FLOP/s"),
        "memory_bandwidth_bytes_per_s": known(roof.bandwidth_bytes_per_s, "bytes/s"),
        "operator_issue_s": Metric(value=roof.operator_s, unit="s", method="a one-element addition, issued"),
    }


def cost_metrics(cost: Cost) -> Metrics:
    """Return what was counted on fake tensors, of a phase or of a whole step."""
    return {
        "torch_counter_flops": Metric(
            value=cost.flops, unit="FLOP", exact=True, method="torch.utils.flop_counter; 2 per multiply-add"
        ),
        "torch_counter_excess_flops": Metric(
            value=cost.excess_flops,
            unit="FLOP",
            exact=True,
            method="part of torch_counter_flops: weight gradients of grouped convolutions, counted once per group",
        ),
        "lstm_formula_flops": Metric(
            value=cost.lstm_flops, unit="FLOP", exact=True, method="2 * 4 hidden * (inputs + hidden) a step"
        ),
        "moved_bytes": Metric(
            value=cost.moved_bytes,
            unit="bytes",
            exact=True,
            method="inputs and outputs of all operators: an upper bound, without fusion and caches",
        ),
        "operators": Metric(value=cost.operators, unit="1", exact=True, method="operators that compute or move"),
        "arithmetic_intensity_flops_per_byte": _intensity(cost),
    }


def _intensity(cost: Cost) -> Metric:
    if not cost.moved_bytes:
        return Metric(value=None, unit="1", reason="nothing is moved")
    value = cost.total_flops / cost.moved_bytes
    return Metric(value=value, unit="1", exact=True, method="FLOP / moved_bytes: a lower bound")


def arithmetic_metrics(counts: Counts, roof: Roof, step_s: float) -> Metrics:
    """Return FLOPs, bytes, and how much of the device's peak a step of ``step_s`` reaches."""
    cost = counts.total
    macs = Metric(value=None, unit="1", reason=counts.reason or "not counted")
    if counts.macs is not None:
        macs = Metric(
            value=counts.macs.total,
            unit="1",
            exact=True,
            method="fvcore: every snippet and the step's proposals once forward; 1 per multiply-add, norms included",
        )
    metrics = {"fvcore_forward_macs": macs}
    if cost is None:
        return metrics | {
            "torch_counter_flops": Metric(value=None, unit="FLOP", reason=counts.reason),
            "mfu_ratio": Metric(value=None, unit="1", reason=counts.reason),
        }
    achieved = cost.total_flops / step_s
    counted = "torch_counter_flops - excess + lstm_formula_flops, recomputation included"
    mfu = Metric(value=None, unit="1", reason=f"the peak is not known: {roof.source}")
    if roof.peak_flops_per_s is not None:
        mfu = Metric(value=achieved / roof.peak_flops_per_s, unit="1", method=f"{counted}; peak: {roof.source}")
    return {
        **metrics,
        **cost_metrics(cost),
        "achieved_flops_per_s": Metric(value=achieved, unit="FLOP/s", method=f"{counted} / step_s"),
        "mfu_ratio": mfu,
    }


def stability_finding(durations_s: Sequence[float]) -> Finding:
    """Say whether the rounds would repeat."""
    found = stability(durations_s)
    return Finding(verdict=found.verdict, why=found.why)


def counting_findings(counts: Counts) -> dict[str, Finding]:
    """Name the operators that the counters leave out."""
    findings = {}
    if counts.total is not None:
        findings["uncounted.torch_counter_flops"] = Finding(verdict=_listed(counts.total.uncounted))
    if counts.macs is not None:
        findings["uncounted.fvcore_forward_macs"] = Finding(verdict=_listed(counts.macs.uncounted))
    return findings


def _listed(operators: dict[str, int]) -> str:
    ordered = sorted(operators.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} x{calls}" for name, calls in ordered) or "none"


def bound_finding(found: Timing, counts: Counts) -> dict[str, Finding]:
    """Say what bounds the run."""
    cost = counts.total
    if cost is None:
        return {}
    rounds = found.counted
    bound, evidence = what_bounds(
        median([one.duration_s for one in rounds]),
        least_times(cost.total_flops, cost.moved_bytes, cost.operators, found.roof),
        data_wait_s=median([one.phases.get(DATA_WAIT, 0.0) for one in rounds]),
        issued_s=None if found.device is None else median([one.issued_s for one in rounds]),
    )
    return {"bound": Finding(verdict=bound, why=evidence)}


def phase_metrics(rounds: Sequence[Round], method: str, counts: Counts | None) -> dict[str, Metrics]:
    """Return time, and where it was counted the cost, of every phase; "other" is what no phase accounts for."""
    names = list(dict.fromkeys(name for one in rounds for name in one.phases))
    phases = {name: {"time_s": sampled([one.phases.get(name, 0.0) for one in rounds], "s", method)} for name in names}
    rest = [max(one.duration_s - sum(one.phases.values()), 0.0) for one in rounds]
    phases[OTHER] = {"time_s": sampled(rest, "s", f"{method}; the step less its phases")}
    if counts is not None and counts.phases is not None:
        for name, cost in counts.phases.items():
            phases.setdefault(name, {}).update(cost_metrics(cost))
    return phases
