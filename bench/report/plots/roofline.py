"""The roofline plot: what the device could do over arithmetic intensity, and where the phases of each step lie."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter

from bench.records.record import Record
from bench.report.plots.canvas import empty_figure, write_figure
from bench.report.reading import highest_roof, roofline_points
from etad.errors import NothingToDoError

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
"""Told apart by every eye (Okabe and Ito 2008); one a record."""
MARKERS = {"step": "*", "encode": "o", "detect": "s", "backpropagate": "^"}
"""One a phase, so that colour is not needed to tell them."""


def plot_roofline(records: Sequence[Record], target: Path) -> None:
    """Draw the phases of every record under its device's roof (written atomically).

    Raises:
        NothingToDoError: no record has counted arithmetic.
    """
    drawn = [record for record in records if list(roofline_points(record))]
    if not drawn:
        raise NothingToDoError(f"{target}: not drawn, no record has counted arithmetic")
    figure = empty_figure(7, 4.6)
    axis = figure.subplots()
    points = [point for record in drawn for point in roofline_points(record)]
    _draw_roofs(axis, drawn, [intensity for _, intensity, _ in points])
    for number, record in enumerate(drawn):
        for phase, intensity, rate in roofline_points(record):
            axis.plot(
                intensity,
                rate / 1e9,
                MARKERS.get(phase, "D"),
                color=COLOURS[number % len(COLOURS)],
                markersize=13 if phase == "step" else 8,
                markeredgecolor="black",
                markeredgewidth=0.5,
                label=f"{_label(record)}: {phase}",
            )
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="arithmetic intensity (FLOP per byte moved, at least)",
        ylabel="speed (GFLOP/s)",
        title=f"Roofline, {', '.join(dict.fromkeys(record.device for record in drawn))}",
    )
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter("{x:g}")
        scale.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    axis.grid(which="both", alpha=0.2)
    axis.legend(fontsize="x-small", frameon=False, loc="best")
    write_figure(figure, target, dots_per_inch=150)


def _draw_roofs(axis: Axes, records: Sequence[Record], intensities: Sequence[float]) -> None:
    """Draw a roof for each device and precision; where it is not known there is none."""
    groups: dict[tuple[str, str | None], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.device, record.metrics["peak_flops_per_s"].method].append(record)
    for highest, steepest in filter(None, map(highest_roof, groups.values())):
        ridge = highest / steepest
        x = np.geomspace(min([*intensities, ridge]) / 4, max([*intensities, ridge]) * 4, 200)
        axis.plot(x, np.minimum(highest, x * steepest) / 1e9, color="0.25", linewidth=1.2)
        text = f"{highest / 1e9:.3g} GFLOP/s, {steepest / 1e9:.3g} GB/s"
        axis.annotate(text, (ridge, highest / 1e9), (0, 5), textcoords="offset points", fontsize="x-small")


def _label(record: Record) -> str:
    return f"{record.config['name']} {record.measurement['task']}"
