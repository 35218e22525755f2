"""The sampling study from its records: average mAP by sampler and ratio, and comparisons of them.

A record belongs to the snippet axis if its proposal settings are the study's usual ones, and the other way round; the
usual ones are those with which most settings of the axis were tried.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from bench.records.record import Record
from bench.report.terminal.tables import grid
from bench.timing_statistics import CONFIDENCE, Floats

USUAL = "random"
"""The sampler that the others are compared with: the published one."""
SCORE = "average_mAP"
SEED = "seed"
POINTS = 100.0
"""A mAP in percent is its fraction times this; differences of percentages are points."""


@dataclass(frozen=True)
class Axis:
    """One of the two things that are sampled.

    Attributes:
        name: "snippet" or "proposal".
        title: of the plot's axis.
    """

    name: str
    title: str

    @property
    def ratio(self) -> str:
        """Column of the ratio."""
        return f"{self.name}_ratio"

    @property
    def sampler(self) -> str:
        """Column of the sampler."""
        return f"{self.name}_sampler"

    @property
    def both(self) -> list[str]:
        """Sampler and ratio."""
        return [self.sampler, self.ratio]


SNIPPETS = Axis("snippet", "part of the snippets that the gradient reaches")
PROPOSALS = Axis("proposal", "part of the proposals that train the detector")
AXES = ((SNIPPETS, PROPOSALS), (PROPOSALS, SNIPPETS))
"""Each axis with the other one."""


@dataclass(frozen=True)
class Comparison:
    """Two settings, compared over their seeds.

    Attributes:
        setting, against: in words.
        difference, low, high: of the mean average mAP, in points, with Welch's 95 % interval.
    """

    setting: str
    against: str
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What the interval says."""
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "not told apart"


def study_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row an accuracy record: experiment, samplers, ratios, seed and ``average_mAP``."""
    rows = []
    for record in records:
        if record.suite == "accuracy" and record.succeeded:
            step, train = record.config["step"], record.config["train"]
            assert isinstance(step, dict)
            assert isinstance(train, dict)
            rows.append(
                {
                    **{column: step[column] for axis, _ in AXES for column in axis.both},
                    "name": record.config["name"],
                    SEED: train["seed"],
                    SCORE: record.metrics[SCORE].value,
                }
            )
    return pd.DataFrame(rows)


def along(frame: pd.DataFrame, axis: Axis, other: Axis) -> pd.DataFrame:
    """Return the rows of one axis: of one experiment, with the usual setting of the other axis.

    There are none if no experiment was tried with several settings.
    """
    best = frame.iloc[:0]
    for _, group in [] if frame.empty else frame.groupby(["name", *other.both]):
        if _settings(group, axis) > max(1, _settings(best, axis)):
            best = group
    return best


def _settings(rows: pd.DataFrame, axis: Axis) -> int:
    return 0 if rows.empty else len(rows[axis.both].drop_duplicates())


def comparisons(rows: pd.DataFrame, axis: Axis) -> Iterator[Comparison]:
    """Yield, for one axis, every smaller ratio against the largest one, and every sampler against the usual one.

    Settings with a single seed are left out: they say nothing of chance.
    """
    groups: dict[tuple[str, float], Floats] = {}
    for sampler, drawn in [] if rows.empty else rows.groupby(axis.sampler):
        for ratio, group in drawn.groupby(axis.ratio):
            if len(group) > 1:
                groups[str(sampler), float(str(ratio))] = group[SCORE].to_numpy() * POINTS
    largest = max((ratio for sampler, ratio in groups if sampler == USUAL), default=None)
    for (sampler, ratio), scores in groups.items():
        against = (USUAL, largest) if sampler == USUAL else (USUAL, ratio)
        if against != (sampler, ratio) and against in groups:
            yield _compared(f"{sampler} {ratio:g}", f"{against[0]} {against[1]:g}", scores, groups[against])


def format_comparisons(records: Sequence[Record]) -> str:
    """Return all comparisons as a table; empty where there are none."""
    frame = study_frame(records)
    lines = []
    for axis, other in AXES:
        for found in comparisons(along(frame, axis, other), axis):
            interval = f"{found.low:+.2f}..{found.high:+.2f}"
            lines.append(
                [f"{axis.name}s", found.setting, found.against, f"{found.difference:+.2f}", interval, found.verdict]
            )
    if not lines:
        return ""
    header = ["", "setting", "against", "average mAP [points]", "95 % interval", "it is"]
    note = "difference of means over seeds, Welch's interval; with few seeds it is wide"
    return grid([header, *lines], "table", [note])


def _compared(setting: str, against: str, scores: Floats, others: Floats) -> Comparison:
    difference = float(scores.mean() - others.mean())
    if np.ptp(scores) == 0 and np.ptp(others) == 0:
        # Without any scatter there is no interval around the difference.
        return Comparison(setting, against, difference, difference, difference)
    interval = stats.ttest_ind(scores, others, equal_var=False).confidence_interval(CONFIDENCE)
    return Comparison(setting, against, difference, float(interval.low), float(interval.high))
