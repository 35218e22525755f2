"""The picture of memory over a step: categories on top of each other, phases marked."""

import itertools
import textwrap
from pathlib import Path

import numpy as np

from bench.measure.memory_timeline import Timeline
from bench.report.plots.canvas import empty_figure, write_figure
from bench.units import MIB

POINTS = 2000
"""Events drawn; of more, the one with the largest total stands for its neighbours."""
COLOURS = {
    "parameter": "#4e79a7",
    "optimizer_state": "#76b7b2",
    "gradient": "#59a14f",
    "input": "#edc948",
    "activation": "#e15759",
    "workspace": "#bab0ac",
}


def draw_timeline(timeline: Timeline, title: str, path: Path) -> None:
    """Draw a step as PNG or SVG, by the file's suffix; written atomically."""
    shown = chosen(timeline)
    figure = empty_figure(11, 5)
    axis = figure.subplots()
    sizes = {name: column[shown] / MIB for name, column in timeline.categories.items()}
    names = [name.replace("_", " ") for name in sizes]
    axis.stackplot(shown, list(sizes.values()), labels=names, colors=[COLOURS[name] for name in sizes], linewidth=0)
    axis.plot(shown, timeline.reserved[shown] / MIB, color="black", linewidth=0.8, label="reserved")
    top = float(timeline.reserved.max(initial=1)) / MIB * 1.12
    for name, begin, end in timeline.phases:
        axis.axvline(begin, color="black", linewidth=0.5, linestyle=":")
        # A phase of few events has no room for its name across.
        wide = end - begin > 0.12 * len(timeline.total)
        axis.text(
            (begin + end) / 2 if wide else begin,
            top * 0.985,
            name.replace("_", " "),
            rotation=0 if wide else 90,
            ha="center" if wide else "left",
            va="top",
            fontsize=8,
        )
    axis.set(
        xlim=(0, max(len(timeline.total) - 1, 1)),
        ylim=(0, top),
        xlabel="allocations and their ends, in order",
        ylabel=f"{timeline.kind} memory [MiB]",
    )
    axis.set_title("\n".join(textwrap.wrap(title, 110)), fontsize=9)
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    write_figure(figure, path)


def chosen(timeline: Timeline) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return the events to draw: all, or the largest total of each of ``POINTS`` runs."""
    total = timeline.total
    if len(total) <= POINTS:
        return np.arange(len(total))
    edges = np.linspace(0, len(total), POINTS + 1).astype(np.int64)
    return np.array([begin + int(total[begin:end].argmax()) for begin, end in itertools.pairwise(edges)])
