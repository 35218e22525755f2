"""How long a cell takes: a pass for time alone, in processes of its own, and what its arithmetic says about that time.

Rounds of one call each are taken until enough of them lie behind the warm-up, which is found in the samples, not
assumed. The batch is random and on the device from the start, the weights are initial ones; time depends on neither.
It does depend on the process (where its memory lies, what else the machine does meanwhile), so there are several, one
after the other, and their rounds are put together.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any, Literal

import torch

from bench.arithmetic import arithmetic_per_video, detection_flop, snippet_flop
from bench.environment import Environment, collect_environment, device_slug
from bench.hardware import Precision, match_profile
from bench.measure.cells import HOST_KNOBS, Cell, make_cells
from bench.measure.energy import measure_energy
from bench.measure.flops import Cost, ForwardMacs, count, forward_macs
from bench.measure.host_workloads import DATA_WAIT, DataLoading, Postprocessing, RealBatches
from bench.measure.isolation import Outcome, run_all, run_isolated
from bench.measure.memory_cpu import CLASSES
from bench.measure.workload import Amounts, What, Workload, amounts_of
from bench.meters.clock import Clock, Round, Stopwatch, clock_of, listening_s
from bench.meters.energy import gpu_meter, host_meter
from bench.predict.roofline import Roof, least_times, roof_of_profile, what_bounds
from bench.probe import copy_bytes_per_s, matmul_flops_per_s
from bench.record import Failure, Metric, Metrics, Record
from bench.report.units import format_seconds
from bench.statistics import bootstrap_interval, median, median_absolute_deviation, stability, warmup_rounds
from etad.config import Config
from etad.distributed import choose_device, compute_on
from etad.step import AUTOCAST_DTYPE

SUITE = "throughput"
MOST_ROUNDS = 1000
"""Further rounds tell nothing new, and the record would hold them all."""
LEAST_ROUNDS = 2
"""So many are taken even when the time is over: one of them may be the warm-up."""
TIMEOUT_S = 6 * 3600.0
COUNTING_TIMEOUT_S = 900.0
GEMM_SIZE = 1024
COPY_BYTES = 256 * 2**20
"""Of the copy that shows a CPU's bandwidth: above the caches of any."""
TINY_OPERATIONS = 2000
USUAL_SHARE = 0.4
"""Of a matrix product's speed: what a step reaches, roughly; it only serves to warn of long measurements."""
LONG_S = 60.0
FEW_SNIPPETS = 8
OTHER = "other"


@dataclass(frozen=True)
class Limits:
    """When to stop: when both are met, in seconds and rounds after the warm-up, or when ``max_time_s`` is over.

    They are of all ``processes`` together.
    """

    min_time_s: float = 5.0
    rounds: int = 10
    max_time_s: float = 120.0
    processes: int = 1

    def of_one_process(self) -> "Limits":
        """Return the share of each process."""
        count = self.processes
        return Limits(self.min_time_s / count, math.ceil(self.rounds / count), self.max_time_s / count)

    def reached(self, rounds: Sequence[Round], elapsed_s: float) -> bool:
        """Say whether these rounds are enough."""
        if len(rounds) < LEAST_ROUNDS:
            return False
        if elapsed_s >= self.max_time_s or len(rounds) >= MOST_ROUNDS:
            return True
        durations = [one.duration_s for one in rounds]
        counted = durations[warmup_rounds(durations) :]
        return len(counted) >= self.rounds and sum(counted) >= self.min_time_s


@dataclass(frozen=True)
class Timing:
    """What a cell's process returns.

    Attributes:
        rounds: all of them, warm-up first.
        amounts: what one round works through.
        roof: what the device can do, measured for a CPU, from a data sheet for a GPU.
        method: how time was taken.
        listening_s: what telling of one phase costs.
        device: the GPU's name; None: the CPU.
        warm: how many rounds are warm-up; None: as many as the samples show.
    """

    rounds: tuple[Round, ...]
    amounts: Amounts
    roof: Roof
    method: str
    listening_s: float
    device: str | None
    warm: int | None = None

    @property
    def warmup(self) -> Sequence[Round]:
        """The rounds that are warm-up."""
        return self.rounds[: len(self.rounds) - len(self.counted)]

    @property
    def counted(self) -> Sequence[Round]:
        """The rounds after the warm-up."""
        return counted_rounds(self.rounds) if self.warm is None else self.rounds[self.warm :]


