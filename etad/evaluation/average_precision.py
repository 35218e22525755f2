"""Average precision and recall of detections: the ActivityNet protocol (specification, section 7).

Detection: within a class, detections are taken by descending score; each takes the true action of its video that it
overlaps most among those not yet taken, if tIoU reaches the threshold, and is a false positive otherwise. AP is the
area under the interpolated precision-recall curve; mAP averages over the classes that have true actions.

Proposals: AR@AN, the share of true actions found by the best AN segments a video on average, whatever their class.

Habits of the published evaluator (activitynet/ActivityNet, Evaluation/eval_detection.py, commit 82304fa) are kept
because they change numbers:

- its ninth threshold is numpy's linspace(0.5, 0.95, 10)[8], which is 0.8999999999999999;
- among equal scores, and equal tIoU, the later one comes first. It turns an unstable sort round, whose order of equals
  depends on the processor; here it is the order of the file, turned round, always;
- a tIoU of 0/0 counts as a match: that of two segments of no length, or of one that ends before it starts with one of
  its length. Any other segment that ends before it starts overlaps with nothing: a true one is missed, a detected one
  is a false positive.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from etad.detections.detections import BoolArray, Detections, FloatArray, IntArray
from etad.errors import NothingToDoError
from etad.evaluation.duplicates import without_duplicates

GroundTruth = Mapping[str, tuple[FloatArray, IntArray]]
"""Video id -> true segments in seconds ``[G, 2]`` and their class numbers ``[G]``."""

ACTIVITYNET_TIOU = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95)
"""Thresholds of the ActivityNet protocol, to the bit; recall is averaged over them whatever thresholds mAP uses."""

SAME_THRESHOLD = 1e-12
"""A threshold this near to one of the protocol's is meant to be that one: 0.9 is 0.8999999999999999."""

MAX_PROPOSALS = 100
"""AR@AN is taken at AN = 1 .. this, segments a video on average."""


