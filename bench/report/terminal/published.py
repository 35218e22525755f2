"""Published figures for a person: one row each, with its source."""

import json
from collections.abc import Sequence
from typing import Literal

from bench.published.figures import Figure, describe_cost
from bench.report.terminal.tables import grid

TITLE = "Published figures, not measured by us. mAP in percent."


def format_figures(figures: Sequence[Figure], form: Literal["table", "json", "csv", "md"]) -> str:
    """Return the figures as aligned text, JSON (every field), CSV or a Markdown table."""
    if form == "json":
        return json.dumps([figure.model_dump(mode="json") for figure in figures], indent=1, ensure_ascii=False)
    thresholds = sorted({threshold for figure in figures for threshold in figure.tiou})
    header = ["dataset", "method", "input", "end to end", "classifier", *(f"mAP@{value:g}" for value in thresholds)]
    header += ["average mAP", "cost", "mark", "source"]
    rows = [_row(figure, thresholds) for figure in figures]
    if form == "csv":
        return grid([["kind", *header], *(["published", *row] for row in rows)], form)
    between = "\n\n" if form == "md" else "\n"
    return TITLE + between + grid([header, *rows], form, to_the_right=())


def _row(figure: Figure, thresholds: Sequence[float]) -> list[str]:
    at = dict(zip(figure.tiou, figure.map_percent, strict=True))
    average = figure.average_map_percent
    return [
        figure.dataset or "",
        figure.method,
        figure.input,
        {True: "yes", False: "no", None: ""}[figure.end_to_end],
        figure.classifier or "",
        *(f"{at[threshold]:.2f}" if threshold in at else "" for threshold in thresholds),
        "" if average is None else f"{average:.2f}",
        describe_cost(figure.cost),
        ", ".join(figure.marks),
        figure.source + (f" ({figure.note})" if figure.note else ""),
    ]