def pooled(timings: Sequence[Timing]) -> Timing:
    """Put the timings of several processes together, round by round: what differs between them is scatter, no drift."""
    warmup = [one for timing in timings for one in timing.warmup]
    rounds = [one for turn in zip_longest(*(timing.counted for timing in timings)) for one in turn if one is not None]
    first = timings[0]
    # Whatever else runs on the machine only ever lowers what is reached.
    roof = functools.reduce(Roof.best, (timing.roof for timing in timings))
    method = first.method if len(timings) == 1 else f"{first.method}; {len(timings)} processes"
    return replace(first, rounds=(*warmup, *rounds), roof=roof, method=method, warm=len(warmup))


@dataclass(frozen=True)
class Counts:
    """What a step costs by arithmetic; None with the reason where it could not be counted."""

    phases: dict[str, Cost] | None
    macs: ForwardMacs | None
    reason: str = ""

    @property
    def total(self) -> Cost | None:
        """All phases together."""
        return None if self.phases is None else sum(self.phases.values(), Cost())


def throughput_cells(
    name: str,
    knobs: Mapping[str, str | None],
    assignments: Sequence[str],
    what: What,
    device_name: str,
    real_data: bool = False,
    threads: int | None = None,
) -> list[Cell]:
    """Return the cells of all combinations of the comma lists; see :func:`bench.measure.cells.make_cells`."""
    command = ["etad-bench", "throughput", "--what", what, "--device", device_name]
    command += [] if threads is None else ["--threads", str(threads)]
    command += ["--real-data"] if real_data else []
    cells = make_cells(command, name, knobs, assignments, what == "infer")
    return [
        replace(
            cell, command=cell.command.removesuffix(" --inference"), warnings=(*cell.warnings, *_host_only(cell, what))
        )
        for cell in cells
    ]


def _host_only(cell: Cell, what: What) -> Iterator[str]:
    for option in cell.chosen:
        if what in HOST_KNOBS and option not in HOST_KNOBS[what] and f"--{option} has" not in " ".join(cell.warnings):
            yield f"--{option} has no effect: --what {what} runs no network"


