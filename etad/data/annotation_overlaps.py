"""Intervals that lie over one another."""

from collections.abc import Callable, Hashable, Iterable, Iterator

from etad.data.annotation_formats.interval import Interval


def overlapping(
    intervals: Iterable[Interval], within: Callable[[Interval], Hashable]
) -> Iterator[tuple[Interval, Interval]]:
    """Yield each interval that begins before an earlier one of its group has ended, after that earlier one.

    Args:
        intervals: in any order.
        within: what makes a group; None: the interval is in none.
    """
    groups: dict[Hashable, list[Interval]] = {}
    for interval in intervals:
        key = within(interval)
        if key is not None:
            groups.setdefault(key, []).append(interval)
    for group in groups.values():
        group.sort(key=lambda one: (one.start_s, one.end_s))
        longest = group[0]
        for interval in group[1:]:
            if interval.start_s < longest.end_s:
                yield longest, interval
            if interval.end_s > longest.end_s:
                longest = interval
