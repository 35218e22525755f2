"""Two metrics, and a verdict. One of four ways:

    exact     both are marked exact: equal, or not
    samples   a change needs significance (Mann-Whitney) and a minimum effect; "unchanged" needs an interval of the
              change that lies within that minimum; everything else is inconclusive
    interval  no samples, but an interval on either side: the same, with the widest interval of the change
    value     two values that repeat (allocator peaks): a change needs the minimum effect

Samples of one process share what happened to that process (memory layout, a busy neighbour), so the test is only as
good as its samples are independent: ``etad-bench gate`` takes one of each of many processes, in turns.
"""

from dataclasses import dataclass
from math import comb
from typing import Literal, get_args

from bench.compare.thresholds import Gate
from bench.records.record import Metric
from bench.timing_statistics import mann_whitney, shift

Verdict = Literal["improved", "regressed", "unchanged", "inconclusive", "new", "missing", "incomparable"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Way = Literal["exact", "samples", "interval", "value"]

RECORD = "record"
"""Stands in a metric's place where a whole record is new, missing, failed or incomparable."""


@dataclass(frozen=True)
class Comparison:
    """One metric of one cell.

    Attributes:
        cell: what the cell is, in words.
        metric: name, "phase: name", or :data:`RECORD`.
        unit: of the values; empty for :data:`RECORD`.
        verdict: see the module's text.
        reason: why, if the numbers do not say it.
        way: how it was judged; None if it was not.
        base, head: the values.
        ratio, low, high: head over base with the interval of this ratio; None where base is 0 or there are no numbers.
        base_count, head_count: number of samples.
        p: of the Mann-Whitney test.
        margin: change, relative to base, below which it is none.
    """

    cell: str
    metric: str
    unit: str
    verdict: Verdict
    reason: str = ""
    way: Way | None = None
    base: float | None = None
    head: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    base_count: int = 0
    head_count: int = 0
    p: float | None = None
    margin: float | None = None


def compare_metric(cell: str, name: str, base: Metric | None, head: Metric | None, gate: Gate) -> Comparison | None:
    """Judge one metric; None: it is unknown on both sides."""
    known = [None if metric is None else metric.value for metric in (base, head)]
    if base is None or head is None or base.value is None or head.value is None:
        there = base or head
        assert there is not None
        if known == [None, None]:
            return None
        verdict: Verdict = "new" if known[0] is None else "missing"
        reason = next((metric.reason for metric in (base, head) if metric is not None and metric.reason), None)
        return Comparison(cell, name, there.unit, verdict, reason or "", base=known[0], head=known[1])
    if base.unit != head.unit:
        reason = f"BASE is in {base.unit}, HEAD in {head.unit}"
        return Comparison(cell, name, head.unit, "incomparable", reason, base=base.value, head=head.value)
    judged = _judge(base, head, gate)
    centre = base.value
    ratios = [None if centre == 0 else 1 + change / centre for change in (judged.change, judged.low, judged.high)]
    if centre < 0:
        ratios = [ratios[0], ratios[2], ratios[1]]
    return Comparison(
        cell,
        name,
        head.unit,
        judged.verdict,
        judged.reason,
        way=judged.way,
        base=base.value,
        head=head.value,
        ratio=ratios[0],
        low=ratios[1],
        high=ratios[2],
        base_count=len(base.samples),
        head_count=len(head.samples),
        p=judged.p,
        margin=None if judged.way == "exact" or centre == 0 else gate.margin(centre) / abs(centre),
    )


@dataclass(frozen=True)
class _Judged:
    """A verdict, and the change from base to head with its interval, in the metric's unit."""

    verdict: Verdict
    way: Way
    change: float
    low: float
    high: float
    reason: str = ""
    p: float | None = None


def _judge(base: Metric, head: Metric, gate: Gate) -> _Judged:
    assert base.value is not None
    assert head.value is not None
    change = head.value - base.value
    if base.exact and head.exact:
        return _judge_exact(base, head, gate)
    margin = gate.margin(base.value)
    if gate.significance is None:
        unchanged: tuple[Verdict, str] = ("unchanged", "")
        verdict, reason = unchanged if abs(change) <= margin else _direction(change, gate)
        return _Judged(verdict, "value", change, change, change, reason)
    if len(base.samples) > 1 and len(head.samples) > 1:
        return _judge_samples(base, head, gate, margin, gate.significance)
    if None not in (base.low, base.high, head.low, head.high):
        low, high = head.low - base.high, head.high - base.low  # type: ignore[operator]
        verdict, reason = _by_interval(change, low, high, margin, low > 0 or high < 0, gate)
        return _Judged(verdict, "interval", change, low, high, reason)
    return _Judged("inconclusive", "value", change, change, change, "one value on a side says nothing of its scatter")


def _judge_exact(base: Metric, head: Metric, gate: Gate) -> _Judged:
    """Compare value and bounds; worse in one of them is worse."""
    changes = [
        (0 if after is None else after) - (0 if before is None else before)
        for before, after in zip(_bounds(base), _bounds(head), strict=True)
    ]
    if not any(changes):
        return _Judged("unchanged", "exact", 0, 0, 0)
    sign = -1 if gate.better == "higher" else 1
    harms = [sign * change for change in changes]
    verdict, reason = _direction(sign * (max(harms) if max(harms) > 0 else min(harms)), gate)
    if any(changes[1:]):
        bounds = [" to ".join(map(str, _bounds(metric)[1:])) for metric in (base, head)]
        reason = reason or f"its bounds were {bounds[0]}, and are {bounds[1]}"
    return _Judged(verdict, "exact", changes[0], changes[0], changes[0], reason)


def _bounds(metric: Metric) -> tuple[float | None, float | None, float | None]:
    low, high = (metric.value if bound is None else bound for bound in (metric.low, metric.high))
    return metric.value, low, high


def _judge_samples(base: Metric, head: Metric, gate: Gate, margin: float, significance: float) -> _Judged:
    p = mann_whitney(base.samples, head.samples)
    change, low, high = shift(base.samples, head.samples)
    counts = len(base.samples), len(head.samples)
    if _least_p(*counts) >= significance:
        reason = f"{counts[0]} and {counts[1]} samples cannot reach p < {significance:g}"
        return _Judged("inconclusive", "samples", change, low, high, reason, p)
    verdict, reason = _by_interval(change, low, high, margin, p < significance, gate)
    return _Judged(verdict, "samples", change, low, high, reason, p)


def _least_p(base_count: int, head_count: int) -> float:
    """Return the smallest two-sided p that the Mann-Whitney test can give for so many samples."""
    return 2 / comb(base_count + head_count, base_count)


def _by_interval(
    change: float, low: float, high: float, margin: float, significant: bool, gate: Gate
) -> tuple[Verdict, str]:
    if significant and abs(change) > margin:
        return _direction(change, gate)
    if -margin <= low and high <= margin:
        return "unchanged", ""
    if significant:
        return "inconclusive", "a change, but perhaps below the threshold; more samples would tell"
    return "inconclusive", "the interval reaches beyond the threshold; more samples would tell"


def _direction(change: float, gate: Gate) -> tuple[Verdict, str]:
    if gate.better is None:
        return "inconclusive", "changed, and no direction is known; a --gates file can name one"
    return ("improved" if (change < 0) == (gate.better == "lower") else "regressed"), ""
