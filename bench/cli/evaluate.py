"""``etad-bench evaluate``: score detections against annotations."""

import json
import time
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import config_option, emit, format_option, note, run_option, set_option
from etad.classes import check_classes
from etad.config import load_config
from etad.data.annotations import annotations_of
from etad.errors import DataError
from etad.files import write_json

if TYPE_CHECKING:
    from etad.evaluation.average_precision import Evaluation
    from etad.evaluation.scoring import Score, Submission
    from etad.runs import KeptRun


@click.command()
@run_option
@click.option(
    "--predictions", type=click.Path(path_type=Path), help="Submission JSON, plain or gzipped, instead of a run's."
)
@config_option(required=False)
@set_option
@click.option("--per-class", is_flag=True, help="Also print the AP of every class.")
@click.option("--errors", is_flag=True, help="Also print what the false positives are.")
@format_option
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
    from etad.runs import EVALUATION, PREDICTIONS, KeptRun, fold_folders, read_run

    runs: list[KeptRun] = []
    if run is not None and predictions is None and config is None:
        runs = [read_run(folder, assignments) for folder in fold_folders(run)]
        inputs = [(one.folder / PREDICTIONS, one.config) for one in runs]
    elif predictions is not None and config is not None and run is None:
        inputs = [(predictions, load_config(config, assignments))]
    else:
        raise click.UsageError("Give either --run FOLDER, or --predictions FILE with --config NAME.")

    annotations = annotations_of(inputs[0][1].data)  # shared by the folds of a cross-validation
    for one in runs:
        check_classes(one.classes, annotations.trained_classes(one.config.data), one.checkpoint, annotations.path)
    began = time.perf_counter()
    submissions = [
        Submission.read(path, experiment, annotations, one.classes if one else None)
        for (path, experiment), one in zip_longest(inputs, runs)
    ]
    for submission, one in zip(submissions, runs, strict=bool(runs)):
        _refuse_stale(submission, one)
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
        for one, record in zip(runs, records, strict=True):
            write_json(one.folder / EVALUATION, record)
        write_json(run / EVALUATION, summary)
    text = json.dumps(summary, indent=1) if form == "json" else _as_text(scored, summary, per_class, errors)
    emit(text, output)


def _refuse_stale(submission: "Submission", run: "KeptRun") -> None:
    """Refuse detections that the run would not make any more; other settings are told."""
    from etad.inputs import changed, detection_inputs

    if submission.made_by is None:
        note(f"{submission.path}: does not tell what it was made from, so it is scored as it is")
        return
    now = detection_inputs(run.config, submission.annotations, run.classes, run.weights)
    differing = changed(submission.made_by, now)
    if differing == ["settings"]:
        note(f"{submission.path}: was made with other settings than {run.checkpoint} has; it is scored as it is")
    elif differing:
        raise DataError(
            f"{submission.path}: {', '.join(differing)} changed since it was made; detect again: "
            f"etad-bench infer --run {run.folder}"
        )


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
