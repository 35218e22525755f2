"""The picture of accuracy: average mAP against the snippet ratio or the proposal ratio, a line a sampler."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from bench.records.record import Record
from bench.report.plots.canvas import empty_figure, write_figure
from bench.report.terminal.study import AXES, POINTS, SCORE, SNIPPETS, Axis, along, study_frame
from etad.errors import ConfigError


def plot_study(records: Sequence[Record], target: Path) -> None:
    """Draw a panel for each axis of a study that was tried.

    Raises:
        ConfigError: no axis has several settings, so there is nothing to draw.
    """
    frame = study_frame(records)
    panels = [(axis, along(frame, axis, other)) for axis, other in AXES]
    panels = [(axis, rows) for axis, rows in panels if not rows.empty]
    if not panels:
        raise ConfigError(f"--plot {target}: no sampler or ratio was tried with several values")
    _plot(panels, target)


def plot_over_ratio(records: Sequence[Record], target: Path) -> None:
    """Draw records of one experiment against the snippet ratio, also where there is a single one."""
    _plot([(SNIPPETS, study_frame(records))], target)


def _plot(panels: Sequence[tuple[Axis, pd.DataFrame]], target: Path) -> None:
    """Draw every seed as a point, and a line through the means of each sampler."""
    figure = empty_figure(5.2 * len(panels), 3.8)
    places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for place, (axis, rows) in zip(places, panels, strict=True):
        _draw(place, axis, rows)
    places[0].set(ylabel="average mAP (%)", ylim=(0, 100))
    write_figure(figure, target)


def _draw(place: Axes, axis: Axis, rows: pd.DataFrame) -> None:
    for number, (sampler, group) in enumerate(rows.groupby(axis.sampler, sort=False)):
        colour, marker = f"C{number}", "osD^vP"[number % 6]
        place.plot(group[axis.ratio], group[SCORE] * POINTS, marker, color=colour, alpha=0.35, markersize=4)
        mean = group.groupby(axis.ratio)[SCORE].mean() * POINTS
        place.plot(mean.index, mean, f"{marker}-", color=colour, label=str(sampler))
    place.set(xlabel=axis.title, title=rows["name"].iloc[0])
    place.legend(frameon=False)
