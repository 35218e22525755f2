"""``etad-bench evaluate``: score detections against annotations."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from bench.cli.options import config_option, note, run_option, set_option
from etad.config import Config, load_config
from etad.data.annotations import load_annotations, load_blocked
from etad.data.dataset import GroundTruth, ground_truth
from etad.evaluation import Evaluation, format_table
from etad.evaluation import evaluate as evaluate_detections
from etad.false_positives import FalsePositives, false_positives, format_profile
from etad.files import write_json, write_text
from etad.postprocess import AGNOSTIC_CLASSES, read_submission
from etad.runs import EVALUATION, PREDICTIONS, fold_folders, run_config


@click.command()
@run_option
@click.option("--predictions", type=click.Path(path_type=Path), help="Submission JSON instead of a run's.")
@config_option(required=False)
@set_option
@click.option("--per-class", is_flag=True, help="Also print the AP of every class.")
@click.option("--errors", is_flag=True, help="Also print what the false positives are.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
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

    A run's result is also kept as evaluation.json in its folder. The folds of a cross-validation are averaged.
    """
    if run is not None and predictions is None and config is None:
        folders = fold_folders(run)
        inputs = [(folder / PREDICTIONS, run_config(folder, assignments)) for folder in folders]
    elif predictions is not None and config is not None and run is None:
        folders = []
        inputs = [(predictions, load_config(config, assignments))]
    else:
        raise click.UsageError("Give either --run FOLDER, or --predictions FILE with --config NAME.")

    scored = [_score(path, experiment) for path, experiment in inputs]
    records = [one.record for one in scored]
    summary = records[0] if len(records) == 1 else _mean(records)
    if run is not None:
        for folder, record in zip(folders, records, strict=True):
            write_json(folder / EVALUATION, record)
        write_json(run / EVALUATION, summary)
    text = json.dumps(summary, indent=1) if form == "json" else _as_text(scored, summary, per_class, errors)
    if output is None:
        click.echo(text)
    else:
        write_text(output, text + "\n")


@dataclass(frozen=True)
class _Scored:
    name: str
    evaluation: Evaluation
    profile: FalsePositives

    @property
    def record(self) -> dict[str, Any]:
        return {"subset": self.name, **self.evaluation.to_record(), "false_positives": self.profile.to_record()}


def _score(path: Path, experiment: Config) -> _Scored:
    data = experiment.data
    annotations = load_annotations(data.path(data.annotations))
    classes = annotations.classes_of({*data.train_selection, *data.test_selection})
    truth: GroundTruth = ground_truth(annotations.select(data.test_selection), classes)
    if experiment.postprocess.classes == "agnostic":
        classes = AGNOSTIC_CLASSES
        truth = {video_id: (segments, np.zeros_like(labels)) for video_id, (segments, labels) in truth.items()}
    detections, problems = read_submission(path, classes)
    name = " and ".join(data.test_selection)
    for problem in (*annotations.problems, *problems):
        note(problem)
    settings: dict[str, Any] = {
        "blocked": load_blocked(data),
        "remove_duplicates": experiment.evaluate.remove_duplicates,
        "name": f"subset {name}",
    }
    evaluation = evaluate_detections(truth, detections, classes, experiment.evaluate.tiou, **settings)
    counts = evaluation.counts
    for count, what in (
        (counts.unknown_video, "detections are in videos outside the subset; they count as false positives"),
        (counts.unknown_class, "detections are of classes without true actions in the subset; mAP does not see them"),
        (counts.videos_without_detections, "videos of the subset have no detection"),
    ):
        if count:
            note(f"{path}: {count} {what}")
    return _Scored(name, evaluation, false_positives(truth, detections, classes, **settings))


def _mean(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average the folds' figures; their own records are kept beside."""
    return {
        "average_mAP": float(np.mean([record["average_mAP"] for record in records])),
        "mAP_by_tiou": {
            tiou: float(np.mean([record["mAP_by_tiou"][tiou] for record in records]))
            for tiou in records[0]["mAP_by_tiou"]
        },
        "folds": list(records),
    }


def _as_text(scored: Sequence[_Scored], summary: dict[str, Any], per_class: bool, errors: bool) -> str:
    parts = []
    for one in scored:
        parts.append(f"{one.name}\n{format_table(one.evaluation)}" if len(scored) > 1 else format_table(one.evaluation))
        if per_class:
            parts.append(_class_table(one.evaluation))
        if errors:
            parts.append(format_profile(one.profile))
    if len(scored) > 1:
        means = [f"mAP@{tiou} {100 * value:.2f}" for tiou, value in summary["mAP_by_tiou"].items()]
        parts.append(f"mean of {len(scored)} folds: {', '.join(means)}, average {100 * summary['average_mAP']:.2f}")
    return "\n\n".join(parts)


def _class_table(evaluation: Evaluation) -> str:
    names = list(evaluation.classes)
    table = pd.DataFrame(100 * evaluation.ap.T, index=names, columns=[f"AP@{tiou:g}" for tiou in evaluation.tiou])
    # Classes without true actions have no AP, and no place in the mean.
    return table.dropna().to_string(float_format="%.2f")
