"""The forecast time of a cell on GPUs that are not here, as records: one for each GPU."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import JsonValue

from bench.cells import Cell
from bench.machine.datasheets import HardwareProfile
from bench.machine.environment import collect_environment, slug
from bench.machine.prices import NO_RATES, Rates
from bench.machine.processes import run_isolated
from bench.measure.roofs import device_precision
from bench.measure.workload import amounts_of
from bench.predict.forecast import Factors, Forecast, forecast_phases, gpu_never_measured, never_measured, regime_of
from bench.predict.roofline import LAUNCH_S, Roof, roof_of_profile, sustained_share
from bench.predict.step_costs import COUNTING_TIMEOUT_S, Counts, count_cell
from bench.published.figures import find_reproducible
from bench.records.draft import Asked, Draft, draft
from bench.records.record import Finding, Metric, Metrics, Record
from bench.suites.costs import cost_metrics
from bench.suites.throughput import SUITE
from bench.units import format_seconds
from etad.config import Config
from etad.data.dataset import train_dataset
from etad.errors import UserError
from etad.phases import Phase


def training_videos(config: Config) -> int | None:
    """Return the training videos of the data set if it is here, else of the published run; None: not known."""
    try:
        return len(train_dataset(config))
    except UserError:
        figure = find_reproducible(config.name)
        return figure.reproduction.train_videos if figure and figure.reproduction else None


def forecast_cells(
    cells: Sequence[Cell],
    profiles: Sequence[HardwareProfile],
    factors: Factors,
    videos: int | None,
    rates: Rates = NO_RATES,
) -> Iterator[Record]:
    """Yield the record of every cell on every GPU.

    Args:
        cells: what to forecast.
        profiles: the GPUs.
        factors: from measured GPUs.
        videos: training videos of the data set, for the time of the whole schedule; None: not known.
        rates: prices, for what the schedule costs.
    """
    environment = collect_environment()
    for cell in cells:
        counted = run_isolated(count_cell, cell.config, cell.task, timeout_s=COUNTING_TIMEOUT_S)
        counts = counted.value or Counts(None, None, counted.message)
        for profile in profiles:
            measurement: dict[str, JsonValue] = {
                "task": cell.task,
                "hardware": profile.name,
                "videos": videos,
            }
            asked = Asked(SUITE, "predicted", measurement, slug(profile.device_names[0]))
            of_gpu = replace(cell, command=f"{cell.command} --hardware {profile.name}")
            begun = draft(of_gpu, counted, asked, environment)
            yield _record(cell, counts, profile, factors, videos, rates, begun)


def roof_to_forecast(profile: HardwareProfile, precision: str) -> Roof:
    """Return what a GPU was measured to do, where its profile says so, else what its data sheet lets one expect."""
    kind = device_precision(precision, profile.compute_capability)  # type: ignore[arg-type]
    if profile.measured is not None:
        speed: float | None = getattr(profile.measured, f"matmul_{kind}_flops_per_s")
        bandwidth = profile.measured.memory_bandwidth_bytes_per_s
        return Roof(speed, bandwidth, LAUNCH_S, f"measured on {profile.name}, {kind}")
    roof, share = roof_of_profile(profile, kind), sustained_share(profile, kind)
    if roof.peak_flops_per_s is None or share == 1:
        return roof
    source = f"{roof.source}, {share:.0%} of the peak"
    return replace(roof, peak_flops_per_s=share * roof.peak_flops_per_s, source=source)


def _record(
    cell: Cell,
    counts: Counts,
    profile: HardwareProfile,
    factors: Factors,
    videos: int | None,
    rates: Rates,
    begun: Draft,
) -> Record:
    config = cell.config
    if counts.phases is None:
        return begun.failed("error", f"not counted: {counts.reason}")
    roof = roof_to_forecast(profile, config.step.precision)
    if roof.peak_flops_per_s is None:
        return begun.failed("skipped", f"no forecast: {roof.source}")
    least = sum(cost.total_flops for cost in counts.phases.values()) / roof.peak_flops_per_s
    lacking = factors.lacking(profile)
    if lacking is not None:
        at_least = f"its arithmetic at the peak takes {format_seconds(least)} a step"
        return begun.failed("skipped", f"no forecast: {lacking}; {at_least}")
    times = forecast_phases(counts.phases, roof, profile, config, cell.task, factors)
    method = f"roofline of {roof.source}; factors of {factors.source}"
    step = sum(times.values(), Forecast(0.0, 0.0, 0.0))
    videos_a_step = config.train.batch
    amounts = amounts_of(config, cell.task)
    metrics: Metrics = {
        "step_s": _time(step, method),
        "arithmetic_floor_step_s": Metric(value=least, unit="s", method=f"arithmetic at the peak; {roof.source}"),
        "videos_per_s": _rate(videos_a_step, step, method),
        "snippets_per_s": _rate(amounts.snippets, step, method),
        "schedule_s": Metric(value=None, unit="s", reason="the number of training videos is not known; give --videos"),
    }
    if cell.task == "infer":
        metrics["schedule_s"] = Metric(value=None, unit="s", reason="a schedule is for training")
    elif videos is not None:
        steps = math.ceil(videos / videos_a_step) * config.train.epochs
        told = f"{steps} steps: {videos} videos, {config.train.epochs} epochs; data loading not in"
        metrics["schedule_s"] = _time(step.times(steps), told)
    metrics |= cost_metrics(metrics["schedule_s"], profile, rates, "forecast")
    phases: dict[str, Metrics] = {name: {"time_s": _time(time, method)} for name, time in times.items()}
    findings = {
        "factors": Finding(verdict=_told(cell, factors), why=factors.source),
        "never_measured": Finding(verdict="; ".join(never_measured(config, cell.task, factors))),
    }
    rent = rates.rent(profile.name)
    if rent is not None:
        findings["rent"] = Finding(verdict=rent[1], why=f"{rent[0]:g} {rates.currency}".strip() + " an hour")
    unseen = gpu_never_measured(profile, config, cell.task, factors)
    if unseen is not None:
        findings["gpu_never_measured"] = Finding(verdict=unseen)
    return begun.done(metrics, phases=phases, findings=findings)


def _time(time: Forecast, method: str) -> Metric:
    return Metric(value=time.time_s, low=time.low_s, high=time.high_s, unit="s", method=method)


def _rate(number: float, time: Forecast, method: str) -> Metric:
    low, high = number / time.high_s, number / time.low_s
    return Metric(value=number / time.time_s, low=low, high=high, unit="1/s", method=method)


def _told(cell: Cell, factors: Factors) -> str:
    phases = [Phase.ENCODE] if cell.task == "infer" else list(Phase)
    parts = []
    for regime in dict.fromkeys(regime_of(cell.config, cell.task, phase) for phase in phases):
        fitted = factors.regimes[regime]
        numbers = f"{fitted.compute:.2f} compute, {fitted.memory:.2f} memory, {fitted.launch:.2f} launch"
        parts.append(f"{regime.replace('_', ' ')}: {numbers}, from {fitted.rows} measured rows")
    return "; ".join(parts)
