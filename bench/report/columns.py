"""Columns of the report's tables that occur in several of them."""

from collections.abc import Callable

from bench.report.document import Column, kind_text
from bench.report.tables import format_bytes
from bench.report.units import format_number, format_seconds


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
