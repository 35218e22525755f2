"""Scoring a submission file against an experiment's test set, and the mean over the folds of a cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etad.config import Config
from etad.data.annotations import load_annotations, load_blocked
from etad.data.dataset import GroundTruth, ground_truth
from etad.evaluation import Evaluation, evaluate
from etad.false_positives import FalsePositives, false_positives
from etad.postprocess import AGNOSTIC_CLASSES, read_submission


@dataclass(frozen=True)
class Score:
    """What a submission is worth.

    Attributes:
        subset: name of the test subset.
        evaluation: mAP and average recall.
        profile: what the false positives are.
        problems: what is odd about the annotations or the submission, one line each.
    """

    subset: str
    evaluation: Evaluation
    profile: FalsePositives
    problems: tuple[str, ...]

    def to_record(self) -> dict[str, Any]:
        """Return plain JSON-able values."""
        return {"subset": self.subset, **self.evaluation.to_record(), "false_positives": self.profile.to_record()}


def score(submission: Path, config: Config) -> Score:
    """Score a submission file against the config's test subset.

    Raises:
        DataError: the file is missing or malformed.
        NothingToDoError: the subset is empty.
    """
    data = config.data
    annotations = load_annotations(data.path(data.annotations))
    classes = annotations.classes_of({*data.train_selection, *data.test_selection})
    truth: GroundTruth = ground_truth(annotations.select(data.test_selection), classes)
    if config.postprocess.classes == "agnostic":
        classes = AGNOSTIC_CLASSES
        truth = {video_id: (segments, np.zeros_like(labels)) for video_id, (segments, labels) in truth.items()}
    detections, problems = read_submission(submission, classes)
    subset = " and ".join(data.test_selection)
    settings: dict[str, Any] = {
        "blocked": load_blocked(data),
        "remove_duplicates": config.evaluate.remove_duplicates,
        "name": f"subset {subset}",
    }
    evaluation = evaluate(truth, detections, classes, config.evaluate.tiou, **settings)
    counts = evaluation.counts
    oddities = (
        (counts.unknown_video, "detections are in videos outside the subset; they count as false positives"),
        (counts.unknown_class, "detections are of classes without true actions in the subset; mAP does not see them"),
        (counts.videos_without_detections, "videos of the subset have no detection"),
    )
    return Score(
        subset=subset,
        evaluation=evaluation,
        profile=false_positives(truth, detections, classes, **settings),
        problems=(
            *annotations.problems,
            *problems,
            *(f"{submission}: {count} {what}" for count, what in oddities if count),
        ),
    )


def mean_record(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average the records of the folds; a single one is returned as it is. Their own records are kept beside."""
    if len(records) == 1:
        return records[0]
    return {
        "average_mAP": float(np.mean([record["average_mAP"] for record in records])),
        "mAP_by_tiou": {
            tiou: float(np.mean([record["mAP_by_tiou"][tiou] for record in records]))
            for tiou in records[0]["mAP_by_tiou"]
        },
        "folds": list(records),
    }
