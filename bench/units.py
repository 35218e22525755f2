"""Units of the report: which one a quantity is drawn in, and a value with its unit as text."""

from collections.abc import Callable
from dataclasses import dataclass

KIB = 2**10
MIB = 2**20
GIB = 2**30
HOUR_S = 3600.0


@dataclass(frozen=True)
class Unit:
    """A unit of an axis.

    Attributes:
        name: as the axis says it.
        scale: raw value of one of it.
        key: end of a CSV header for raw values.
        exact: a raw value as text, with a unit that suits it.
    """

    name: str
    scale: float
    key: str
    exact: Callable[[float], str]


def unit_for(metric: str, highest: float) -> Unit:
    """Return the unit of an axis for a metric whose highest raw value is ``highest``."""
    if metric.endswith("_bytes"):
        return Unit(*(("GiB", GIB) if highest >= 2 * GIB else ("MiB", MIB)), "_bytes", format_bytes)
    if metric.endswith("_s"):
        shown = ("h", HOUR_S) if highest >= 2 * HOUR_S else ("s", 1.0) if highest >= 2 else ("ms", 1e-3)
        return Unit(*shown, "_s", format_seconds)
    if "mAP" in metric:
        return Unit("%", 0.01, "_ratio", lambda value: f"{100 * value:.2f} %")
    return Unit("", 1.0, "", format_number)


def format_seconds(seconds: float) -> str:
    """Return a duration in the unit that suits it: "12.3 ms", "1.25 s", "2.1 min", "18.0 h"."""
    if seconds >= HOUR_S:
        return f"{seconds / HOUR_S:.1f} h"
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def format_number(value: float) -> str:
    """Return a count or a rate with four digits and a word for its size: "1.234 T"."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.4g} {letter}"
    return f"{value:.4g}"


def format_metric(value: float, name: str, unit: str) -> str:
    """Return the value of a metric with its unit."""
    if unit == "bytes":
        return format_bytes(value)
    if unit == "s":
        return format_seconds(value)
    if "mAP" in name:
        return f"{100 * value:.2f} %"
    return format_number(value) + (f" {unit}" if unit != "1" else "")


def format_bytes(size_bytes: int | float) -> str:
    """Return a size in MiB, from 10 GiB on in GiB."""
    if abs(size_bytes) < 10 * GIB:
        return f"{size_bytes / MIB:.1f} MiB"
    return f"{size_bytes / GIB:.2f} GiB"
