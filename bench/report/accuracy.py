"""Accuracy records as a table and a plot: mean and spread over seeds for each setting."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from bench.record import Record
from bench.store import to_pandas
from etad.files import replace_atomically

RATIO = "config.step.snippet_ratio"
SEED = "config.train.seed"


def over_seeds(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row a snippet ratio: mean and standard deviation of every mAP over the seeds, in percent.

    Columns: ``snippet_ratio``, ``seeds``, ``<metric>_mean``, ``<metric>_spread`` for each metric, ``train_s`` (median).
    The spread is the sample standard deviation; NaN with a single seed.
    """
    frame = to_pandas(records)
    rows = []
    for ratio, group in frame.groupby(RATIO):
        row: dict[str, float] = {"snippet_ratio": float(str(ratio)), "seeds": group[SEED].nunique()}
        for column in [name for name in map(str, group) if name.startswith("metrics.") and "mAP" in name]:
            name = column.removeprefix("metrics.")
            row[f"{name}_mean"] = 100 * group[column].mean()
            row[f"{name}_spread"] = 100 * group[column].std(ddof=1)
        row["train_s"] = group["metrics.train_s"].median()
        rows.append(row)
    return pd.DataFrame(rows)


def as_markdown(table: pd.DataFrame) -> str:
    """Return :func:`over_seeds` as a Markdown table, ``mean ± spread``."""
    names = [column.removesuffix("_mean") for column in map(str, table) if column.endswith("_mean")]
    titles = ["average mAP" if name == "average_mAP" else f"mAP@{name.rsplit('_', 1)[-1]}" for name in names]
    lines = [
        f"| snippet ratio | {' | '.join(titles)} | seeds | training (s) |",
        f"|{'---|' * (len(names) + 3)}",
    ]
    for row in table.to_dict("records"):
        cells = [_mean_and_spread(row[f"{name}_mean"], row[f"{name}_spread"]) for name in names]
        ratio, seeds, train_s = row["snippet_ratio"], row["seeds"], row["train_s"]
        lines.append(f"| {ratio:g} | {' | '.join(cells)} | {seeds:g} | {train_s:.0f} |")
    return "\n".join(lines)


def plot_over_ratio(records: Sequence[Record], target: Path) -> None:
    """Draw average mAP against the snippet ratio, every seed a point, as a PNG or SVG file (written atomically)."""
    frame = to_pandas(records)
    table = over_seeds(records)
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    axis.plot(frame[RATIO], 100 * frame["metrics.average_mAP"], "o", color="tab:gray", alpha=0.6, label="one seed")
    axis.plot(table["snippet_ratio"], table["average_mAP_mean"], "o-", color="tab:blue", label="mean")
    axis.set(xlabel="part of the snippets that the gradient reaches", ylabel="average mAP (%)", ylim=(0, 100))
    axis.legend(frameon=False)
    with replace_atomically(target) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def _mean_and_spread(mean: float, spread: float) -> str:
    return f"{mean:.2f}" if pd.isna(spread) else f"{mean:.2f} ± {spread:.2f}"
