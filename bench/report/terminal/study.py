"""The sampling study from its records: mAP, time and memory by sampler and ratio, comparisons, and a plot.

A record belongs to the snippet axis if its proposal settings are the study's usual ones, and the other way round; the
usual ones are those with which most settings of the axis were tried.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from scipy import stats

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.records.record import Record
from bench.report.terminal.tables import grid
from bench.timing_statistics import CONFIDENCE, Floats
from etad.errors import ConfigError
from etad.files import replace_atomically

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
    """Return one row an accuracy record: samplers, ratios, seed, ``average_mAP`` and ``train_s``."""
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
                    "train_s": record.metrics["train_s"].value,
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


def plot_study(records: Sequence[Record], target: Path) -> None:
    """Draw average mAP against the ratio, a line a sampler, every seed a point; a panel for each axis that was tried.

    Raises:
        ConfigError: no axis has several settings, so there is nothing to draw.
    """
    frame = study_frame(records)
    panels = [(axis, along(frame, axis, other)) for axis, other in AXES]
    panels = [(axis, rows) for axis, rows in panels if not rows.empty]
    if not panels:
        raise ConfigError(f"--plot {target}: no sampler or ratio was tried with several values")
    figure, places = plt.subplots(
        1, len(panels), figsize=(5.2 * len(panels), 3.8), layout="constrained", sharey=True, squeeze=False
    )
    for place, (axis, rows) in zip(places[0], panels, strict=True):
        _draw(place, axis, rows)
    places[0][0].set(ylabel="average mAP (%)", ylim=(0, 100))
    with replace_atomically(target) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def check_target(target: Path) -> None:
    """Refuse a file that cannot be drawn before the sweep begins.

    Raises:
        ConfigError: its ending is not that of a picture.
    """
    known = plt.figure().canvas.get_supported_filetypes()
    plt.close()
    if target.suffix.removeprefix(".") not in known:
        raise ConfigError(f"--plot {target}: unknown picture format; end it in .png, .svg or .pdf")


def _draw(place: Axes, axis: Axis, rows: pd.DataFrame) -> None:
    for number, (sampler, group) in enumerate(rows.groupby(axis.sampler, sort=False)):
        colour, marker = f"C{number}", "osD^vP"[number % 6]
        place.plot(group[axis.ratio], group[SCORE] * POINTS, marker, color=colour, alpha=0.35, markersize=4)
        mean = group.groupby(axis.ratio)[SCORE].mean() * POINTS
        place.plot(mean.index, mean, f"{marker}-", color=colour, label=str(sampler))
    place.set(xlabel=axis.title, title=rows["name"].iloc[0])
    place.legend(frameon=False)


def _compared(setting: str, against: str, scores: Floats, others: Floats) -> Comparison:
    difference = float(scores.mean() - others.mean())
    if np.ptp(scores) == 0 and np.ptp(others) == 0:
        # Without any scatter there is no interval around the difference.
        return Comparison(setting, against, difference, difference, difference)
    interval = stats.ttest_ind(scores, others, equal_var=False).confidence_interval(CONFIDENCE)
    return Comparison(setting, against, difference, float(interval.low), float(interval.high))
