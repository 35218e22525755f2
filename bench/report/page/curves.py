"""Memory, time and mAP against the snippet ratio and the proposal ratio, a curve for each other setting."""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.records.record import Kind, Metric, Record
from bench.report.page.charts import SERIES, Point, Series, curve_chart
from bench.report.page.collect import Entry
from bench.report.page.document import Block, Chart, Charts, Column, Note, Section, Table
from bench.report.page.parts import kind_column, number_column
from bench.report.page.settings import DEVICE, PROPOSAL_RATIO, RATIO, Settings, differing, label
from bench.report.reading import experiment, task_name
from bench.units import Unit, unit_for

KNOBS = (RATIO, PROPOSAL_RATIO)
FEW = 6
"""Settings are left out of the curves' names, the least important first, until there are at most so many curves."""
MOST_CHARTS = 8
"""Charts of one quantity; the table holds what has no chart."""


@dataclass(frozen=True)
class Quantity:
    """Something drawn against the ratios.

    Attributes:
        suite: whose records hold it.
        metrics: names, the first that is known counts; with the words of each.
        instead: command that would measure it.
    """

    ident: str
    title: str
    suite: str
    metrics: dict[str, str]
    instead: str


QUANTITIES = (
    Quantity(
        "memory",
        "Memory",
        "memory",
        {
            "reserved_peak_bytes": "peak reserved memory",
            "allocated_peak_bytes": "peak allocated memory",
            "requested_peak_bytes": "peak requested memory",
        },
        "etad-bench memory --ratio 0.1,0.3,1.0 --strategy sequential,joint --store RESULTS",
    ),
    Quantity(
        "time",
        "Time",
        "throughput",
        {"step_s": "time of a step"},
        "etad-bench throughput --ratio 0.1,0.3,1.0 --store RESULTS",
    ),
    Quantity(
        "accuracy",
        "Accuracy",
        "accuracy",
        {"average_mAP": "average mAP"},
        "etad-bench accuracy --config quickstart --ratio 0,0.3,1.0 --seeds 3 --store RESULTS",
    ),
    Quantity("training", "Training time", "accuracy", {"train_s": "training time"}, ""),
)


class Value(NamedTuple):
    """A quantity of one record."""

    record: Record
    settings: Settings
    metric: Metric


class Aggregate(NamedTuple):
    """The records of a curve at one ratio."""

    x: float
    middle: float
    low: float
    high: float
    records: int

    @property
    def is_spread(self) -> bool:
        """Whether there is an interval or a spread to show."""
        return self.low < self.high


class Curve(NamedTuple):
    """Records of one kind and the same settings, over a ratio."""

    label: str
    kind: Kind
    points: list[Aggregate]


class Facet(NamedTuple):
    """What shares a chart; the device is part of it for times."""

    experiment: str
    task: str
    metric: str
    device: str

    @property
    def title(self) -> str:
        """What the chart is of."""
        return ", ".join(part for part in (self.experiment, self.task, self.device) if part)


@dataclass(frozen=True)
class Curves:
    """One chart as numbers.

    Attributes:
        knob: on the x axis.
        merged: settings in which the records behind a point differ.
        left_out: settings without a curve.
    """

    facet: Facet
    knob: str
    series: list[Curve]
    merged: list[str]
    left_out: int


def curve_sections(entries: Sequence[Entry]) -> Iterator[Section]:
    """Yield a section for every quantity."""
    for quantity in QUANTITIES:
        facets = _facets(entries, quantity)
        found = [
            curves for facet, values in facets.items() for knob in KNOBS for curves in _curves(facet, values, knob)
        ]
        title = f"{quantity.title} against the ratios"
        if found:
            yield Section(quantity.ident, title, list(_blocks(quantity, found)))
        elif quantity.instead:
            yield Section(quantity.ident, title, instead=quantity.instead)


def _facets(entries: Sequence[Entry], quantity: Quantity) -> dict[Facet, list[Value]]:
    facets: dict[Facet, list[Value]] = defaultdict(list)
    for entry in (entry for entry in entries if entry.record.suite == quantity.suite):
        record = entry.record
        for name in quantity.metrics:
            metric = record.metrics.get(name)
            if metric is not None and metric.value is not None:
                facet = Facet(experiment(record), task_name(record), name, record.device if name.endswith("_s") else "")
                facets[facet].append(Value(record, entry.settings, metric))
                break
    return dict(sorted(facets.items(), key=lambda item: -len(item[1])))


def _curves(facet: Facet, values: Sequence[Value], knob: str) -> Iterator[Curves]:
    names = [name for name in differing(value.settings for value in values) if name not in (knob, DEVICE)]
    groups, curved = _grouped(values, knob, names)
    while names and not 0 < len(curved) <= FEW:
        names.pop()
        groups, curved = _grouped(values, knob, names)
    if not curved:
        return
    telling = [name for name in names if len({value.settings.get(name) for group in curved for value in group}) > 1]
    devices = len({_key(group[0], ())[:2] for group in curved}) > 1
    series = [_curve(group, knob, telling, devices) for group in curved]
    series.sort(key=lambda one: (-len(one.points), -one.points[-1].middle))
    merged = {name: None for group in curved for name in differing(value.settings for value in group) if name != knob}
    yield Curves(facet, knob, series[:SERIES], list(merged), groups - len(series[:SERIES]))


