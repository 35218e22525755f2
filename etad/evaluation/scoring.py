"""Scoring a submission file against an experiment's test set, and the mean over the folds of a cross-validation."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etad.config import Config
from etad.data.annotations import Annotations, annotations_of
from etad.data.dataset import GroundTruth, ground_truth
from etad.detections.detections import AGNOSTIC_CLASSES, Detections
from etad.detections.submissions import MADE_BY, load_submission, parse_submission
from etad.evaluation.average_precision import Evaluation, evaluate
from etad.evaluation.false_positives import FalsePositives, false_positives


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


@dataclass(frozen=True)
class Submission:
    """A submission file and the true actions that it is scored against, read and ready.

    Attributes:
        path: the file.
        config: the experiment.
        annotations: all of them.
        classes: names of the class numbers: what a network is trained for, then what the test subset has besides.
        truth: true actions of the test subset.
        detections: by video id.
        blocked: ids that count on neither side.
        external_data: what the submission says it used besides the data set; ours name the file of class scores.
        made_by: what ours were made from; see :func:`etad.inputs.detection_inputs`. None: the file does not tell.
        problems: what was odd in reading, one line each.
    """

    path: Path
    config: Config
    annotations: Annotations
    classes: tuple[str, ...]
    truth: GroundTruth
    detections: Mapping[str, Detections]
    blocked: frozenset[str]
    external_data: str
    made_by: Mapping[str, str] | None
    problems: tuple[str, ...]

    @classmethod
    def read(
        cls,
        path: Path,
        config: Config,
        annotations: Annotations | None = None,
        classes: Sequence[str] | None = None,
    ) -> "Submission":
        """Read a submission file, and the config's test subset.

        Args:
            path: the file.
            config: the experiment.
            annotations: those of ``config.data``; None: they are read.
            classes: what the network was trained for; None: what the data says.

        Raises:
            DataError: a file is missing or malformed.
            NothingToDoError: the subset is empty, or all of it is blocked.
        """
        data = config.data
        annotations = annotations or annotations_of(data)
        trained = annotations.trained_classes(data) if classes is None else tuple(classes)
        # ActivityNet's evaluator averages over the labels of the true actions, trained for or not.
        classes = (*trained, *annotations.untrained(data, trained))
        listed = annotations.select(data.test_selection)
        counted = {video.id for video in annotations.select(data.test_selection, annotations.blocked)}
        truth: GroundTruth = ground_truth(listed, classes)
        agnostic = config.postprocess.classes == "agnostic"
        if agnostic:
            classes = AGNOSTIC_CLASSES
            truth = {video_id: (segments, np.zeros_like(labels)) for video_id, (segments, labels) in truth.items()}
        tree = load_submission(path)
        detections, problems = parse_submission(
            tree,
            path,
            classes,
            agnostic=agnostic,
            video_ids={video.id for video in annotations.videos},
            ignored=data.ignored_classes,
        )
        external = tree.get("external_data")
        made_by = tree.get(MADE_BY)
        # The list may spell an id with "v_", and the annotations without.
        spelled = annotations.blocked | {video.id for video in listed if video.id not in counted}
        return cls(
            path=path,
            config=config,
            annotations=annotations,
            classes=classes,
            truth=truth,
            detections=detections,
            blocked=spelled,
            external_data=str(external.get("details") or "") if isinstance(external, dict) else "",
            made_by=made_by if isinstance(made_by, dict) else None,
            problems=(*annotations.problems, *annotations.untrained_lines(data, trained), *problems),
        )

    def score(self) -> Score:
        """Evaluate the detections.

        Raises:
            NothingToDoError: the subset has no true action.
        """
        subset = " and ".join(self.config.data.test_selection)
        settings: dict[str, Any] = {
            "blocked": self.blocked,
            "remove_duplicates": self.config.evaluate.remove_duplicates,
            "name": f"subset {subset}",
        }
        evaluation = evaluate(self.truth, self.detections, self.classes, self.config.evaluate.tiou, **settings)
        return Score(
            subset=subset,
            evaluation=evaluation,
            profile=false_positives(self.truth, self.detections, self.classes, **settings),
            problems=(*self.problems, *(f"{self.path}: {oddity}" for oddity in self._oddities(subset, evaluation))),
        )

    def _oddities(self, subset: str, evaluation: Evaluation) -> Iterator[str]:
        """Say what is odd about the detections: how many, which is the first, and what was done about it."""
        counts, filled = evaluation.counts, [video_id for video_id, found in self.detections.items() if len(found)]
        if not counts.detections:
            yield f"holds no detection for a video of the subset {subset}: every action of it is missed"
            without: list[str] = []
        else:
            without = [id_ for id_ in self.truth if id_ not in self.blocked and not len(self.detections.get(id_, ()))]
        if without:
            yield f"{len(without)} videos of the subset {subset} have no detection (first: {without[0]})"
        outside = [video_id for video_id in filled if video_id not in self.truth and video_id not in self.blocked]
        if outside:
            subset_of = {video.id: video.subset for video in self.annotations.videos}
            places = Counter(subset_of.get(video_id) for video_id in outside)
            known = [f"{count} of subset {place}" for place, count in places.items() if place is not None]
            unknown = [f"{places[None]} not in the annotations"] if places[None] else []
            yield (
                f"{counts.unknown_video} detections are in {len(outside)} videos outside the subset {subset} "
                f"(first: {outside[0]}; {', '.join(known + unknown)}); they count as false positives"
            )
        if counts.unknown_class:
            counted = [id_ for id_ in (*self.truth, *self.detections) if id_ not in self.blocked]
            present = {label for id_ in counted if id_ in self.truth for label in self.truth[id_][1].tolist()}
            used = {
                label for id_ in counted if id_ in self.detections for label in self.detections[id_].labels.tolist()
            }
            used -= present
            yield (
                f"{counts.unknown_class} detections are of {len(used)} classes without true actions in the subset "
                f"{subset} (first: {self.classes[min(used)]}); mAP does not see them"
            )
        if counts.blocked_detections:
            first = next(video_id for video_id in filled if video_id in self.blocked)
            yield f"{counts.blocked_detections} detections are in blocked videos (first: {first}); they are left out"


def score(submission: Path, config: Config) -> Score:
    """Score a submission file against the config's test subset.

    Raises:
        DataError: the file is missing or malformed.
        NothingToDoError: the subset is empty.
    """
    return Submission.read(submission, config).score()


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
