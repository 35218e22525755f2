"""Columns and drawings that several sections of a report have."""

from collections.abc import Callable, Sequence

from bench.report.page.charts import Bar, stacked_bars
from bench.report.page.document import Chart, Column, kind_text
from bench.units import format_bytes, format_number, format_seconds

FEW_BARS = 4
"""Of one chart; more are two charts."""


def kind_column() -> Column:
    """Return the column of kinds: measured, predicted, published."""
    return Column("kind", "kind", "mark", kind_text)


def number_column(title: str, key: str, show: Callable[[float], str] = format_number) -> Column:
    """Return a column of numbers."""
    return Column(title, key, "number", lambda value: show(value) if isinstance(value, int | float) else str(value))


def bytes_column(title: str, key: str) -> Column:
    """Return a column of sizes in bytes."""
    return number_column(title, key, format_bytes)


def seconds_column(title: str, key: str) -> Column:
    """Return a column of durations in seconds."""
    return number_column(title, key, format_seconds)


def share_column(title: str, key: str) -> Column:
    """Return a column of fractions, shown in percent."""
    return number_column(title, key, "{:.1%}".format)


def bar_charts(
    ident: str, title: str, bars: Sequence[Bar], show: Callable[[float], str], caption: str, kinds: Sequence[str]
) -> list[Chart]:
    """Return stacked bars as one chart, or as two halves that stand side by side."""
    names = list(dict.fromkeys(name for bar in bars for name, _ in bar.parts))
    half = len(bars) if len(bars) <= FEW_BARS else (len(bars) + 1) // 2
    halves = [bars[:half], bars[half:]] if half < len(bars) else [bars]
    return [
        Chart(
            title if number == 0 else f"{title} (continued)",
            stacked_bars(f"{ident}{number}", title, part, names, show),
            caption if number == 0 else "",
            kinds,
        )
        for number, part in enumerate(halves)
    ]
