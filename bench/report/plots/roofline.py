"""The roofline plot: what the device could do over arithmetic intensity, and where the phases of each step lie."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter

from bench.records.record import Metrics, Record
from bench.report.reading import done_flops
from etad.errors import ConfigError, NothingToDoError
from etad.files import replace_atomically

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
"""Told apart by every eye (Okabe and Ito 2008); one a record."""
MARKERS = {"step": "*", "encode": "o", "detect": "s", "backpropagate": "^"}
"""One a phase, so that colour is not needed to tell them."""
SUFFIXES = (".png", ".svg", ".pdf")


def check_target(target: Path) -> None:
    """Refuse a file that could not be drawn, before anything is measured.

    Raises:
        ConfigError: its suffix is none that can be drawn.
    """
    if target.suffix not in SUFFIXES:
        raise ConfigError(f"--roofline {target}: name a file that ends in {', '.join(SUFFIXES)}")


def plot_roofline(records: Sequence[Record], target: Path) -> None:
    """Draw the phases of every record under its device's roof (written atomically).

    Raises:
        NothingToDoError: no record has counted arithmetic.
    """
    drawn = [record for record in records if list(_points(record))]
    if not drawn:
        raise NothingToDoError(f"{target}: not drawn, no record has counted arithmetic")
    figure, axis = plt.subplots(figsize=(7, 4.6), layout="constrained")
    points = [point for record in drawn for point in _points(record)]
    _draw_roofs(axis, drawn, [intensity for _, intensity, _ in points])
    for number, record in enumerate(drawn):
        for phase, intensity, rate in _points(record):
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
    with replace_atomically(target) as temporary:
        figure.savefig(temporary, dpi=150, format=target.suffix[1:])
    plt.close(figure)


def _points(record: Record) -> Iterator[tuple[str, float, float]]:
    """Yield name, intensity in FLOP/byte and speed in FLOP/s of the step and of each phase that computes."""
    parts: dict[str, tuple[Metrics, str]] = {"step": (record.metrics, "step_s")}
    parts |= {phase: (metrics, "time_s") for phase, metrics in record.phases.items()}
    for name, (metrics, time) in parts.items():
        if time not in metrics or "moved_bytes" not in metrics:
            continue
        time_s, moved, flops = metrics[time].value, metrics["moved_bytes"].value, done_flops(metrics)
        if time_s and moved and flops:
            yield name, flops / moved, flops / time_s


def _draw_roofs(axis: Axes, records: Sequence[Record], intensities: Sequence[float]) -> None:
    """Draw a roof for each device and precision, the highest that was found; where it is not known there is none."""
    roofs: dict[tuple[str, str | None], tuple[float, float]] = {}
    for record in records:
        peak, bandwidth = (record.metrics[name] for name in ("peak_flops_per_s", "memory_bandwidth_bytes_per_s"))
        if peak.value is not None and bandwidth.value is not None:
            best = roofs.get((record.device, peak.method), (0.0, 0.0))
            roofs[record.device, peak.method] = (max(best[0], peak.value), max(best[1], bandwidth.value))
    for highest, steepest in roofs.values():
        ridge = highest / steepest
        x = np.geomspace(min([*intensities, ridge]) / 4, max([*intensities, ridge]) * 4, 200)
        axis.plot(x, np.minimum(highest, x * steepest) / 1e9, color="0.25", linewidth=1.2)
        text = f"{highest / 1e9:.3g} GFLOP/s, {steepest / 1e9:.3g} GB/s"
        axis.annotate(text, (ridge, highest / 1e9), (0, 5), textcoords="offset points", fontsize="x-small")


def _label(record: Record) -> str:
    return f"{record.config['name']} {record.measurement['task']}"
