"""What trainings cost: money, energy and CO2, of forecast and of measured times."""

from collections.abc import Iterator, Sequence
from datetime import date

from bench.machine.datasheets import HardwareProfile
from bench.machine.prices import Rates
from bench.records.record import Metric, Metrics
from bench.report.page.collect import Entry
from bench.report.page.document import Column, Note, Section, Table, Value
from bench.report.page.parts import kind_column, number_column
from bench.report.reading import experiment, value_in
from bench.suites.costs import JOULES_A_KWH, cost_metrics, measured_costs
from bench.units import HOUR_S

INSTEAD = "etad-bench forecast --store RESULTS"
SHOWN = (
    ("schedule_rent_money", "rent", "rent_money", 1.0),
    ("schedule_energy_j", "energy, at most", "energy_kwh", 1 / JOULES_A_KWH),
    ("schedule_power_money", "power, at most", "power_money", 1.0),
    ("schedule_carbon_g", "CO2, at most", "carbon_kg", 1e-3),
)
"""Metric, title, key and what the metric is multiplied by."""
TOLD = ("strategy", "precision", "batch", "chunk", "snippet ratio")
"""Settings that a row names; the table of every number has them all."""


def costs_section(entries: Sequence[Entry], profiles: Sequence[HardwareProfile], rates: Rates) -> Section:
    """Return the section: a row for every training whose time is forecast or was measured.

    Args:
        entries: the records.
        profiles: the known GPUs.
        rates: the prices.
    """
    age = "" if rates.prices is None else rates.prices.age(date.today())
    by_name = {profile.name: profile for profile in profiles}
    rows = [row for entry in entries for row in _rows(entry, by_name, rates)]
    if not rows:
        return Section("costs", "Costs", instead=INSTEAD)
    money = f" [{rates.currency}]" if rates.currency else ""
    units = {"rent_money": money, "energy_kwh": " [kWh]", "power_money": money, "carbon_kg": " [kg]"}
    columns = [
        Column("device", "device"),
        Column("settings", "settings"),
        kind_column(),
        number_column("training [h]", "training_h", "{:.3g}".format),
    ]
    for _, title, key, _ in SHOWN:
        for bound in ("", "low", "high"):
            name = bound or f"{title}{units[key]}"
            columns.append(number_column(name, f"{key}{bound and '_'}{bound}", "{:.3g}".format))
    told = "Money is the time at each GPU's lowest price; energy is the time at the board's power limit, a bound."
    notes = [Note(f"{told} {age[0].upper()}{age[1:]}." if age else told)]
    return Section("costs", "Costs", [*notes, Table("costs", "Trainings, forecast or measured", columns, rows)])


def _rows(entry: Entry, profiles: dict[str, HardwareProfile], rates: Rates) -> Iterator[list[Value]]:
    record = entry.record
    schedule = record.metrics.get("schedule_s")
    if schedule is not None and schedule.value is not None:
        profile = profiles.get(str(record.measurement.get("hardware")))
        yield _row(entry, schedule, cost_metrics(schedule, profile, rates, "forecast", record.device))
    elif value_in(record, "train_s") is not None:
        yield _row(entry, record.metrics["train_s"], measured_costs([record], rates))


def _row(entry: Entry, time: Metric, costs: Metrics) -> list[Value]:
    settings = ", ".join(
        [experiment(entry.record), *(f"{key} {entry.settings[key]}" for key in TOLD if key in entry.settings)]
    )
    row: list[Value] = [entry.record.device, settings, entry.record.kind, (time.value or 0.0) / HOUR_S]
    for name, _, _, factor in SHOWN:
        metric = costs.get(name)
        bounds = (None, None, None) if metric is None else (metric.value, metric.low, metric.high)
        row += [None if bound is None else bound * factor for bound in bounds]
    return row
