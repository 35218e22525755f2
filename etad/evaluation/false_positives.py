"""What the wrong detections are: the false-positive profile of Alwassel et al., "Diagnosing Error in Temporal Action
Detectors" (ECCV 2018).

Of every class with G true actions, the best 10 G detections are looked at, in ten groups of G. A detection that the
evaluation does not match is named after the true action of its video, of any class, that it overlaps most.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etad.detections.detections import BoolArray, Detections, FloatArray, IntArray
from etad.evaluation.average_precision import (
    FlatDetections,
    FlatGroundTruth,
    GroundTruth,
    flatten_ground_truth,
    flatten_predictions,
    match,
    pairs_in_same_video,
    pairwise_tiou,
)

CATEGORIES = ("true_positive", "double_detection", "wrong_label", "localisation", "confusion", "background")
"""Double detection: reaches the threshold on its own class, but the action is matched already. Wrong label: reaches it
on another class. Localisation, confusion: the same two between ``BACKGROUND_TIOU`` and the threshold. Background: less.
"""

BACKGROUND_TIOU = 0.1
GROUPS = 10


@dataclass(frozen=True, eq=False)
class FalsePositives:
    """The profile.

    Attributes:
        tiou: the threshold of a match.
        counts: detections in group k (the k-th G best of every class) and category, int64 ``[GROUPS, 6]``.
        shares: the same as parts of each group's detections, ``[GROUPS, 6]``; 0 for an empty group.
    """

    tiou: float
    counts: IntArray
    shares: FloatArray

    def to_record(self) -> dict[str, Any]:
        """Return plain JSON-able values; ``groups[0]`` holds the best G detections of every class."""
        return {
            "tiou": self.tiou,
            "background_tiou": BACKGROUND_TIOU,
            "groups": [
                {
                    "group": number,
                    "counts": dict(zip(CATEGORIES, counts, strict=True)),
                    "shares": dict(zip(CATEGORIES, shares, strict=True)),
                }
                for number, (counts, shares) in enumerate(
                    zip(self.counts.tolist(), self.shares.tolist(), strict=True), 1
                )
            ],
        }


def false_positives(
    ground_truth: GroundTruth,
    predictions: Mapping[str, Detections],
    classes: Sequence[str],
    tiou: float = 0.5,
    *,
    blocked: Collection[str] = (),
    remove_duplicates: bool = False,
    name: str = "the ground truth",
) -> FalsePositives:
    """Sort the best detections of every class into ``CATEGORIES``.

    Arguments as for :func:`etad.evaluation.average_precision.evaluate`.

    Raises:
        NothingToDoError: there is no true action.
    """
    truth = flatten_ground_truth(ground_truth, blocked, remove_duplicates, name)
    counted = {video_id: found for video_id, found in predictions.items() if video_id not in blocked}
    detections = flatten_predictions(truth, counted)
    true_positive = match(truth, detections, np.array([tiou]))[:, 0]
    category = _categories(truth, detections, true_positive, tiou)
    group = _groups(truth, detections, len(classes))
    looked_at = group < GROUPS
    counts = np.zeros((GROUPS, len(CATEGORIES)), dtype=np.int64)
    np.add.at(counts, (group[looked_at], category[looked_at]), 1)
    return FalsePositives(tiou=tiou, counts=counts, shares=counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def format_profile(profile: FalsePositives) -> str:
    """Return a text table of the shares in percent, one line for each group."""
    titles = [name.replace("_", " ") for name in CATEGORIES]
    lines = ["  ".join(["top  ", *titles])]
    for number, shares in enumerate(profile.shares, 1):
        cells = [f"{100 * share:.1f}".rjust(len(title)) for share, title in zip(shares, titles, strict=True)]
        lines.append("  ".join([f"{number} G".ljust(5), *cells]))
    return "\n".join(lines)


def _categories(
    truth: FlatGroundTruth, detections: FlatDetections, true_positive: BoolArray, threshold: float
) -> IntArray:
    """Return every detection's position in ``CATEGORIES``, ``[D]``."""
    detection, action = pairs_in_same_video(truth, detections)
    tiou = np.nan_to_num(pairwise_tiou(detections.segments_s[detection], truth.segments_s[action]), nan=1.0)
    # The best action of each detection is the first of its run in this order.
    order = np.lexsort((action, -tiou, detection))
    owner, first = np.unique(detection[order], return_index=True)
    best = order[first]
    best_tiou = np.zeros(len(detections.labels))
    best_tiou[owner] = tiou[best]
    right_label = np.zeros(len(detections.labels), dtype=np.bool_)
    right_label[owner] = truth.labels[action[best]] == detections.labels[owner]

    names = np.select(
        [
            true_positive,
            (best_tiou >= threshold) & right_label,
            best_tiou >= threshold,
            (best_tiou >= BACKGROUND_TIOU) & right_label,
            best_tiou >= BACKGROUND_TIOU,
        ],
        np.arange(len(CATEGORIES) - 1).tolist(),
        default=len(CATEGORIES) - 1,
    )
    return names.astype(np.int64)


def _groups(truth: FlatGroundTruth, detections: FlatDetections, classes: int) -> IntArray:
    """Return each detection's group, ``[D]``: its rank within its class divided by that class's G."""
    instances = np.bincount(truth.labels, minlength=classes)
    by_label = np.argsort(detections.labels, kind="stable")
    labels = detections.labels[by_label]
    first = np.searchsorted(labels, np.arange(classes))
    rank = np.arange(len(labels)) - first[labels]
    group = np.full(len(labels), GROUPS, dtype=np.int64)
    has_actions = instances[labels] > 0
    group[by_label[has_actions]] = rank[has_actions] // instances[labels[has_actions]]
    return group
