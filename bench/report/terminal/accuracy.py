"""Accuracy records as a table: mean and spread over seeds for each setting, beside the published figure."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.published.figures import Figure, describe_cost
from bench.published.reproduction import ReproductionVerdict, judge_reproduction
from bench.records.frame import to_pandas
from bench.records.record import Record
from bench.report.terminal.tables import grid

RATIO = "config.step.snippet_ratio"
SEED = "config.train.seed"


def over_seeds(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row a snippet ratio: mean and standard deviation of every mAP over the seeds, in percent.

    Columns: ``snippet_ratio``, ``seeds``, ``<metric>_mean``, ``<metric>_spread`` for each metric, ``train_s`` and
    ``epoch_s`` (medians). The spread is the sample standard deviation; NaN with a single seed. What was not measured is
    NaN.
    """
    frame = to_pandas(records)
    rows = []
    for ratio, group in frame.groupby(RATIO):
        row: dict[str, float] = {"snippet_ratio": float(str(ratio)), "seeds": group[SEED].nunique()}
        for column in [name for name in map(str, group) if name.startswith("metrics.mAP") or name == _AVERAGE]:
            name = column.removeprefix("metrics.")
            row[f"{name}_mean"] = 100 * group[column].mean()
            row[f"{name}_spread"] = 100 * group[column].std(ddof=1)
        for name in ("train_s", "epoch_s"):
            column = f"metrics.{name}"
            row[name] = pd.to_numeric(group[column]).median() if column in group else float("nan")
        rows.append(row)
    return pd.DataFrame(rows)


def verdicts(records: Sequence[Record]) -> dict[float, ReproductionVerdict]:
    """Return the verdict on every snippet ratio, over its seeds."""
    ratios = sorted({_ratio(record) for record in records})
    return {ratio: judge_reproduction([record for record in records if _ratio(record) == ratio]) for ratio in ratios}


def as_json(records: Sequence[Record]) -> str:
    """Return :func:`over_seeds` as a JSON list, each row with its verdict and the published figure."""
    judged = verdicts(records)
    # Through pandas' own writer, which makes null of NaN.
    rows: list[dict[str, Any]] = json.loads(over_seeds(records).to_json(orient="records"))
    for row in rows:
        verdict = judged[row["snippet_ratio"]]
        row["verdict"], row["why"] = verdict.word, verdict.why
        row["published"] = None if verdict.figure is None else verdict.figure.model_dump(mode="json")
    return json.dumps(rows, indent=1)


def as_markdown(records: Sequence[Record]) -> str:
    """Return :func:`over_seeds` as a Markdown table, ``mean ± spread``, in percent.

    Where a published figure belongs to the experiment, it and the difference to it are rows of their own. The verdicts
    are a list below the table.
    """
    table, judged = over_seeds(records), verdicts(records)
    names = [column.removesuffix("_mean") for column in map(str, table) if column.endswith("_mean")]
    titles = ["average mAP" if name == "average_mAP" else f"mAP@{_threshold(name):g}" for name in names]
    lines = [["snippet ratio", *titles, "seeds", "training (s)", "epoch (s)"]]
    rows = table.to_dict("records")
    for row in rows:
        cells = [_mean_and_spread(row[f"{name}_mean"], row[f"{name}_spread"]) for name in names]
        times = [_or_dash(row["train_s"], ".0f"), _or_dash(row["epoch_s"], ".1f")]
        lines.append([f"{row['snippet_ratio']:g}", *cells, f"{row['seeds']:g}", *times])
    figure = next((verdict.figure for verdict in judged.values() if verdict.figure is not None), None)
    notes = []
    if figure is not None:
        published = [_published(figure, name) for name in names]
        lines.append(["published", *(_or_dash(value, ".2f") for value in published), "-", "-", "-"])
        for row in rows:
            differences = [
                float("nan") if value is None else row[f"{name}_mean"] - value
                for name, value in zip(names, published, strict=True)
            ]
            title = "difference" if len(rows) == 1 else f"difference at {row['snippet_ratio']:g}"
            lines.append([title, *(_or_dash(value, "+.2f") for value in differences), "-", "-", "-"])
        cost = describe_cost(figure.cost)
        notes.append(f"published: {figure.method}, {figure.input}: {figure.source}{f'; {cost}' if cost else ''}")
    for ratio, verdict in judged.items():
        notes.append(str(verdict) if len(judged) == 1 else f"snippet ratio {ratio:g}: {verdict}")
    return grid(lines, "md", notes)


_AVERAGE = "metrics.average_mAP"


def _ratio(record: Record) -> float:
    step = record.config["step"]
    assert isinstance(step, dict)
    return float(str(step["snippet_ratio"]))


def _threshold(name: str) -> float:
    return float(name.rsplit("_", 1)[-1])


def _published(figure: Figure, name: str) -> float | None:
    if name == "average_mAP":
        return figure.average_map_percent
    return dict(zip(figure.tiou, figure.map_percent, strict=True)).get(_threshold(name))


def _mean_and_spread(mean: float, spread: float) -> str:
    return f"{mean:.2f}" if pd.isna(spread) else f"{mean:.2f} ± {spread:.2f}"


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None or pd.isna(value) else format(value, form)
