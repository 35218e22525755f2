"""What no measurement can be: metrics that contradict each other, or the physics of memory."""

import itertools
import math
from collections.abc import Iterator

from bench.records.names import LEVELS
from bench.records.record import Metrics, Record, value_of

MEMORY_LEVELS = (*LEVELS, "process", "device")
"""Ways to count memory, from the inside out: each holds all that the one before it counts, so it is never smaller.

A memory metric has one of these words in its name, and two metrics that differ in this word only are compared:
``allocated_peak_bytes`` <= ``reserved_peak_bytes``. ``device_total_bytes``, the device's capacity, bounds them all.
"""
SIGNED_WORDS = frozenset({"error", "difference", "margin", "slope", "change"})
"""A metric with one of these words in its name may be negative; every other quantity is at least 0."""


def check(record: Record) -> list[str]:
    """Return what is physically impossible in ``record``, one line each; empty when all is well.

    Checked in the whole and in every phase: the memory levels are in order, a peak is at least its static part, no
    quantity and none of its samples is negative, an interval holds its value, and a result has at least one metric.
    """
    problems = [] if record.metrics or not record.succeeded else ["there is no metric at all"]
    capacity = value_of(record.metrics, "device_total_bytes")
    for where, metrics in [("", record.metrics), *((f"{name}: ", record.phases[name]) for name in record.phases)]:
        findings = (*_signs(metrics), *_intervals(metrics), *_levels(metrics), *_peaks(metrics, capacity))
        problems += [where + finding for finding in findings]
    return problems


def _signs(metrics: Metrics) -> Iterator[str]:
    for name, metric in metrics.items():
        if SIGNED_WORDS.isdisjoint(name.split("_")):
            negative = [number for number in (metric.value, metric.low, *metric.samples) if _below_zero(number)]
            if negative:
                yield f"{name} is negative ({negative[0]} {metric.unit})"


def _below_zero(number: int | float | None) -> bool:
    return number is not None and number < 0


def _intervals(metrics: Metrics) -> Iterator[str]:
    for name, metric in metrics.items():
        value = metric.value if metric.value is not None else metric.low
        low = -math.inf if metric.low is None else metric.low
        high = math.inf if metric.high is None else metric.high
        if low > high or (value is not None and not low <= value <= high):
            yield f"{name} is {metric.value} {metric.unit}, outside its own interval {metric.low} to {metric.high}"


def _levels(metrics: Metrics) -> Iterator[str]:
    families: dict[str, list[tuple[int, str, int | float]]] = {}
    for name, metric in metrics.items():
        words = name.split("_")
        level = next((word for word in words if word in MEMORY_LEVELS), None)
        if level is None or metric.unit != "bytes" or metric.value is None or not SIGNED_WORDS.isdisjoint(words):
            continue
        family = "_".join(word for word in words if word != level)
        families.setdefault(family, []).append((MEMORY_LEVELS.index(level), name, metric.value))
    for members in families.values():
        members.sort()
        for (_, inner, fewer), (_, outer, more) in itertools.pairwise(members):
            if fewer > more:
                yield f"{inner} {fewer} exceeds {outer} {more}"


def _peaks(metrics: Metrics, capacity: int | float | None) -> Iterator[str]:
    for name, metric in metrics.items():
        words = name.split("_")
        if "peak" not in words or metric.unit != "bytes" or metric.value is None:
            continue
        static_name = "_".join("static" if word == "peak" else word for word in words)
        static = value_of(metrics, static_name)
        if static is not None and metric.value < static:
            yield f"{name} {metric.value} is below {static_name} {static}"
        on_device = not {"allocated", "active", "reserved", "process"}.isdisjoint(words)
        if capacity is not None and on_device and metric.value > capacity:
            yield f"{name} {metric.value} exceeds device_total_bytes {capacity}"
