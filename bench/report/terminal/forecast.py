"""Forecast times for a person."""

from collections.abc import Sequence

from bench.published.figures import describe_cost, find_reproducible
from bench.records.record import Metric, Record
from bench.report.reading import setting
from bench.report.terminal.tables import Column, Format, format_records, metric_column


def format_forecast(records: Sequence[Record], options: Sequence[str], form: Format) -> str:
    """Return one row for each GPU and setting.

    Args:
        records: of ``etad-bench forecast``.
        options: the knobs that were given, each a column.
        form: see bench/report/terminal/tables.py.
    """
    columns = [
        Column("hardware", lambda record: str(record.measurement["hardware"])),
        *(Column(option, lambda record, option=option: setting(record, option)) for option in options),  # type: ignore[misc]
        metric_column("step", "step_s"),
        metric_column("arithmetic at the peak", "arithmetic_floor_step_s"),
        metric_column("videos/s", "videos_per_s"),
        Column("schedule [h]", _hours),
        Column("why not", lambda record: record.failure.message if record.failure else ""),
    ]
    if all(record.failure is None for record in records):
        columns.pop()
    return format_records(records, columns, form, _notes(records))


def _hours(record: Record) -> str | None:
    metric = record.metrics.get("schedule_s")
    if metric is None or metric.value is None:
        return None
    low, high = (value and value / 3600 for value in (metric.low, metric.high))
    return f"{metric.value / 3600:.2g}" if low is None or high is None else f"{low:.2g}..{high:.2g}"


def _notes(records: Sequence[Record]) -> list[str]:
    predicted = [record for record in records if record.succeeded]
    if not predicted:
        return []
    first = predicted[0]
    errors = [first.metrics[f"calibration_{which}_error_ratio"] for which in ("typical", "worst")]
    notes = [
        "predicted, not measured; intervals are the calibration's largest error",
        str(first.findings["calibration"]),
        f"error on records left out of the fit: median {_percent(errors[0])}, largest {_percent(errors[1])}",
    ]
    schedule = first.metrics["schedule_s"]
    notes.append(f"schedule: {schedule.reason if schedule.value is None else schedule.method}")
    figure = find_reproducible(str(first.config["name"]))
    if figure is not None and figure.cost is not None:
        remark = f"; {figure.note}" if figure.note else ""
        notes.append(f"published: {describe_cost(figure.cost)} ({figure.source}{remark})")
    return notes


def _percent(metric: Metric) -> str:
    return f"not known ({metric.reason})" if metric.value is None else f"{metric.value:.0%}"
