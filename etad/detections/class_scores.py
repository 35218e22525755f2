"""Video-level class scores of a classifier that is not ours, as files exchange them (specification, section 7)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from etad.detections.detections import FloatArray
from etad.errors import DataError, one_line
from etad.files import kind, read_json

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
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise DataError(f"{path}: must hold a JSON object, not {kind(tree)}")
    if "results" in tree and "class" in tree:
        return _read_cuhk(path, tuple(classes), tree)
    return _read_one_class(path, tuple(classes), tree)


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
    except Exception as error:  # whatever numpy stumbles over in a damaged file
        reason = "holds objects, or is damaged" if "pickle" in str(error) else one_line(str(error), 200)
        raise DataError(f"{path}: cannot be read as a .npy file ({reason})") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: is an .npz file, not an .npy file")
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


def _numbers(value: Any) -> FloatArray | None:
    """Return a JSON number or list of numbers as an array; None when it is anything else."""
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array.astype(np.float64) if array.dtype.kind in "fi" else None
