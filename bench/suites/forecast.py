"""The forecast time of a cell on GPUs that are not here, as records: one for each GPU."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import JsonValue

from bench.cells import Cell
from bench.machine.datasheets import HardwareProfile
from bench.machine.environment import collect_environment, slug
from bench.machine.processes import run_isolated
from bench.measure.roofs import device_precision
from bench.measure.workload import amounts_of
from bench.predict.forecast import Calibration
from bench.predict.roofline import LAUNCH_S, Roof, roof_of_profile
from bench.predict.step_costs import COUNTING_TIMEOUT_S, Counts, count_cell
from bench.published.figures import find_reproducible
from bench.records.draft import Asked, Draft, draft
from bench.records.record import Finding, Metric, Metrics, Record
from bench.suites.throughput import SUITE
from etad.config import Config
from etad.data.dataset import train_dataset
from etad.errors import UserError


def training_videos(config: Config) -> int | None:
    """Return the training videos of the data set if it is here, else of the published run; None: not known."""
    try:
        return len(train_dataset(config))
    except UserError:
        figure = find_reproducible(config.name)
        return figure.reproduction.train_videos if figure and figure.reproduction else None


def forecast_cells(
    cells: Sequence[Cell], profiles: Sequence[HardwareProfile], calibration: Calibration, videos: int | None
) -> Iterator[Record]:
    """Yield the record of every cell on every GPU.

    Args:
        cells: what to forecast.
        profiles: the GPUs.
        calibration: from measured records.
        videos: training videos of the data set, for the time of the whole schedule; None: not known.
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
            yield _record(cell, counts, profile, calibration, videos, begun)


def roof_to_forecast(profile: HardwareProfile, precision: str) -> Roof:
    """Return what a GPU was measured to do, where its profile says so, else what its data sheet promises."""
    kind = device_precision(precision, profile.compute_capability)  # type: ignore[arg-type]
    roof = roof_of_profile(profile, kind)
    if profile.measured is None:
        return roof
    speed: float | None = getattr(profile.measured, f"matmul_{kind}_flops_per_s")
    return Roof(speed, profile.measured.memory_bandwidth_bytes_per_s, LAUNCH_S, f"measured on {profile.name}, {kind}")


def _record(
    cell: Cell,
    counts: Counts,
    profile: HardwareProfile,
    calibration: Calibration,
    videos: int | None,
    begun: Draft,
) -> Record:
    if counts.phases is None:
        return begun.failed("error", f"not counted: {counts.reason}")
    roof = roof_to_forecast(profile, cell.config.step.precision)
    if roof.peak_flops_per_s is None:
        return begun.failed("skipped", f"no forecast: {roof.source}")
    times = calibration.step_s(counts.phases, roof)
    error = calibration.worst_error
    method = f"roofline of {roof.source}; factors from {calibration.records} measured records"
    config = cell.config
    step_s, videos_a_step = sum(times.values()), config.train.batch
    step = _time(step_s, error, method)
    least = sum(cost.total_flops for cost in counts.phases.values()) / roof.peak_flops_per_s
    amounts = amounts_of(config, cell.task)
    metrics: Metrics = {
        "step_s": step,
        "arithmetic_floor_step_s": Metric(value=least, unit="s", method=f"arithmetic at the peak; {roof.source}"),
        "videos_per_s": Metric(value=videos_a_step / step_s, unit="1/s", method=method),
        "snippets_per_s": Metric(value=amounts.snippets / step_s, unit="1/s", method=method),
        "calibration_typical_error_ratio": _error(calibration.typical_error, "median"),
        "calibration_worst_error_ratio": _error(error, "largest"),
        "schedule_s": Metric(value=None, unit="s", reason="the number of training videos is not known; give --videos"),
    }
    if cell.task == "infer":
        metrics["schedule_s"] = Metric(value=None, unit="s", reason="a schedule is for training")
    elif videos is not None:
        steps = math.ceil(videos / videos_a_step) * config.train.epochs
        metrics["schedule_s"] = _time(
            step_s * steps, error, f"{steps} steps: {videos} videos, {config.train.epochs} epochs; data loading not in"
        )
    phases: dict[str, Metrics] = {name: {"time_s": _time(time_s, error, method)} for name, time_s in times.items()}
    return begun.done(metrics, phases=phases, findings={"calibration": Finding(verdict=_told(calibration))})


def _time(value: float, error: float | None, method: str) -> Metric:
    if error is None:
        return Metric(value=value, unit="s", method=method)
    # A forecast that is e too high is the truth times 1 + e; one that is e too low, the truth times 1 - e.
    low, high = value / (1 + error), value / (1 - error) if error < 1 else None
    return Metric(value=value, low=low, high=high, unit="s", method=method)


def _error(value: float | None, which: str) -> Metric:
    if value is None:
        return Metric(value=None, unit="1", reason="one record calibrates; leaving it out leaves nothing")
    return Metric(value=value, unit="1", method=f"{which} size of the error on a record that was left out of the fit")


def _told(calibration: Calibration) -> str:
    told = (
        f"factors {calibration.compute:.2f} compute, {calibration.memory:.2f} memory, {calibration.launch:.2f} launch, "
        f"from {calibration.records} records measured on {', '.join(calibration.devices)}"
    )
    if all(device.startswith("cpu-") for device in calibration.devices):
        told += "; no GPU was measured, so the error on a GPU is not known and may be far larger"
    return told
