"""The picture of an annotation file: how long the actions of each class are, on a logarithmic axis."""

from pathlib import Path
from statistics import median

from bench.report.plots.canvas import empty_figure, write_figure
from etad.data.annotation_statistics import ClassStatistics, Statistics
from etad.errors import ConfigError

MOST = 40
"""Classes in a picture; the most frequent ones."""


def plot_durations(statistics: Statistics, target: Path) -> None:
    """Draw every action as a point at its duration, a row a class, with the median of each.

    Raises:
        ConfigError: no action has a length, so there is nothing to draw.
    """
    rows = [one for one in statistics.classes if one.durations_s]
    if not rows:
        raise ConfigError(f"--plot {target}: no action has a length")
    shown = rows[:MOST]
    figure = empty_figure(7.0, 1.2 + 0.24 * len(shown))
    place = figure.subplots()
    for height, one in enumerate(reversed(shown)):
        place.plot(one.durations_s, [height] * len(one.durations_s), "|", color="C0", alpha=0.4, markersize=7)
        place.plot([median(one.durations_s)], [height], "o", color="C1", markersize=4)
    place.set_yticks(range(len(shown)), [_title(one) for one in reversed(shown)])
    place.set_ylim(-0.6, len(shown) - 0.4)
    more = f"; {len(rows) - MOST} rarer classes are not shown" if len(rows) > MOST else ""
    place.set(xscale="log", xlabel=f"duration (s); a line an action, a dot the median{more}")
    place.grid(axis="x", alpha=0.3)
    write_figure(figure, target)


def _title(one: ClassStatistics) -> str:
    # A $ would begin a formula.
    return f"{one.label} ({one.actions})".replace("$", r"\$")
