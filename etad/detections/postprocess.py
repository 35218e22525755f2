"""From the detector's raw outputs to a video's detections (specification, section 7).

The published path: drop proposals whose ends are not boundaries, Gaussian soft-NMS, then multiply by the best
video-level class scores. Segments stay unclipped until after NMS. OpenTAD's path for sliding windows does so for each
window, with voting, and lets all detections of the video go through a second soft-NMS (specification, section 8). All
arrays are numpy; nothing here needs torch.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from etad.config import PostprocessConfig
from etad.detections.class_scores import ClassScores
from etad.detections.detections import BoolArray, Detections, FloatArray, IntArray, RawDetections
from etad.detections.soft_nms import soft_nms_per_class, soft_nms_with_voting
from etad.errors import DataError


def to_detections(
    video_id: str,
    views: Sequence[RawDetections],
    duration_s: float,
    config: PostprocessConfig,
    class_scores: ClassScores | None = None,
) -> Detections:
    """Turn the raw outputs of a video's views into its detections.

    All views share one soft-NMS, unless ``windows: each`` says otherwise. With ``classes: external`` the order is the
    published one: kept segments by descending score, each followed by its next best class. Otherwise all detections are
    sorted by descending score.

    Args:
        video_id: names the video in ``class_scores`` and in errors.
        views: the video itself or its windows; class numbers refer to the columns of ``snippet_classes``.
        duration_s: segments are clipped to 0..``duration_s`` after NMS.
        config: section ``postprocess`` of the experiment.
        class_scores: video-level scores; needed by ``classes: external`` and unused otherwise.

    Raises:
        DataError: an output is NaN or infinite, or the video has no class scores.
        ValueError: the mode's class scores were not passed.
    """
    if not views:
        return Detections.empty()
    if not all(view.is_finite() for view in views):
        raise DataError(f"{video_id}: the network returned NaN or infinity; its training must have diverged")
    if config.windows == "each":
        first = config.model_copy(update={"windows": "together"})
        return suppressed_again(
            [to_detections(video_id, [view], duration_s, first, class_scores) for view in views], config
        )
    if config.boundary_filter:
        views = [_filtered(view) for view in views]
    segments_s = np.concatenate([view.segments_in_seconds() for view in views])  # [N, 2] of all views
    scores = np.concatenate([view.scores.astype(np.float64) for view in views])  # [N]
    labels = None
    if config.classes == "snippet":
        candidate_labels, label_scores = _snippet_labels(views, config.classes_per_segment)  # [N, M] each
        kept, scores, labels = soft_nms_per_class(
            segments_s,
            scores[:, None] * label_scores,
            candidate_labels,
            config.soft_nms_sigma,
            config.max_segments * config.classes_per_segment,
            config.min_score,
        )
        voted_s = segments_s[kept]
    else:
        _, scores, voted_s = soft_nms_with_voting(segments_s, scores, *_settings(config))
    return kept_detections(video_id, voted_s, scores, labels, duration_s, config, class_scores)


def suppressed_again(windows: Sequence[Detections], config: PostprocessConfig) -> Detections:
    """Put the detections of a video's windows through one more soft-NMS, whatever their class: ``windows: each``."""
    segments_s, scores, labels = (
        np.concatenate([getattr(found, name) for found in windows]) for name in ("segments_s", "scores", "labels")
    )
    kept, kept_scores, voted_s = soft_nms_with_voting(segments_s, scores, *_settings(config))
    return Detections(voted_s, kept_scores, labels[kept])


def _settings(config: PostprocessConfig) -> tuple[float, int, float, float | None]:
    return config.soft_nms_sigma, config.max_segments, config.min_score, config.voting_tiou


