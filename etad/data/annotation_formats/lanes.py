"""Keeps one subject from doing the same thing twice at a time, for tools that know no such overlap."""

from collections.abc import Iterable

from etad.data.annotation_formats.interval import Interval


def with_lanes(intervals: Iterable[Interval]) -> list[tuple[str, Interval]]:
    """Return intervals with their subjects, numbered where one subject would do the same twice at a time.

    Times are compared in milliseconds, which is what BORIS shows.
    """
    result: list[tuple[str, Interval]] = []
    ends: dict[tuple[str, str], list[int]] = {}
    for interval in sorted(intervals, key=lambda one: (one.start_s, one.end_s)):
        lanes = ends.setdefault((interval.subject, interval.label), [])
        start, end = round(1000 * interval.start_s), round(1000 * interval.end_s)
        lane = next((number for number, ended in enumerate(lanes) if ended <= start), len(lanes))
        lanes[lane : lane + 1] = [end]
        result.append((interval.subject if lane == 0 else f"{interval.subject or 'subject'} {lane + 1}", interval))
    return result
