"""``etad-bench evaluate``: score detections against annotations."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import config_option, emit, note, run_option, set_option
from etad.config import load_config
from etad.data.annotations import annotations_of
from etad.files import write_json

if TYPE_CHECKING:
    from etad.evaluation.average_precision import Evaluation
    from etad.evaluation.scoring import Score


@click.command()
@run_option
@click.option(
    "--predictions", type=click.Path(path_type=Path), help="Submission JSON, plain or gzipped, instead of a run's."
)
@config_option(required=False)
@set_option
@click.option("--per-class", is_flag=True, help="Also print the AP of every class.")
@click.option("--errors", is_flag=True, help="Also print what the false positives are.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of the output.",
)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="File instead of stdout.")
def evaluate(
    run: Path | None,
    predictions: Path | None,
    config: str | None,
    assignments: tuple[str, ...],
    per_class: bool,
    errors: bool,
    form: str,
    output: Path | None,
) -> None:
    """Score the detections of a run (after etad-bench infer), or of any submission file against a config's test set.

    A run's result is also kept as evaluation.json in its folder. The folds of a cross-validation are averaged. What is
    odd about the detections is said on stderr, and how long reading and evaluating them took.
    """
    # torch is slow to import, and --help does not need it.
    from etad.evaluation.scoring import Submission, mean_record
    from etad.runs import EVALUATION, PREDICTIONS, fold_folders, run_config

    if run is not None and predictions is None and config is None:
        folders = fold_folders(run)
        inputs = [(folder / PREDICTIONS, run_config(folder, assignments)) for folder in folders]
    elif predictions is not None and config is not None and run is None:
        folders = []
        inputs = [(predictions, load_config(config, assignments))]
    else:
        raise click.UsageError("Give either --run FOLDER, or --predictions FILE with --config NAME.")

    began = time.perf_counter()
    annotations = annotations_of(inputs[0][1].data)  # shared by the folds of a cross-validation
    submissions = [Submission.read(path, experiment, annotations) for path, experiment in inputs]
    read_at = time.perf_counter()
    scored = [submission.score() for submission in submissions]
    scored_at = time.perf_counter()
    for problem in dict.fromkeys(problem for one in scored for problem in one.problems):
        note(problem)
    detections = sum(one.evaluation.counts.detections for one in scored)
    note(f"{detections} detections read in {read_at - began:.2f} s, evaluated in {scored_at - read_at:.2f} s")
    records = [one.to_record() for one in scored]
    summary = mean_record(records)
    if run is not None:
        for folder, record in zip(folders, records, strict=True):
            write_json(folder / EVALUATION, record)
        write_json(run / EVALUATION, summary)
    text = json.dumps(summary, indent=1) if form == "json" else _as_text(scored, summary, per_class, errors)
    emit(text, output)


def _as_text(scored: Sequence["Score"], summary: dict[str, Any], per_class: bool, errors: bool) -> str:
    from etad.evaluation.average_precision import format_table
    from etad.evaluation.false_positives import format_profile

    parts = []
    for one in scored:
        parts.append(
            f"{one.subset}\n{format_table(one.evaluation)}" if len(scored) > 1 else format_table(one.evaluation)
        )
        if per_class:
            parts.append(_class_table(one.evaluation))
        if errors:
            parts.append(format_profile(one.profile))
    if len(scored) > 1:
        means = [f"mAP@{tiou} {100 * value:.2f}" for tiou, value in summary["mAP_by_tiou"].items()]
        parts.append(f"mean of {len(scored)} folds: {', '.join(means)}, average {100 * summary['average_mAP']:.2f}")
    return "\n\n".join(parts)


def _class_table(evaluation: "Evaluation") -> str:
    import pandas as pd  # slow to import, and only this table needs it

    names = list(evaluation.classes)
    table = pd.DataFrame(100 * evaluation.ap.T, index=names, columns=[f"AP@{tiou:g}" for tiou in evaluation.tiou])
    # Classes without true actions have no AP, and no place in the mean.
    return table.dropna().to_string(float_format="%.2f")
