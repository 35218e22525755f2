"""Tables as aligned text, Markdown or CSV, and records as one of these, JSON or JSON lines.

Every command that prints a table prints it through :func:`grid`, every one that reports records through
:func:`format_records`.

JSON and JSON lines hold the whole records. The other three show columns of them: a table and Markdown for people, in
readable units, CSV with the raw numbers and the bounds of every interval.
"""

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from bench.records.record import Metric, Record
from bench.units import MIB

Format = Literal["table", "json", "jsonl", "csv", "md"]
FORMATS: tuple[Format, ...] = get_args(Format)
Grid = Literal["table", "csv", "md"]
"""The formats that show a grid of rows and columns."""

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


_UNITS = {
    "bytes": _Unit("MiB", MIB, 1),
    "FLOP": _Unit("TFLOP", 1e12, 2),
    "s": _Unit("ms", 1e-3, 1),
    "1/s": _Unit("1/s", 1.0, 3),
}


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
        return grid(_raw_rows(records, columns), form)
    shown = [(column, [column.of(record) for record in records]) for column in columns]
    header = [column.title + _unit_of(values) for column, values in shown]
    rows = [[format_value(values[number]) for _, values in shown] for number in range(len(records))]
    reasons = dict.fromkeys(
        f"{column.title}: not known: {value.reason}"
        for column, values in shown
        for value in values
        if isinstance(value, Metric) and value.value is None
    )
    return grid([header, *rows], form, [*notes, *reasons])


def heading(record: Record, title: str) -> Iterator[str]:
    """Yield how the report of one cell begins: what it is, what it warns of, and why it has no result."""
    yield title
    yield from (f"note: {warning}" for warning in record.warnings)
    if record.failure is not None:
        yield f"{record.status}: {record.failure.message}"


def warnings_and_failures(records: Sequence[Record]) -> Iterator[str]:
    """Yield what records warn of and why some have no result, each line once."""
    yield from dict.fromkeys(warning for record in records for warning in record.warnings)
    yield from dict.fromkeys(record.failure.message for record in records if record.failure)


def grid(
    rows: Iterable[Sequence[str | int | float | None]],
    form: Grid,
    notes: Iterable[str] = (),
    to_the_right: Collection[int] | None = None,
) -> str:
    """Return rows as text, without a newline at its end.

    Args:
        rows: the titles, then the values; texts, but for CSV, which has raw numbers and leaves None empty.
        form: see :data:`Grid`.
        notes: lines below it; CSV has none.
        to_the_right: columns of aligned text that end at the right. None: those that hold numbers only.
    """
    if form == "csv":
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(rows)
        return stream.getvalue().removesuffix("\n")
    header, *body = [[str(cell) for cell in row] for row in rows]
    if form == "md":
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in (header, ["---"] * len(header), *body)]
        below = [f"- {note}" for note in notes]
        return "\n".join([*(f"| {' | '.join(row)} |" for row in escaped), *(["", *below] if below else [])])
    if to_the_right is None:
        to_the_right = [at for at in range(len(header)) if all(_is_number(row[at]) for row in body)]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if at in to_the_right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *body)
    ]
    return "\n".join([*lines, *notes])


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


def _raw_rows(records: Sequence[Record], columns: Sequence[Column]) -> list[Sequence[str | int | float | None]]:
    """Return titles and raw numbers, with a column for each bound of an interval."""
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
    return [header, *zip(*cells, strict=True)]