def _grouped(values: Sequence[Value], knob: str, names: Sequence[str]) -> tuple[int, list[list[Value]]]:
    """Return how many settings there are, and the values of those that were tried at several ratios."""
    groups: dict[tuple[Kind, str, str], list[Value]] = defaultdict(list)
    for value in values:
        groups[_key(value, names)].append(value)
    return len(groups), [group for group in groups.values() if len({value.settings.get(knob) for value in group}) > 1]


def _curve(values: Sequence[Value], knob: str, names: Sequence[str], devices: bool) -> Curve:
    kind, device, text = _key(values[0], names)
    parts = [text, device if devices else ""]
    return Curve(", ".join(part for part in parts if part) or kind, kind, _points(values, knob))


def _key(value: Value, names: Sequence[str]) -> tuple[Kind, str, str]:
    """Return what makes a curve: kind, device, settings. A prediction of memory hardly depends on the device."""
    record = value.record
    device = "" if record.kind == "predicted" and record.suite == "memory" else record.device
    return record.kind, device, label(value.settings, names)


def _points(values: Sequence[Value], knob: str) -> list[Aggregate]:
    at: dict[float, list[Value]] = defaultdict(list)
    for value in values:
        x = value.settings.get(knob)
        if isinstance(x, int | float):
            at[float(x)].append(value)
    return [_point(x, at[x]) for x in sorted(at)]


def _point(x: float, values: Sequence[Value]) -> Aggregate:
    numbers = [float(value.metric.value or 0.0) for value in values]
    bounds = [
        float(bound)
        for value in values
        for bound in (value.metric.low, value.metric.high, value.metric.value)
        if bound is not None
    ]
    average = statistics.fmean if values[0].record.suite == "accuracy" else statistics.median
    return Aggregate(x, average(numbers), min(bounds), max(bounds), len(values))


def _blocks(quantity: Quantity, found: Sequence[Curves]) -> Iterator[Block]:
    drawn = found[:MOST_CHARTS]
    yield Charts([_chart(quantity, number, curves) for number, curves in enumerate(drawn)])
    if len(found) > len(drawn):
        yield Note(f"{len(found) - len(drawn)} more charts are left out; the table holds their numbers.")
    rows = [
        [
            curves.facet.experiment,
            curves.facet.task,
            curves.facet.device or None,
            quantity.metrics[curves.facet.metric],
            None if series.label == series.kind else series.label,
            series.kind,
            curves.knob,
            point.x,
            point.middle,
            point.low if point.is_spread else None,
            point.high if point.is_spread else None,
            point.records,
        ]
        for curves in found
        for series in curves.series
        for point in series.points
    ]
    unit = unit_for(next(iter(quantity.metrics)), 1.0)
    yield Table(
        f"{quantity.ident}-curves",
        f"The numbers of these charts ({len(rows)} points)",
        [
            Column("experiment", "experiment"),
            Column("task", "task"),
            Column("device", "device"),
            Column("quantity", "quantity"),
            Column("settings", "settings"),
            kind_column(),
            Column("against", "against"),
            number_column("at", "at"),
            number_column("value", f"value{unit.key}", unit.exact),
            number_column("low", f"low{unit.key}", unit.exact),
            number_column("high", f"high{unit.key}", unit.exact),
            Column("records", "records", "number"),
        ],
        rows,
        most=40,
        folded=True,
    )


def _chart(quantity: Quantity, number: int, curves: Curves) -> Chart:
    facet = curves.facet
    words = quantity.metrics[facet.metric]
    highest = max(point.high for series in curves.series for point in series.points)
    unit = unit_for(facet.metric, highest)
    scaled = [
        Series(series.label, series.kind, [_scaled(point, unit, curves.knob) for point in series.points])
        for series in curves.series
    ]
    svg = curve_chart(
        f"{quantity.ident}{number}",
        f"{facet.title}: {words} against the {curves.knob}",
        curves.knob,
        f"{words}, {unit.name}",
        scaled,
        # A percentage is one of the whole.
        may_be_log=unit.name != "%",
    )
    kinds = list(dict.fromkeys(series.kind for series in curves.series))
    return Chart(f"{facet.title}, by {curves.knob}", svg, " ".join(_caption(curves)), kinds)


def _caption(curves: Curves) -> Iterator[str]:
    points = [point for series in curves.series for point in series.points]
    most = max(point.records for point in points)
    middle = "mean" if curves.facet.metric in ("average_mAP", "train_s") else "median"
    if most > 1:
        differ = f" that differ in {', '.join(curves.merged)}" if curves.merged else ""
        yield f"A point is the {middle} of up to {most} records{differ}."
    if any(point.is_spread for point in points):
        predicted = most == 1 and all(series.kind == "predicted" for series in curves.series)
        yield "Bars: the bounds of the prediction." if predicted else "Bars: lowest and highest."
    if curves.left_out:
        is_one = curves.left_out == 1
        yield f"{curves.left_out} more setting{' has' if is_one else 's have'} no curve: tried at one ratio only."


def _scaled(point: Aggregate, unit: Unit, knob: str) -> Point:
    low, middle, high = (bound / unit.scale for bound in (point.low, point.middle, point.high))
    bounds = f" ({unit.exact(point.low)} to {unit.exact(point.high)})" if point.is_spread else ""
    records = "" if point.records == 1 else f", {point.records} records"
    return Point(point.x, middle, low, high, f"{unit.exact(point.middle)}{bounds} at {knob} {point.x:g}{records}")