def kept_detections(
    video_id: str,
    segments_s: FloatArray,
    scores: FloatArray,
    labels: IntArray | None,
    duration_s: float,
    config: PostprocessConfig,
    class_scores: ClassScores | None = None,
) -> Detections:
    """Turn what soft-NMS kept of a video into its detections: clip it, and give it the video's classes.

    Args:
        video_id: names the video in ``class_scores``.
        segments_s: as kept, ``[n, 2]``, by descending score.
        scores: decayed, ``[n]``.
        labels: class numbers ``[n]`` with ``classes: snippet``; None in the other modes.
        duration_s: of the video.
        config: section ``postprocess`` of the experiment.
        class_scores: video-level scores; needed by ``classes: external`` and unused otherwise.

    Raises:
        DataError: the video has no class scores.
        ValueError: they were not passed.
    """
    # As published: a start is not cut at the end of the video, nor an end at its start.
    segments_s = np.stack([np.maximum(segments_s[:, 0], 0.0), np.minimum(segments_s[:, 1], duration_s)], axis=1)
    if config.classes == "agnostic":
        labels = np.zeros(len(scores), dtype=np.int64)
    if labels is not None:
        return Detections(segments_s, scores, labels)
    if class_scores is None:
        raise ValueError("postprocess.classes is 'external', which needs class_scores")
    of_video = class_scores.of(video_id)  # [classes]
    best = np.argsort(-of_video, kind="stable")[: config.classes_per_segment]  # [M]
    # A file with one class a video scores all others 0: those would only add detections of score 0.
    best = best[of_video[best] != 0]
    return Detections(
        np.repeat(segments_s, len(best), axis=0),
        (scores[:, None] * of_video[best]).ravel(),
        np.tile(best, len(scores)).astype(np.int64),
    )


def boundary_mask(start: NDArray[np.floating], end: NDArray[np.floating]) -> tuple[BoolArray, BoolArray]:
    """Say at which positions a proposal may start and end.

    A position counts when it is a peak (greater than both neighbours, 0 outside) or above half the maximum. The first
    start and the last end always count.

    Args:
        start, end: boundary probabilities, ``[T]``.

    Returns:
        start_ok, end_ok: ``[T]`` each.
    """
    start_ok, end_ok = _peak_or_high(start), _peak_or_high(end)
    start_ok[0] = True
    end_ok[-1] = True
    return start_ok, end_ok


def filter_by_boundaries(
    segments: NDArray[np.floating], start: NDArray[np.floating], end: NDArray[np.floating]
) -> BoolArray:
    """Say which proposals start and end on a boundary.

    The refined segment decides, not the grid cell it came from; ends outside the view count as its first or last
    position.

    Args:
        segments: refined proposals in normalised time, ``[K, 2]``.
        start, end: boundary probabilities, ``[T]``.

    Returns:
        keep: ``[K]``.
    """
    start_ok, end_ok = boundary_mask(start, end)
    positions = np.clip(segments * len(start), 0, len(start) - 1).astype(np.int64)  # [K, 2]
    keep: BoolArray = start_ok[positions[:, 0]] & end_ok[positions[:, 1]]
    return keep


def _filtered(view: RawDetections) -> RawDetections:
    keep = filter_by_boundaries(view.segments, view.start, view.end)
    return replace(view, segments=view.segments[keep], scores=view.scores[keep])


def _peak_or_high(probability: NDArray[np.floating]) -> BoolArray:
    padded = np.pad(probability, 1)  # [T + 2]
    peak = (probability > padded[:-2]) & (probability > padded[2:])
    mask: BoolArray = peak | (probability > 0.5 * probability.max())
    return mask


def _snippet_labels(views: Sequence[RawDetections], classes_per_segment: int) -> tuple[IntArray, FloatArray]:
    """Return the best classes of every proposal of all views and their scores, ``[K, M]`` each, best first."""
    scores = np.concatenate([_segment_class_scores(view) for view in views])  # [K, classes]
    labels = np.argsort(-scores, axis=1, kind="stable")[:, :classes_per_segment]
    return labels, np.take_along_axis(scores, labels, axis=1)


def _segment_class_scores(view: RawDetections) -> FloatArray:
    """Mean of the class probabilities over the positions that each proposal touches, ``[K, classes]``."""
    if view.snippet_classes is None:
        raise ValueError("postprocess.classes is 'snippet', which needs the network's snippet_classes")
    positions = len(view.snippet_classes)
    segments = view.segments.astype(np.float64) * positions  # [K, 2] in positions
    first = np.clip(np.floor(segments[:, 0]), 0, positions - 1).astype(np.int64)
    past = np.clip(np.ceil(segments[:, 1]), first + 1, positions).astype(np.int64)
    running = np.zeros((positions + 1, view.snippet_classes.shape[1]))  # [T + 1, classes]
    np.cumsum(view.snippet_classes, axis=0, dtype=np.float64, out=running[1:])
    # A difference of running sums takes as long for a long proposal as for a short one: [K, classes].
    means: FloatArray = (running[past] - running[first]) / (past - first)[:, None]
    return means
