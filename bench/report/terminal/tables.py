"""Records as a table, JSON, JSON lines, CSV or Markdown; every command that reports records prints through here.

JSON and JSON lines hold the whole records. The other three show columns of them: a table and Markdown for people, in
readable units, CSV with the raw numbers and the bounds of every interval.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from bench.records.record import Metric, Record
from bench.units import MIB

Format = Literal["table", "json", "jsonl", "csv", "md"]
FORMATS: tuple[Format, ...] = get_args(Format)

Value = Metric | str | int | float | None


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: without a unit.
        of: gives a record's value; None: the record has none.
    """

    title: str
    of: Callable[[Record], Value]


@dataclass(frozen=True)
class _Unit:
    """How numbers of a unit are shown: divided by ``scale``, with ``digits`` decimals, as ``name``."""

    name: str
    scale: float
    digits: int


_UNITS = {"bytes": _Unit("MiB", MIB, 1), "FLOP": _Unit("TFLOP", 1e12, 2), "s": _Unit("ms", 1e-3, 1)}


def metric_column(title: str, name: str) -> Column:
    """Return the column of a metric; what failed has none."""
    return Column(title, lambda record: record.metrics.get(name))


def format_records(
    records: Sequence[Record], columns: Sequence[Column], form: Format, notes: Sequence[str] = ()
) -> str:
    """Return the records as text, without a newline at its end.

    Args:
        records: one row each.
        columns: what of them a table, CSV and Markdown show.
        form: see the module's text.
        notes: lines below a table. Why a metric is not known is added to them.
    """
    if form == "json":
        return json.dumps([record.to_tree() for record in records], indent=1)
    if form == "jsonl":
        return "\n".join(json.dumps(record.to_tree()) for record in records)
    if form == "csv":
        return _csv(records, columns)
    shown = [(column, [column.of(record) for record in records]) for column in columns]
    header = [column.title + _unit_of(values) for column, values in shown]
    rows = [[format_value(values[number]) for _, values in shown] for number in range(len(records))]
    reasons = dict.fromkeys(
        f"{column.title}: not known: {value.reason}"
        for column, values in shown
        for value in values
        if isinstance(value, Metric) and value.value is None
    )
    below = [*notes, *reasons]
    if form == "md":
        lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
        return "\n".join([*lines, *(["", *(f"- {note}" for note in below)] if below else [])])
    return "\n".join([*align([header, *rows]), *below])


def warnings_and_failures(records: Sequence[Record]) -> Iterator[str]:
    """Yield what records warn of and why some have no result, each line once."""
    yield from dict.fromkeys(warning for record in records for warning in record.warnings)
    yield from dict.fromkeys(record.failure.message for record in records if record.failure)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines: columns of text to the left, of numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    numeric = [all(_is_number(row[column]) for row in rows[1:]) for column in range(len(widths))]
    return [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    ]


def format_value(value: Value) -> str:
    """Return a value for a column whose title names the unit: "2829.1", "2829.1..3221.0" for an interval, "-"."""
    if isinstance(value, Metric):
        if value.value is None:
            return "-"
        bounds = [value.value if bound is None else bound for bound in (value.low, value.high)]
        texts = dict.fromkeys(_number(bound, value.unit) for bound in bounds)
        return "..".join(texts)
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else str(value)


def _number(value: int | float, unit: str) -> str:
    shown = _UNITS.get(unit)
    return f"{value:g}" if shown is None else f"{value / shown.scale:.{shown.digits}f}"


def _unit_of(values: Sequence[Value]) -> str:
    units = {value.unit for value in values if isinstance(value, Metric)}
    names = [_UNITS[unit].name if unit in _UNITS else unit for unit in units if unit != "1"]
    return f" [{names[0]}]" if len(names) == 1 else ""


def _is_number(text: str) -> bool:
    return text == "-" or text.replace("..", "").replace(".", "").replace("-", "").isdigit()


def _csv(records: Sequence[Record], columns: Sequence[Column]) -> str:
    header: list[str] = []
    cells: list[list[str | int | float | None]] = []
    for column in columns:
        values = [column.of(record) for record in records]
        metrics = [value if isinstance(value, Metric) else None for value in values]
        unit = next((f"_{metric.unit}" for metric in metrics if metric and metric.unit != "1"), "")
        title = column.title.replace(" ", "_") + unit
        header.append(title)
        cells.append([value.value if isinstance(value, Metric) else value for value in values])
        for bound in ("low", "high"):
            bounds = [None if metric is None else getattr(metric, bound) for metric in metrics]
            if any(number is not None for number in bounds):
                header.append(f"{title}_{bound}")
                cells.append(bounds)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *zip(*cells, strict=True)])
    return text.getvalue().removesuffix("\n")