@dataclass(frozen=True)
class Counts:
    """What an evaluation looked at.

    Attributes:
        videos: annotated videos, without the blocked ones.
        instances: their true actions, after duplicates were removed.
        duplicates_removed: true actions that ``remove_duplicates`` left out.
        classes: classes with true actions: those that mAP averages over.
        detections: detections that count; ``unknown_video`` and ``unknown_class`` are parts of it.
        videos_without_detections: annotated videos for which there is none.
        unknown_video: detections in videos that are not annotated. They are false positives, as published.
        unknown_class: detections of classes without true actions. mAP does not see them.
        blocked_videos: annotated videos left out because their id is blocked.
        blocked_detections: detections left out with them.
    """

    videos: int
    instances: int
    duplicates_removed: int
    classes: int
    detections: int
    videos_without_detections: int
    unknown_video: int
    unknown_class: int
    blocked_videos: int
    blocked_detections: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result. All figures are fractions of 1.

    Attributes:
        classes: class names.
        tiou: the thresholds, ascending, ``[thresholds]``.
        ap: average precision, ``[thresholds, classes]``; NaN for classes without true actions.
        mAP: mean over the classes that have some, ``[thresholds]``.
        average_mAP: mean of ``mAP``.
        average_recall: AR@AN at AN = 1 .. 100, ``[100]``, mean over ``ACTIVITYNET_TIOU``.
        recall_auc: area under it, divided by its width so that perfect is 1.
        counts: what was looked at.
    """

    classes: tuple[str, ...]
    tiou: FloatArray
    ap: FloatArray
    mAP: FloatArray
    average_mAP: float
    average_recall: FloatArray
    recall_auc: float
    counts: Counts

    def to_record(self) -> dict[str, Any]:
        """Return plain JSON-able values. AP of a class without true actions is None."""
        return {
            "average_mAP": self.average_mAP,
            "mAP_by_tiou": {f"{tiou:g}": value for tiou, value in zip(self.tiou, self.mAP.tolist(), strict=True)},
            "average_recall_by_proposals": {
                str(number): value for number, value in enumerate(self.average_recall.tolist(), 1)
            },
            "average_recall_auc": self.recall_auc,
            "ap_by_class": {
                name: [None if np.isnan(value) else value for value in self.ap[:, number].tolist()]
                for number, name in enumerate(self.classes)
            },
            "counts": asdict(self.counts),
        }


@dataclass(frozen=True, eq=False)
class FlatDetections:
    """The detections of all videos, by descending score over the whole data set. D detections.

    Attributes:
        video: video number, int64 ``[D]``; -1 for videos that are not annotated.
        segments_s: ``[D, 2]``.
        labels: int64 ``[D]``.
    """

    video: IntArray
    segments_s: FloatArray
    labels: IntArray


@dataclass(frozen=True, eq=False)
class FlatGroundTruth:
    """The true actions of all videos that are not blocked, in file order. G actions.

    Attributes:
        ids: the videos, by number.
        video: video number, int64 ``[G]``, ascending.
        segments_s: ``[G, 2]``.
        labels: int64 ``[G]``.
        duplicates_removed, blocked_videos: see :class:`Counts`.
    """

    ids: tuple[str, ...]
    video: IntArray
    segments_s: FloatArray
    labels: IntArray
    duplicates_removed: int
    blocked_videos: int


def evaluate(
    ground_truth: GroundTruth,
    predictions: Mapping[str, Detections],
    classes: Sequence[str],
    tiou: Sequence[float] = ACTIVITYNET_TIOU,
    *,
    blocked: Collection[str] = (),
    remove_duplicates: bool = False,
    name: str = "the ground truth",
) -> Evaluation:
    """Evaluate detections against true actions.

    Args:
        ground_truth: the annotated videos of the subset; one without actions is allowed, its detections are wrong ones.
        predictions: video id -> detections. A video that is missing has none.
        classes: names of the class numbers.
        tiou: thresholds for mAP; see :func:`exact_thresholds`.
        blocked: ids left out of both sides.
        remove_duplicates: leave out true actions as OpenTAD does (opentad/evaluations/builder.py, commit 3dd7b03): of
            those of one video and label whose ends are within a millisecond of each other, all but the first; and
            those that do not end after they start. ActivityNet's evaluator counts them all, so that one detection
            finds only one of them.
        name: what errors call ``ground_truth``, e.g. "subset validation".

    Raises:
        NothingToDoError: there is no true action to find.
    """
    truth = flatten_ground_truth(ground_truth, blocked, remove_duplicates, name)
    counted = {video_id: found for video_id, found in predictions.items() if video_id not in blocked}
    detections = flatten_predictions(truth, counted)
    thresholds = exact_thresholds(tiou)
    ap = _average_precision(truth, detections, thresholds, len(classes))
    has_actions = np.bincount(truth.labels, minlength=len(classes)) > 0
    mean_ap = ap[:, has_actions].mean(axis=1)
    proposals, average_recall = _average_recall(truth, counted)
    return Evaluation(
        classes=tuple(classes),
        tiou=thresholds,
        ap=ap,
        mAP=mean_ap,
        average_mAP=float(mean_ap.mean()),
        average_recall=average_recall,
        recall_auc=float(np.trapezoid(average_recall, proposals) / proposals[-1]),
        counts=Counts(
            videos=len(truth.ids),
            instances=len(truth.labels),
            duplicates_removed=truth.duplicates_removed,
            classes=int(has_actions.sum()),
            detections=len(detections.labels),
            videos_without_detections=sum(not len(counted.get(video_id, ())) for video_id in truth.ids),
            unknown_video=int((detections.video < 0).sum()),
            unknown_class=int((~has_actions[detections.labels]).sum()),
            blocked_videos=truth.blocked_videos,
            blocked_detections=sum(len(found) for video_id, found in predictions.items() if video_id in blocked),
        ),
    )


def mean_average_precision(
    ground_truth: GroundTruth,
    predictions: Mapping[str, Detections],
    classes: Sequence[str],
    tiou: Sequence[float] = ACTIVITYNET_TIOU,
) -> FloatArray:
    """Return ``mAP`` of :func:`evaluate` alone, ``[thresholds]``, at ascending thresholds.

    Raises:
        NothingToDoError: there is no true action to find.
    """
    truth = flatten_ground_truth(ground_truth, (), remove_duplicates=False, name="the ground truth")
    thresholds = exact_thresholds(tiou)
    ap = _average_precision(truth, flatten_predictions(truth, predictions), thresholds, len(classes))
    mean: FloatArray = np.nanmean(ap, axis=1)
    return mean


def exact_thresholds(tiou: Sequence[float]) -> FloatArray:
    """Return thresholds in ascending order, those of ``ACTIVITYNET_TIOU`` to the bit, ``[thresholds]``.

    So mAP at 0.9 is the same number whichever other thresholds are asked for.
    """
    asked = np.sort(np.asarray(tiou, dtype=np.float64))
    published = np.array(ACTIVITYNET_TIOU)
    nearest = published[np.abs(asked[:, None] - published).argmin(axis=1)]
    return np.where(np.abs(asked - nearest) <= SAME_THRESHOLD, nearest, asked)


def format_table(evaluation: Evaluation) -> str:
    """Return a small text table, figures in percent: mAP by threshold and their average, then AR@AN."""
    header = [f"mAP@{tiou:.4g}" for tiou in evaluation.tiou] + ["average"]
    values = [f"{100 * value:.2f}" for value in (*evaluation.mAP, evaluation.average_mAP)]
    recall_at = (1, 5, 10, 50, 100)
    recall_header = [f"AR@{number}" for number in recall_at] + ["AUC"]
    recall = [evaluation.average_recall[number - 1] for number in recall_at] + [evaluation.recall_auc]
    counts = evaluation.counts
    return "\n".join(
        (
            *_aligned(header, values),
            *_aligned(recall_header, [f"{100 * value:.2f}" for value in recall]),
            f"{counts.detections} detections, {counts.instances} actions of {counts.classes} classes "
            f"in {counts.videos} videos",
        )
    )


def flatten_ground_truth(
    ground_truth: GroundTruth, blocked: Collection[str], remove_duplicates: bool, name: str
) -> FlatGroundTruth:
    """Join the true actions of all videos that are not blocked.

    Raises:
        NothingToDoError: there is none.
    """
    ids = tuple(video_id for video_id in ground_truth if video_id not in blocked)
    blocked_videos = len(ground_truth) - len(ids)
    entries = [ground_truth[video_id] for video_id in ids]
    lengths = [len(labels) for _, labels in entries]
    if not sum(lengths):
        why = f" ({blocked_videos} of its videos are blocked)" if blocked_videos else ""
        raise NothingToDoError(f"{name}: has no annotated action to evaluate against{why}")
    video = np.repeat(np.arange(len(ids)), lengths)
    segments_s = np.concatenate([np.asarray(segments, dtype=np.float64).reshape(-1, 2) for segments, _ in entries])
    labels = np.concatenate([np.asarray(labels, dtype=np.int64) for _, labels in entries])
    kept = np.arange(len(labels))
    if remove_duplicates:
        kept = without_duplicates(video, labels, segments_s)
        if not len(kept):
            raise NothingToDoError(f"{name}: has no annotated action that ends after it starts")
    return FlatGroundTruth(
        ids=ids,
        video=video[kept],
        segments_s=segments_s[kept],
        labels=labels[kept],
        duplicates_removed=len(labels) - len(kept),
        blocked_videos=blocked_videos,
    )


def flatten_predictions(truth: FlatGroundTruth, predictions: Mapping[str, Detections]) -> FlatDetections:
    """Join the detections of all videos and sort them by descending score; among equals the later one comes first."""
    if not predictions:
        return FlatDetections(np.zeros(0, dtype=np.int64), np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
    number_of = {video_id: number for number, video_id in enumerate(truth.ids)}
    found = predictions.values()
    video = np.repeat([number_of.get(video_id, -1) for video_id in predictions], [len(entry) for entry in found])
    scores = np.concatenate([entry.scores for entry in found])
    order = _descending(scores)
    return FlatDetections(
        video=video[order],
        segments_s=np.concatenate([entry.segments_s for entry in found])[order],
        labels=np.concatenate([entry.labels for entry in found])[order],
    )


def _descending(scores: FloatArray) -> IntArray:
    """Return the order of descending scores; among equals the later one comes first."""
    order = scores.argsort()
    in_order = scores[order]
    if (in_order[1:] == in_order[:-1]).any():
        # Only this sort keeps equals in order, at three times the cost.
        order = scores.argsort(kind="stable")
    return order[::-1]


def pairwise_tiou(first: FloatArray, second: FloatArray) -> FloatArray:
    """tIoU of two arrays of segments that broadcast against each other, ``[..., 2]``; 0/0 is NaN."""
    overlap = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    np.maximum(overlap, 0.0, out=overlap)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - overlap
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: FloatArray = overlap / union
    return ratio


def match(truth: FlatGroundTruth, detections: FlatDetections, thresholds: FloatArray) -> BoolArray:
    """Say which detections are true positives.

    Args:
        truth: G true actions.
        detections: D detections, by descending score.
        thresholds: tIoU thresholds, ascending, ``[T]``.

    Returns:
        true_positive: ``[D, T]``.
    """
    true_positive = np.zeros((len(detections.labels), len(thresholds)), dtype=np.bool_)
    detection, threshold = _true_positives(truth, detections, thresholds)
    true_positive[detection, threshold] = True
    return true_positive


def _true_positives(
    truth: FlatGroundTruth, detections: FlatDetections, thresholds: FloatArray
) -> tuple[IntArray, IntArray]:
    """Return the true positives as (detection, number of the threshold) pairs.

    To let the detections choose one after the other gives the one stable matching of detections, which prefer larger
    overlaps, with actions, which prefer higher scores. So it is found by deferred acceptance (Gale and Shapley, 1962),
    in a few rounds over all videos, classes and thresholds at once.
    """
    # One key for video and class together.
    stride = int(max(truth.labels.max(), detections.labels.max(initial=0))) + 1
    detection, action = _pairs_with_equal_keys(
        detections.video * stride + detections.labels, truth.video * stride + truth.labels
    )
    tiou = pairwise_tiou(detections.segments_s[detection], truth.segments_s[action])
    tiou[np.isnan(tiou)] = np.inf
    near = np.flatnonzero(tiou >= thresholds[0])
    detection, action, tiou = detection[near], action[near], tiou[near]
    order = np.lexsort((-action, -tiou, detection))
    detection, action = detection[order], action[order]
    reached = np.searchsorted(thresholds, tiou[order], side="right")
    # At every threshold, detections and actions are others. A detection's pairs stay in its order of preference.
    at = [np.flatnonzero(reached > number) for number in range(len(thresholds))]
    suitors, actions = len(detections.labels), len(truth.labels)
    suitor = np.concatenate([number * suitors + detection[pairs] for number, pairs in enumerate(at)])
    wanted = np.concatenate([number * actions + action[pairs] for number, pairs in enumerate(at)])

    best = np.full(actions * len(thresholds), np.iinfo(np.int64).max)
    while True:
        proposes = np.ones(len(suitor), dtype=np.bool_)
        proposes[1:] = suitor[1:] != suitor[:-1]
        # Suitors are in ascending order, so that the one written last is the one of highest score.
        best[wanted[proposes][::-1]] = suitor[proposes][::-1]
        hopeful = suitor <= best[wanted]
        if hopeful[proposes].all():
            threshold, found = np.divmod(suitor[proposes], suitors)
            return found, threshold
        suitor, wanted = suitor[hopeful], wanted[hopeful]


def pairs_in_same_video(truth: FlatGroundTruth, detections: FlatDetections) -> tuple[IntArray, IntArray]:
    """Return all (detection, true action) index pairs of the same video, of any class, ordered by detection."""
    return _pairs_with_equal_keys(detections.video, truth.video)


def _pairs_with_equal_keys(left: IntArray, right: IntArray) -> tuple[IntArray, IntArray]:
    """Return all index pairs (i, j) with left[i] == right[j] >= 0, ordered by i, then j."""
    by_key = np.argsort(right, kind="stable")
    # Keys are small enough, videos times classes, for a table by key; a search would take most of an evaluation.
    counts = np.bincount(right)
    ends = np.cumsum(counts)
    i = np.flatnonzero((left >= 0) & (left < len(counts)))
    i = i[counts[left[i]] > 0]
    owner, position = _ranges((ends - counts)[left[i]], ends[left[i]])
    return i[owner], by_key[position]


def _ranges(first: IntArray, past: IntArray) -> tuple[IntArray, IntArray]:
    """Expand ranges: for each i, every number of first[i] .. past[i] - 1, with i beside it."""
    lengths = past - first
    owner = np.repeat(np.arange(len(first)), lengths)
    before = np.cumsum(lengths) - lengths
    return owner, np.arange(len(owner)) - before[owner] + first[owner]


def _average_precision(
    truth: FlatGroundTruth, detections: FlatDetections, thresholds: FloatArray, classes: int
) -> FloatArray:
    """Interpolated AP, ``[thresholds, classes]``; NaN where a class has no true action."""
    instances = np.bincount(truth.labels, minlength=classes)
    detection, threshold = _true_positives(truth, detections, thresholds)
    # Only at a true positive does precision rise, and only there does recall grow: by 1 / instances.
    curve = threshold * classes + detections.labels[detection]
    order = np.lexsort((detection, curve))
    curve, rank = curve[order], _ranks(detections.labels, classes)[detection[order]]
    lengths = np.bincount(curve, minlength=len(thresholds) * classes)
    hits = np.arange(len(curve)) - (np.cumsum(lengths) - lengths)[curve] + 1
    precision = hits / rank
    # The highest precision from here on, curve by curve: numbered by size, so that curves can be kept apart exactly.
    by_size = np.argsort(precision)
    size = np.empty_like(by_size)
    size[by_size] = np.arange(len(size))
    apart = size - curve * len(size)
    highest = np.maximum.accumulate(apart[::-1])[::-1] + curve * len(size)
    area = np.bincount(curve, weights=precision[by_size][highest], minlength=len(lengths))
    with np.errstate(invalid="ignore"):
        ap: FloatArray = area.reshape(len(thresholds), classes) / instances
    return ap


def _ranks(labels: IntArray, classes: int) -> IntArray:
    """Return the place of each detection among those of its class, from 1."""
    # numpy sorts small integers in linear time.
    by_label = np.argsort(labels.astype(np.min_scalar_type(classes)), kind="stable")
    counts = np.bincount(labels, minlength=classes)
    ranks = np.empty_like(by_label)
    ranks[by_label] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    return ranks


def _average_recall(truth: FlatGroundTruth, predictions: Mapping[str, Detections]) -> tuple[FloatArray, FloatArray]:
    """ActivityNet's AR@AN.

    A segment detected as several classes is one proposal, with its best score. Videos get proposals in proportion to
    how many they have, such that AN is the average over the videos that have true actions.

    Returns:
        proposals: AN, ``[100]``.
        recall: ``[100]``, mean over ``ACTIVITYNET_TIOU``.
    """
    videos = np.unique(truth.video)
    proposals = [_proposals(predictions.get(truth.ids[video])) for video in videos]
    available = np.array([len(segments) for segments in proposals])
    wanted = np.arange(1, MAX_PROPOSALS + 1)
    if not available.any():
        return wanted.astype(np.float64), np.zeros(MAX_PROPOSALS)
    used = np.minimum((available * (MAX_PROPOSALS * len(videos) / available.sum())).astype(np.int64), available)
    # As published: round down to whole proposals, in this order of operations.
    shares = wanted / MAX_PROPOSALS * (MAX_PROPOSALS * len(videos) / used.sum())
    limits = np.minimum((used[:, None] * shares).astype(np.int64), used[:, None])

    of_action = np.searchsorted(videos, truth.video)
    past = np.cumsum(available)
    first = past - available
    action, position = _ranges(first[of_action], (first + used)[of_action])
    tiou = pairwise_tiou(np.concatenate(proposals)[position], truth.segments_s[action])
    rank = position - first[of_action][action]
    recall = np.zeros(MAX_PROPOSALS)
    for threshold in ACTIVITYNET_TIOU:
        found_at = np.full(len(truth.video), np.iinfo(np.int64).max)
        hit = tiou >= threshold
        np.minimum.at(found_at, action[hit], rank[hit])
        recall += (found_at[:, None] < limits[of_action]).sum(axis=0) / len(truth.video)
    return shares * (used.sum() / len(videos)), recall / len(ACTIVITYNET_TIOU)


def _proposals(found: Detections | None) -> FloatArray:
    """Return the different segments of a video by descending score of their best class, ``[n, 2]``."""
    if found is None or not len(found):
        return np.zeros((0, 2))
    segments = found.segments_s[found.scores.argsort(kind="stable")[::-1]]
    _, first = np.unique(segments.view(np.complex128).ravel(), return_index=True)
    return segments[np.sort(first)]


def _aligned(header: Sequence[str], values: Sequence[str]) -> list[str]:
    widths = [max(len(title), len(value)) for title, value in zip(header, values, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, values)]
