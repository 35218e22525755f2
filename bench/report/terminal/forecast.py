"""Forecast times, and how wrong forecasts are, for a person."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.predict.forecast import HOLDS, Factors, LeftOut
from bench.published.figures import describe_cost, find_reproducible
from bench.records.record import Metric, Metrics, Record
from bench.report.reading import fits, setting
from bench.report.terminal.tables import Column, Format, Grid, format_records, grid, metric_column
from bench.suites.cheapest import Found
from bench.suites.costs import JOULES_A_KWH
from bench.units import HOUR_S

MOST_GPUS = 4
"""Named below the table as never measured; more are counted."""


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
        *([Column("price", lambda record: str(record.findings.get("rent", "-")))] if _is_priced(records) else []),
        *(Column(title, lambda record, shown=shown: shown(record)) for title, shown in _costs(records)),  # type: ignore[misc]
        Column("why not", lambda record: record.failure.message if record.failure else ""),
    ]
    if all(record.failure is None for record in records):
        columns.pop()
    return format_records(records, columns, form, _notes(records))


def _hours(record: Record) -> str | None:
    return _interval(record.metrics.get("schedule_s"), 1 / HOUR_S)


COSTS = {
    "schedule_rent_money": ("rent", 1.0),
    "schedule_energy_j": ("energy [kWh]", 1 / JOULES_A_KWH),
    "schedule_power_money": ("power", 1.0),
    "schedule_carbon_g": ("CO2 [kg]", 1e-3),
}
"""Metric -> its title and what it is multiplied by. Money has the unit of its currency."""


def cost_lines(costs: Metrics) -> list[str]:
    """Return costs as lines, with what they are counted with."""
    lines = []
    for name, (title, factor) in COSTS.items():
        metric = costs.get(name)
        if metric is None:
            continue
        currency = f" {metric.unit}" if name.endswith("money") and metric.unit != "1" else ""
        known = f"{_interval(metric, factor)}{currency} ({metric.method})"
        lines.append(f"{title}: {f'not known ({metric.reason})' if metric.value is None else known}")
    return lines


def _is_priced(records: Sequence[Record]) -> bool:
    return any("rent" in record.findings for record in records)


def _costs(records: Sequence[Record]) -> Iterator[tuple[str, Callable[[Record], str | None]]]:
    for name, (title, factor) in COSTS.items():
        units = {record.metrics[name].unit for record in records if name in record.metrics}
        if units:
            currency = next(iter(units)) if name.endswith("money") else "1"
            full = title if currency == "1" else f"{title} [{currency}]"
            yield full, lambda record, name=name, factor=factor: _interval(record.metrics.get(name), factor)  # type: ignore[misc]


def _interval(metric: Metric | None, factor: float) -> str | None:
    if metric is None or metric.value is None:
        return None
    low, high = (value and value * factor for value in (metric.low, metric.high))
    return f"{metric.value * factor:.2g}" if low is None or high is None else f"{low:.2g}..{high:.2g}"


def cost_notes(records: Sequence[Record]) -> list[str]:
    """Return what the costs of records mean; none where none were asked for."""
    told = []
    if any("schedule_rent_money" in record.metrics for record in records):
        told.append("rent: the time of the schedule at the lowest price of each GPU; storage, taxes and waiting not in")
    if any("schedule_energy_j" in record.metrics for record in records):
        told.append("energy, and what is counted from it: at the board's power limit, an upper bound")
    return told


def _notes(records: Sequence[Record]) -> list[str]:
    predicted = [record for record in records if record.succeeded]
    if not predicted:
        return []
    first = predicted[0]
    notes = [
        f"forecast, not measured; a..b is to hold {HOLDS:.0%} of what a fit has not seen: etad-bench forecast --check",
        f"factors {first.findings['factors']}",
        *dict.fromkeys(f"never measured: {record.findings['never_measured']}" for record in predicted),
    ]
    unseen = list(
        dict.fromkeys(
            record.findings["gpu_never_measured"].verdict
            for record in predicted
            if "gpu_never_measured" in record.findings
        )
    )
    if unseen:
        more = f"; and {len(unseen) - MOST_GPUS} more GPUs" if len(unseen) > MOST_GPUS else ""
        notes.append(f"never measured: {'; '.join(unseen[:MOST_GPUS])}{more}")
    schedule = first.metrics["schedule_s"]
    notes.append(f"schedule: {schedule.reason if schedule.value is None else schedule.method}")
    notes += cost_notes(predicted)
    figure = find_reproducible(str(first.config["name"]))
    if figure is not None and figure.cost is not None:
        remark = f"; {figure.note}" if figure.note else ""
        notes.append(f"published: {describe_cost(figure.cost)} ({figure.source}{remark})")
    return notes


def format_check(factors: Factors, apart: Mapping[str, Sequence[LeftOut]], form: Grid) -> str:
    """Return the errors of forecasts on what their fit had not seen.

    Args:
        factors: the fit.
        apart: by regime, the errors on the networks that were kept apart; empty: they stay so.
        form: see bench/report/terminal/tables.py.
    """
    header = ["regime", "left out", "", "rows", "median error", "10 %..90 %", "size of error", "in interval"]
    rows = [header]
    for regime, fitted in factors.regimes.items():
        for error in fitted.errors:
            rows.append(_error_row(regime, {"gpu": "GPU", "family": "networks"}[error.kind], error))
    for name, errors in apart.items():
        rows += [_error_row(name, "kept apart, on", error) for error in errors]
    notes = [
        "error: forecast / measured - 1, negative is too fast; size: the median of its size",
        f"in interval: rows that an interval meant to hold {HOLDS:.0%} held, from what was not left out",
        f"measured: {factors.networks}, in {factors.precision} ({factors.source})",
    ]
    alone = [name.replace("_", " ") for name, fitted in factors.regimes.items() if not fitted.of_gpus]
    if alone:
        notes.append(f"one GPU was measured in {' and '.join(alone)}: what another does there, nothing here says")
    if factors.kept_apart and not apart:
        notes.append(f"kept apart for a later check: {', '.join(factors.kept_apart)}")
    return grid(rows, form, notes, to_the_right=range(3, len(header)))


def _error_row(regime: str, kind: str, error: LeftOut) -> list[str]:
    return [
        regime.replace("_", " "),
        kind,
        error.name,
        str(error.rows),
        f"{error.median_error:+.0%}",
        f"{error.low_error:+.0%}..{error.high_error:+.0%}",
        f"{error.typical_error:.1%}",
        f"{error.inside:.0%}",
    ]


def format_cheapest(found: Found, age: str, form: Format) -> str:
    """Return the cheapest GPUs that fit.

    Args:
        found: of the search.
        age: how old the prices are.
        form: see bench/report/terminal/tables.py.
    """
    records = found.offers
    columns = [
        Column("hardware", lambda record: str(record.measurement["hardware"])),
        Column("price", lambda record: str(record.findings.get("rent", "-"))),
        Column("schedule [h]", _hours),
        *(Column(title, lambda record, shown=shown: shown(record)) for title, shown in _costs(records)),  # type: ignore[misc]
        Column("fits", fits),
        metric_column("margin", "margin_bytes"),
    ]
    notes = [
        "cheapest first, by the middle of the interval; time and cost are forecast, memory predicted, none measured",
        age,
        *cost_notes(records),
        *dict.fromkeys(f"never measured: {record.findings['never_measured']}" for record in records),
        *dict.fromkeys(warning for record in records for warning in record.warnings),
    ]
    if found.too_small:
        notes.append(f"would have been cheaper, and do not fit: {', '.join(found.too_small)}")
    return format_records(records, columns, form, [*notes, *found.without_forecast])
