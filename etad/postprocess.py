"""From the detector's raw outputs to a video's detections, and the files these are exchanged in (etad-spec section 7).

The published path: drop proposals whose ends are not boundaries, Gaussian soft-NMS, then multiply by the best
video-level class scores. Segments stay unclipped until after NMS. All arrays are numpy; nothing here needs torch.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from etad.config import PostprocessConfig
from etad.errors import DataError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

AGNOSTIC_CLASSES = ("action",)
"""The classes of ``postprocess.classes: agnostic``."""

SUBMISSION_VERSION = "VERSION 1.3"

# Columns of UntrimmedNet's score file: the 101 classes of UCF101 in alphabetical order, counted from 0. Only the 20
# classes that THUMOS-14 annotates are listed.
_UNTRIMMEDNET_COLUMNS = 101
_THUMOS_COLUMN = {
    "BaseballPitch": 6,
    "BasketballDunk": 8,
    "Billiards": 11,
    "CleanAndJerk": 20,
    "CliffDiving": 21,
    "CricketBowling": 22,
    "CricketShot": 23,
    "Diving": 25,
    "FrisbeeCatch": 30,
    "GolfSwing": 32,
    "HammerThrow": 35,
    "HighJump": 39,
    "JavelinThrow": 44,
    "LongJump": 50,
    "PoleVault": 67,
    "Shotput": 78,
    "SoccerPenalty": 84,
    "TennisSwing": 91,
    "ThrowDiscus": 92,
    "VolleyballSpiking": 96,
}


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one video.

    Attributes:
        segments_s: start and end, seconds, float64 ``[n, 2]``. The published clipping to the video can leave an end
            before its start; such a segment matches nothing.
        scores: float64 ``[n]``.
        labels: class numbers, int64 ``[n]``.
    """

    segments_s: FloatArray
    scores: FloatArray
    labels: IntArray

    @classmethod
    def empty(cls) -> Self:
        """Return no detections."""
        return cls(np.zeros((0, 2)), np.zeros(0), np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class RawDetections:
    """What the network says about one view: the whole video, or one window of it. K proposals, T positions.

    Attributes:
        segments: refined proposals, ``[K, 2]``, in the view's normalised time 0..1 (they may reach outside).
        scores: ``[K]``, iou[0] * iou[1] after averaging over the stages.
        start, end: boundary probabilities, ``[T]``.
        snippet_classes: class probabilities of each position, ``[T, classes]``, or None without a snippet classifier.
        start_s, duration_s: the view's place in the video, seconds.
    """

    segments: NDArray[np.floating]
    scores: NDArray[np.floating]
    start: NDArray[np.floating]
    end: NDArray[np.floating]
    snippet_classes: NDArray[np.floating] | None
    start_s: float
    duration_s: float

    def segments_in_seconds(self) -> FloatArray:
        """Return ``segments`` as seconds of the video, ``[K, 2]``."""
        return self.start_s + self.segments.astype(np.float64) * self.duration_s

    def is_finite(self) -> bool:
        """Say whether no output is NaN or infinite."""
        outputs = (self.segments, self.scores, self.start, self.end, self.snippet_classes)
        return all(np.isfinite(output).all() for output in outputs if output is not None)


def to_detections(
    video_id: str,
    views: Sequence[RawDetections],
    duration_s: float,
    config: PostprocessConfig,
    class_scores: "ClassScores | None" = None,
) -> Detections:
    """Turn the raw outputs of a video's views into its detections.

    All views share one soft-NMS. With ``classes: external`` the order is the published one: kept segments by descending
    score, each followed by its next best class. The other modes sort all detections by descending score.

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
    if config.boundary_filter:
        views = [_filtered(view) for view in views]
    segments_s = np.concatenate([view.segments_in_seconds() for view in views])
    scores = np.concatenate([view.scores.astype(np.float64) for view in views])

    if config.classes == "snippet":
        labels, label_scores = _snippet_labels(views, config.classes_per_segment)
        kept, kept_scores, kept_labels = soft_nms_per_class(
            segments_s,
            scores[:, None] * label_scores,
            labels,
            config.soft_nms_sigma,
            config.max_segments * config.classes_per_segment,
            config.min_score,
        )
        return Detections(_clipped(segments_s[kept], duration_s), kept_scores, kept_labels)

    kept, kept_scores = soft_nms(segments_s, scores, config.soft_nms_sigma, config.max_segments, config.min_score)
    kept_segments = _clipped(segments_s[kept], duration_s)
    if config.classes == "agnostic":
        return Detections(kept_segments, kept_scores, np.zeros(len(kept), dtype=np.int64))
    if class_scores is None:
        raise ValueError("postprocess.classes is 'external', which needs class_scores")
    of_video = class_scores.of(video_id)
    best = np.argsort(-of_video, kind="stable")[: config.classes_per_segment]
    # A file with one class a video scores all others 0: those would only add detections of score 0.
    best = best[of_video[best] != 0]
    return Detections(
        np.repeat(kept_segments, len(best), axis=0),
        (kept_scores[:, None] * of_video[best]).ravel(),
        np.tile(best, len(kept)).astype(np.int64),
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
    positions = np.clip((segments * len(start)).astype(np.int64), 0, len(start) - 1)
    keep: BoolArray = start_ok[positions[:, 0]] & end_ok[positions[:, 1]]
    return keep


def soft_nms(
    segments: FloatArray, scores: FloatArray, sigma: float, max_segments: int, min_score: float = 0.0
) -> tuple[IntArray, FloatArray]:
    """Gaussian soft-NMS: keep the best candidate, multiply the others' scores by exp(-IoU² / sigma), repeat.

    Args:
        segments: ``[K, 2]``, any unit; ends before starts overlap with nothing.
        scores: ``[K]``, not negative.
        sigma: width of the decay.
        max_segments: stop after so many.
        min_score: stop below this decayed score.

    Returns:
        indices: int64 ``[n]``, kept candidates in the order of keeping.
        scores: float64 ``[n]``, their decayed scores; never rising.
    """
    start = np.ascontiguousarray(segments[:, 0], dtype=np.float64)
    end = np.ascontiguousarray(segments[:, 1], dtype=np.float64)
    length = end - start
    live = scores.astype(np.float64)
    count = min(max_segments, len(live))
    kept = np.zeros(count, dtype=np.int64)
    kept_scores = np.zeros(count)
    for step in range(count):
        best = int(live.argmax())
        if live[best] < min_score:
            return kept[:step], kept_scores[:step]
        kept[step], kept_scores[step] = best, live[best]
        overlap = np.minimum(end, end[best])
        overlap -= np.maximum(start, start[best])
        np.maximum(overlap, 0.0, out=overlap)
        union = length + length[best]
        union -= overlap
        # Only segments of no or negative length reach a union this small; their overlap is 0.
        np.maximum(union, np.finfo(np.float64).tiny, out=union)
        overlap /= union
        np.square(overlap, out=overlap)
        overlap *= -1.0 / sigma
        live *= np.exp(overlap, out=overlap)
        live[best] = -np.inf
    return kept, kept_scores


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


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Video-level class scores read from a file.

    Attributes:
        path: the file, named in errors.
        classes: class names, the columns of the scores.
        rows: video id -> float64 ``[classes]``.
        foreign: video id -> the class that the file gives it, for videos whose class is none of ``classes``.
    """

    path: Path
    classes: tuple[str, ...]
    rows: Mapping[str, FloatArray]
    foreign: Mapping[str, str] = field(default_factory=dict)

    def of(self, video_id: str) -> FloatArray:
        """Return the scores of a video, ``[classes]``. Ids with and without the prefix ``v_`` are the same.

        Raises:
            DataError: the file does not have the video, or gives it an unknown class.
        """
        for spelling in _spellings(video_id):
            if spelling in self.rows:
                return self.rows[spelling]
            if spelling in self.foreign:
                foreign = self.foreign[spelling]
                raise DataError(
                    f"{self.path}: video {video_id} has the class '{foreign}', which is none of the "
                    f"{len(self.classes)} annotated classes"
                )
        raise DataError(f"{self.path}: has no scores for video {video_id}")

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Return those of ``ids`` that :meth:`of` would refuse, in order."""
        return [video_id for video_id in ids if not any(name in self.rows for name in _spellings(video_id))]


def read_class_scores(path: Path, classes: Sequence[str]) -> ClassScores:
    """Read video-level class scores. The format is recognised by its content.

    - CUHK: JSON ``{"results": {id: [score, ...]}, "class": [name, ...]}``;
    - one class a video: JSON ``{id: {"class": name, "score": number}}``, all other classes score 0;
    - UntrimmedNet on THUMOS-14: ``.npy`` ``[videos, 101]``, row = number of the test video - 1.

    Args:
        path: the file.
        classes: the annotated class names; the scores come in this order.

    Raises:
        DataError: the file cannot be read, is malformed, holds NaN, or lacks one of ``classes``.
    """
    if path.suffix == ".npy":
        return _read_untrimmednet(path, tuple(classes))
    tree = _read_json(path)
    if not isinstance(tree, dict):
        raise DataError(f"{path}: must hold a JSON object, not {_kind(tree)}")
    if "results" in tree and "class" in tree:
        return _read_cuhk(path, tuple(classes), tree)
    return _read_one_class(path, tuple(classes), tree)


def submission(
    results: Mapping[str, Detections], classes: Sequence[str], external_data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return detections in the ActivityNet submission form, ready for JSON.

    Args:
        results: video id -> detections.
        classes: names of the class numbers.
        external_data: what besides the data set was used, e.g. ``{"used": True, "details": "CUHK classifier"}``.
    """
    return {
        "version": SUBMISSION_VERSION,
        "results": {
            video_id: [
                {"label": classes[label], "score": score, "segment": segment}
                for label, score, segment in zip(
                    detections.labels.tolist(),
                    detections.scores.tolist(),
                    detections.segments_s.tolist(),
                    strict=True,
                )
            ]
            for video_id, detections in results.items()
        },
        "external_data": dict(external_data or {"used": False, "details": ""}),
    }


def read_submission(path: Path, classes: Sequence[str]) -> tuple[dict[str, Detections], list[str]]:
    """Read a submission file; entries that cannot be used are left out, counted and named.

    Args:
        path: JSON ``{"results": {id: [{"label", "score", "segment": [start_s, end_s]}]}}``.
        classes: names of the class numbers.

    Returns:
        results: video id -> detections, in the order of the file.
        warnings: one line for each kind of problem, with the number of entries and the first of them.

    Raises:
        DataError: the file cannot be read, is not JSON, or has no ``results`` of that form.
    """
    return parse_submission(load_submission(path), path, classes)


def load_submission(path: Path) -> dict[str, Any]:
    """Return a submission file as plain JSON values.

    Raises:
        DataError: the file cannot be read, is not JSON, or has no object ``results``.
    """
    tree = _read_json(path)
    if not isinstance(tree, dict) or not isinstance(tree.get("results"), dict):
        raise DataError(f"{path}: must hold a JSON object with an object 'results' (video id -> detections)")
    return tree


def parse_submission(
    tree: Mapping[str, Any], path: Path, classes: Sequence[str]
) -> tuple[dict[str, Detections], list[str]]:
    """Return the detections that :func:`load_submission` read from ``path``; see :func:`read_submission`.

    Raises:
        DataError: the entry of a video is not a list.
    """
    number_of = {name: number for number, name in enumerate(classes)}
    problems = _Problems()
    detections = {}
    for video_id, entries in tree["results"].items():
        if not isinstance(entries, list):
            raise DataError(f"{path}: results of video {video_id} must be a list, not {_kind(entries)}")
        detections[video_id] = _read_entries(video_id, entries, number_of, problems)
    return detections, problems.lines(path)


class _Problems:
    """Counts problems by kind and remembers the first example of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def add(self, kind: str, example: str) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._examples.setdefault(kind, example)

    def lines(self, path: Path) -> list[str]:
        return [f"{path}: {count} {kind} (first: {self._examples[kind]})" for kind, count in self._counts.items()]


def _read_entries(video_id: str, entries: list[Any], number_of: Mapping[str, int], problems: _Problems) -> Detections:
    segments: list[tuple[float, float]] = []
    scores: list[float] = []
    labels: list[int] = []
    for entry in entries:
        try:
            label, score = str(entry["label"]), float(entry["score"])
            start_s, end_s = map(float, entry["segment"])
        except (KeyError, TypeError, ValueError):
            problems.add("malformed detections, left out", f"video {video_id}, {json.dumps(entry)[:80]}")
            continue
        if label not in number_of:
            problems.add("detections of an unknown class, left out", f"video {video_id}, label {label!r}")
        elif not math.isfinite(score):
            problems.add("detections whose score is NaN or infinite, left out", f"video {video_id}, label {label!r}")
        elif not (math.isfinite(start_s) and math.isfinite(end_s)):
            problems.add("detections whose segment is NaN or infinite, left out", f"video {video_id}, label {label!r}")
        else:
            if end_s < start_s:
                problems.add(
                    "detections that end before they start, kept; they match nothing",
                    f"video {video_id}, {start_s:g} to {end_s:g} s",
                )
            segments.append((start_s, end_s))
            scores.append(score)
            labels.append(number_of[label])
    return Detections(
        np.array(segments, dtype=np.float64).reshape(-1, 2),
        np.array(scores, dtype=np.float64),
        np.array(labels, dtype=np.int64),
    )


def _filtered(view: RawDetections) -> RawDetections:
    keep = filter_by_boundaries(view.segments, view.start, view.end)
    return replace(view, segments=view.segments[keep], scores=view.scores[keep])


def _peak_or_high(probability: NDArray[np.floating]) -> BoolArray:
    padded = np.pad(probability, 1)
    peak = (probability > padded[:-2]) & (probability > padded[2:])
    mask: BoolArray = peak | (probability > 0.5 * probability.max())
    return mask


def _snippet_labels(views: Sequence[RawDetections], classes_per_segment: int) -> tuple[IntArray, FloatArray]:
    """Return the best classes of every proposal of all views and their scores, ``[K, M]`` each, best first."""
    scores = np.concatenate([_segment_class_scores(view) for view in views])
    labels = np.argsort(-scores, axis=1, kind="stable")[:, :classes_per_segment]
    return labels, np.take_along_axis(scores, labels, axis=1)


def _segment_class_scores(view: RawDetections) -> FloatArray:
    """Mean of the class probabilities over the positions that each proposal touches, ``[K, classes]``."""
    if view.snippet_classes is None:
        raise ValueError("postprocess.classes is 'snippet', which needs the network's snippet_classes")
    positions = len(view.snippet_classes)
    segments = view.segments.astype(np.float64) * positions
    first = np.clip(np.floor(segments[:, 0]), 0, positions - 1).astype(np.int64)
    past = np.clip(np.ceil(segments[:, 1]), first + 1, positions).astype(np.int64)
    running = np.zeros((positions + 1, view.snippet_classes.shape[1]))
    np.cumsum(view.snippet_classes, axis=0, dtype=np.float64, out=running[1:])
    means: FloatArray = (running[past] - running[first]) / (past - first)[:, None]
    return means


def _clipped(segments_s: FloatArray, duration_s: float) -> FloatArray:
    # As published: a start is not cut at the end of the video, nor an end at its start.
    return np.stack([np.maximum(segments_s[:, 0], 0.0), np.minimum(segments_s[:, 1], duration_s)], axis=1)


def _spellings(video_id: str) -> tuple[str, ...]:
    # The id itself goes first: ActivityNet has ids that begin with "v_" of their own.
    return video_id, f"v_{video_id}", video_id.removeprefix("v_")


def _read_cuhk(path: Path, classes: tuple[str, ...], tree: Mapping[str, Any]) -> ClassScores:
    names, results = tree["class"], tree["results"]
    if not (isinstance(names, list) and isinstance(results, dict)):
        raise DataError(f"{path}: 'class' must be a list of names and 'results' an object (video id -> scores)")
    missing = [name for name in classes if name not in names]
    if missing:
        raise DataError(f"{path}: has no column for the class '{missing[0]}' ({len(missing)} classes are missing)")
    columns = np.array([names.index(name) for name in classes], dtype=np.int64)
    rows = {}
    for video_id, values in results.items():
        row = _numbers(values)
        if row is None or row.shape != (len(names),):
            raise DataError(f"{path}: video {video_id} must have a list of {len(names)} numbers, one for each class")
        if not np.isfinite(row).all():
            raise DataError(f"{path}: a score of video {video_id} is NaN or infinite")
        rows[video_id] = row[columns]
    return ClassScores(path, classes, rows)


def _read_one_class(path: Path, classes: tuple[str, ...], tree: Mapping[str, Any]) -> ClassScores:
    rows: dict[str, FloatArray] = {}
    foreign: dict[str, str] = {}
    for video_id, entry in tree.items():
        name = entry.get("class") if isinstance(entry, dict) else None
        score = _numbers(entry.get("score")) if isinstance(entry, dict) else None
        if not isinstance(name, str) or score is None or score.shape != ():
            raise DataError(
                f"{path}: not a class score file: expected the keys 'results' and 'class', or for each video "
                f'{{"class": name, "score": number}}; the entry {video_id!r} is neither'
            )
        if not np.isfinite(score):
            raise DataError(f"{path}: the score of video {video_id} is NaN or infinite")
        if name in classes:
            rows[video_id] = np.zeros(len(classes))
            rows[video_id][classes.index(name)] = score
        else:
            foreign[video_id] = name
    return ClassScores(path, classes, rows, foreign)


def _read_untrimmednet(path: Path, classes: tuple[str, ...]) -> ClassScores:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a .npy file ({error})") from None
    if array.ndim != 2 or array.shape[1] != _UNTRIMMEDNET_COLUMNS or array.dtype.kind != "f":
        raise DataError(
            f"{path}: must hold floating-point scores [videos, {_UNTRIMMEDNET_COLUMNS}], "
            f"not {array.dtype} {list(array.shape)}"
        )
    unknown = [name for name in classes if name not in _THUMOS_COLUMN]
    if unknown:
        raise DataError(f"{path}: has no column for the class '{unknown[0]}'; it serves the 20 classes of THUMOS-14")
    columns = array[:, [_THUMOS_COLUMN[name] for name in classes]].astype(np.float64)
    rows = {f"video_test_{number:07d}": row for number, row in enumerate(columns, 1)}
    bad = next((video_id for video_id, row in rows.items() if not np.isfinite(row).all()), None)
    if bad is not None:
        raise DataError(f"{path}: a score of video {bad} is NaN or infinite")
    return ClassScores(path, classes, rows)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _numbers(value: Any) -> FloatArray | None:
    """Return a JSON number or list of numbers as an array; None when it is anything else."""
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array.astype(np.float64) if array.dtype.kind in "fi" else None


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