def expected_duration(cells: Sequence[Cell], what: What, device_name: str, limits: Limits) -> str | None:
    """Return a warning if the cells will take long, by their arithmetic and a short matrix product; else None.

    Only a CPU is judged: on a GPU no step takes long.
    """
    if what not in ("train", "infer") or choose_device(device_name).type != "cpu":
        return None
    rate = USUAL_SHARE * matmul_flops_per_s(torch.device("cpu"), torch.float32, GEMM_SIZE // 2)
    steps_s = [_flops(cell.config, what) / rate for cell in cells]
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


def _flops(config: Config, what: What) -> int:
    if what == "train":
        return arithmetic_per_video(config).total * config.train.batch
    proposals, channels, encode = amounts_of(config, inference=True).proposals, config.data.channels, 0
    if config.data.input == "frames":
        channels, forward, _ = snippet_flop(config.model.encoder, config.data.frames)
        encode = forward * config.data.length * config.train.batch
    # Counted forward and backward, of which a third is forward.
    return encode + detection_flop(channels, config.data.length, config.model.detector, proposals) // 3


def take_rounds(
    calls: Sequence[Callable[[], object]], watches: Sequence[Stopwatch], limits: Limits
) -> list[list[Round]]:
    """Time several calls in turn until there are enough rounds of each.

    They alternate, and every other turn runs in reverse, so that a machine that becomes slower or faster does so for
    all of them.
    """
    rounds: list[list[Round]] = [[] for _ in calls]
    numbers = list(range(len(calls)))
    begun = time.perf_counter()
    while True:
        for number in numbers:
            watches[number].begin_window()
            calls[number]()
            rounds[number].append(watches[number].end_window())
        numbers.reverse()
        elapsed_s = time.perf_counter() - begun
        if all(limits.reached(taken, elapsed_s) for taken in rounds):
            return rounds


def time_cell(config: Config, what: What, device_name: str, limits: Limits, real_data: bool = False) -> Timing:
    """Time one cell; called in a process of its own.

    Raises:
        UserError: there is no such device, or the data that is asked for cannot be used.
    """
    device = compute_on(device_name)
    clock = clock_of(device)
    roof = measure_roof(device, config)
    watch = Stopwatch(clock)
    workload = workload_of(config, what, device, watch, real_data)
    (rounds,) = take_rounds([workload], [watch], limits)
    return Timing(
        rounds=tuple(rounds),
        amounts=workload.amounts,
        # Whatever else runs on the machine only ever lowers what is reached.
        roof=roof.best(measure_roof(device, config)),
        method=clock.method,
        listening_s=listening_s(clock),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    )


def time_in_processes(config: Config, what: What, device_name: str, limits: Limits, real_data: bool) -> Outcome[Timing]:
    """Time one cell in ``limits.processes`` processes, one after the other; the first that fails ends it.

    Raises:
        UserError: as :func:`time_cell`.
    """
    call = (config, what, device_name, limits.of_one_process(), real_data)
    outcomes: list[Outcome[Timing]] = []
    for outcome in run_all(time_cell, [call] * limits.processes, TIMEOUT_S):
        outcomes.append(outcome)
        if outcome.value is None:
            break
    timings = [outcome.value for outcome in outcomes if outcome.value is not None]
    duration_s = sum(outcome.duration_s for outcome in outcomes)
    last, started_at = outcomes[-1], outcomes[0].started_at
    value = None if last.value is None else pooled(timings)
    return Outcome(last.status, value, last.message, started_at, duration_s)


def workload_of(
    config: Config, what: What, device: torch.device, watch: Stopwatch, real_data: bool
) -> Workload | DataLoading | Postprocessing:
    """Return what is to be repeated; it tells ``watch`` of its phases."""
    if what == "data":
        return DataLoading(config, watch)
    if what == "post":
        return Postprocessing(config, watch, device)
    if not real_data:
        return Workload(config, what == "infer", device, [watch])
    batches = RealBatches(config, device, watch)
    return Workload(config, what == "infer", device, [watch], batches, batches.classes)


def measure_roof(device: torch.device, config: Config) -> Roof:
    """Return what ``device`` can do at the step's precision: by a GPU's data sheet, by short kernels on a CPU."""
    operator_s = _operator_s(device, clock_of(device))
    if device.type == "cpu":
        dtype = AUTOCAST_DTYPE[config.step.precision]
        return Roof(
            matmul_flops_per_s(device, dtype, GEMM_SIZE),
            copy_bytes_per_s(device, COPY_BYTES),
            operator_s,
            f"measured here: {GEMM_SIZE}x{GEMM_SIZE} {config.step.precision} matrix product, "
            f"{COPY_BYTES // 2**20} MiB copy, {torch.get_num_threads()} threads",
        )
    name, memory = torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory
    profile = match_profile(name, memory)
    if profile is None:
        return Roof(None, None, operator_s, f"{name} has no hardware profile; etad-bench profiles measure makes one")
    return roof_of_profile(profile, device_precision(config.step.precision, profile.compute_capability), operator_s)


def device_precision(precision: Literal["fp32", "bf16", "fp16"], compute_capability: str) -> Precision:
    """Return what a GPU computes with: convolutions in fp32 use TF32 units where there are some and flags allow it."""
    ampere = int(compute_capability.partition(".")[0]) >= 8
    if precision == "fp32" and ampere and torch.backends.cudnn.conv.fp32_precision == "tf32":  # type: ignore[attr-defined]
        return "tf32"
    return precision


def _operator_s(device: torch.device, clock: Clock) -> float:
    """Return what the host needs to issue one operator, in seconds: a tiny one, many times."""
    tensor = torch.zeros(1, device=device)
    best = math.inf
    for _ in range(3):
        clock.wait()
        begun = time.perf_counter()
        for _ in range(TINY_OPERATIONS):
            tensor.add_(1.0)
        best = min(best, (time.perf_counter() - begun) / TINY_OPERATIONS)
    clock.wait()
    return best


def count_cell(config: Config, what: What) -> Counts:
    """Count what a cell computes; called in a process of its own, since it needs neither the device nor its time."""
    try:
        macs, reason = forward_macs(config, what == "infer"), ""
    except Exception as error:  # torch.jit's tracer, which fvcore uses, fails in ways of its own
        macs, reason = None, f"fvcore cannot follow this model: {(str(error).splitlines() or [repr(error)])[0]}"
    return Counts(count(config, what == "infer", CLASSES), macs, reason)


def energy_cell(config: Config, what: What, device_name: str) -> tuple[Metrics, dict[str, str]]:
    """Measure what a cell costs in energy; called in a process of its own, after the one that was timed."""
    device = choose_device(device_name)
    clock = clock_of(device)
    workload = workload_of(config, what, device, Stopwatch(clock), real_data=False)
    for _ in range(LEAST_ROUNDS):
        workload()
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else None
    return measure_energy(workload, workload.amounts.videos, gpu_meter(uuid), host_meter(), clock.wait)


def measure_cells(
    cells: Sequence[Cell],
    what: What,
    device_name: str,
    limits: Limits,
    real_data: bool = False,
    energy: bool = False,
) -> Iterator[Record]:
    """Yield the record of every cell, timed one after the other.

    Args:
        cells, what: what to time.
        device_name: as of ``--device``.
        limits: when to stop.
        real_data: take batches of the data set.
        energy: measure energy, too, on a random batch, in another process.

    Raises:
        UserError: as :func:`time_cell`.
    """
    environment = collect_environment()
    for cell in cells:
        outcome = time_in_processes(cell.config, what, device_name, limits, real_data)
        counts = None
        if outcome.value is not None and what in ("train", "infer"):
            counted = run_isolated(count_cell, cell.config, what, timeout_s=COUNTING_TIMEOUT_S)
            counts = counted.value or Counts(None, None, f"counting failed: {counted.message}")
        measurement = {"what": what, "real_data": real_data}
        record = throughput_record(cell, outcome, counts, measurement, environment, device_name, limits)
        yield with_energy(record, what, device_name, cell.config) if energy and record.succeeded else record


def with_energy(record: Record, what: What, device_name: str, config: Config) -> Record:
    """Return the record with the metrics of the energy pass; null with the reason where that failed."""
    outcome = run_isolated(energy_cell, config, what, device_name, timeout_s=TIMEOUT_S)
    if outcome.value is None:
        reason = f"the energy pass failed: {outcome.message}"
        metrics, findings = {"energy_per_video_j": Metric(value=None, unit="J", reason=reason)}, dict[str, str]()
    else:
        metrics, findings = outcome.value
    return record.model_copy(update={"metrics": record.metrics | metrics, "findings": record.findings | findings})


def throughput_record(
    cell: Cell,
    outcome: Outcome[Timing],
    counts: Counts | None,
    measurement: dict[str, Any],
    environment: Environment,
    device_name: str,
    limits: Limits,
) -> Record:
    """Return the record of a timed cell, or of how its process failed."""
    found = outcome.value
    facts: dict[str, Any] = {
        "kind": "measured",
        "suite": SUITE,
        "device": device_slug(environment, found.device) if found else device_meant(environment, device_name),
        "config": cell.config.resolved(),
        "measurement": measurement,
        "environment": environment.model_dump(mode="json"),
        "command": cell.command,
        "started_at": outcome.started_at,
        "duration_s": outcome.duration_s,
    }
    if found is None:
        return Record(status=outcome.status, failure=Failure(message=outcome.message), warnings=cell.warnings, **facts)
    rounds = found.counted
    metrics = time_metrics(found) | roof_metrics(found.roof)
    findings = {"stability.step_s": str(stability([one.duration_s for one in rounds]))}
    if counts is not None:
        metrics |= arithmetic_metrics(counts, found.roof, median([one.duration_s for one in rounds]))
        findings |= counting_findings(counts)
        findings |= bound_finding(found, counts)
    return Record(
        status="ok",
        metrics=metrics,
        phases=phase_metrics(rounds, found.method, counts),
        findings=findings,
        warnings=(*cell.warnings, *shortfall(rounds, limits), *exceeded(metrics)),
        **facts,
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


def device_meant(environment: Environment, device_name: str) -> str:
    """Return the slug of the device that ``--device`` means, for a cell that did not live to tell.

    It is "cuda" for a GPU that NVML does not name.
    """
    means_gpu = environment.torch.cuda_available if device_name == "auto" else device_name != "cpu"
    return device_slug(environment, gpu_name(environment, device_name) or ("cuda" if means_gpu else None))


def gpu_name(environment: Environment, device_name: str) -> str | None:
    """Return the name by NVML of the GPU that ``--device`` means; None: it is not known, or the CPU is meant."""
    gpus = environment.gpus.found
    if device_name == "cpu" or not gpus or (device_name == "auto" and not environment.torch.cuda_available):
        return None
    _, _, index = device_name.partition(":")
    return gpus[min(int(index or 0), len(gpus) - 1)].name


def counted_rounds(rounds: Sequence[Round]) -> Sequence[Round]:
    """Return the rounds after the warm-up."""
    return rounds[warmup_rounds([one.duration_s for one in rounds]) :]


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


def counting_findings(counts: Counts) -> dict[str, str]:
    """Name the operators that the counters leave out."""
    findings = {}
    if counts.total is not None:
        findings["uncounted.torch_counter_flops"] = _listed(counts.total.uncounted)
    if counts.macs is not None:
        findings["uncounted.fvcore_forward_macs"] = _listed(counts.macs.uncounted)
    return findings


def _listed(operators: dict[str, int]) -> str:
    ordered = sorted(operators.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} x{calls}" for name, calls in ordered) or "none"


def bound_finding(found: Timing, counts: Counts) -> dict[str, str]:
    """Say in one line what bounds the run."""
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
    return {"bound": f"{bound}: {evidence}"}


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
