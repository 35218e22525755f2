"""Gaussian soft-NMS, over all candidates or within each class, and voting (specification, sections 7 and 8)."""

import numpy as np

from etad.detections.detections import FloatArray, IntArray

LEAST_LENGTH = float(np.finfo(np.float64).tiny)
"""Only segments of no or negative length reach a union below this; their overlap is 0."""

LEAST_EXPONENT = -700.0
"""exp of it is not 0 yet, so that a candidate that is out, at minus infinity, stays there."""


def soft_nms(
    segments: FloatArray, scores: FloatArray, sigma: float, max_segments: int, min_score: float = 0.0
) -> tuple[IntArray, FloatArray]:
    """Gaussian soft-NMS: keep the best candidate, multiply the others' scores by exp(-IoU² / sigma), repeat.

    Arguments and results as for :func:`soft_nms_with_voting`, without the votes.
    """
    kept, kept_scores, _ = soft_nms_with_voting(segments, scores, sigma, max_segments, min_score, None)
    return kept, kept_scores


def soft_nms_with_voting(
    segments: FloatArray,
    scores: FloatArray,
    sigma: float,
    max_segments: int,
    min_score: float,
    voting_tiou: float | None,
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Gaussian soft-NMS, after which the candidates around a kept one decide where it lies.

    What is kept gets the mean of all candidates that overlap it at least so much, itself included, whether they were
    kept or not, weighted with their scores from before any decay (OpenTAD, models/utils/post_processing/nms/nms.py,
    commit 3dd7b03, ``seg_voting``). Its own score, and what others lose by it, is not changed by that.

    Args:
        segments: ``[K, 2]``, any unit; ends before starts overlap with nothing.
        scores: ``[K]``, not negative.
        sigma: width of the decay.
        max_segments: stop after so many.
        min_score: stop below this decayed score.
        voting_tiou: tIoU from which a candidate votes. None: nobody does.

    Returns:
        indices: int64 ``[n]``, kept candidates in the order of keeping.
        scores: float64 ``[n]``, their decayed scores; never rising.
        segments: float64 ``[n, 2]``, where the votes put them.
    """
    start = np.ascontiguousarray(segments[:, 0], dtype=np.float64)
    end = np.ascontiguousarray(segments[:, 1], dtype=np.float64)
    length = end - start
    live = scores.astype(np.float64)
    count = min(max_segments, len(live))
    kept = np.zeros(count, dtype=np.int64)
    kept_scores, voted = np.zeros(count), np.zeros((count, 2))
    for step in range(count):
        best = int(live.argmax())
        if live[best] < min_score:
            return kept[:step], kept_scores[:step], voted[:step]
        kept[step], kept_scores[step], voted[step] = best, live[best], (start[best], end[best])
        overlap = np.minimum(end, end[best])
        overlap -= np.maximum(start, start[best])
        np.maximum(overlap, 0.0, out=overlap)
        union = length + length[best]
        union -= overlap
        np.maximum(union, LEAST_LENGTH, out=union)
        overlap /= union
        if voting_tiou is not None:
            voters = np.flatnonzero(overlap >= voting_tiou)
            weights = scores[voters].astype(np.float64)
            # A segment without length overlaps with nobody, not even with itself.
            if (weight := weights.sum()) > 0:
                voted[step] = weights @ start[voters] / weight, weights @ end[voters] / weight
        np.square(overlap, out=overlap)
        overlap *= -1.0 / sigma
        np.maximum(overlap, LEAST_EXPONENT, out=overlap)
        live *= np.exp(overlap, out=overlap)
        live[best] = -np.inf
    return kept, kept_scores, voted


def soft_nms_per_class(
    segments: FloatArray,
    scores: FloatArray,
    labels: IntArray,
    sigma: float,
    max_detections: int,
    min_score: float = 0.0,
) -> tuple[IntArray, FloatArray, IntArray]:
    """Soft-NMS within each class, for candidates that each stand for several classes.

    Args:
        segments: ``[K, 2]``, any unit.
        scores: ``[K, M]``, the candidate's score as each of its M classes.
        labels: int64 ``[K, M]``, those classes.
        sigma: width of the decay.
        max_detections: the best so many over all classes are kept.
        min_score: stop below this decayed score.

    Returns:
        indices: int64 ``[n]`` into ``segments``, by descending decayed score.
        scores: float64 ``[n]``, decayed.
        labels: int64 ``[n]``.
    """
    if not len(segments):
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64)
    candidates = np.repeat(np.arange(len(segments)), labels.shape[1])
    flat_labels = labels.ravel()
    # Every class is moved to a stretch of time of its own. Classes then never overlap, and one pass serves them all.
    stretch = float(segments.max() - segments.min()) + 1.0
    apart = segments[candidates] + stretch * flat_labels[:, None]
    kept, kept_scores = soft_nms(apart, scores.ravel(), sigma, max_detections, min_score)
    return candidates[kept], kept_scores, flat_labels[kept]
