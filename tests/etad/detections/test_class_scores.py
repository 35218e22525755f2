"""Files of video-level class scores, good and bad."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etad.detections.class_scores import read_class_scores
from etad.errors import DataError
from tests.paths import SHARED

SHARED_DATA = SHARED / "data"

needs_data = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the third-party data is not here")


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_cuhk_scores_come_in_the_order_of_the_classes(tmp_path: Path) -> None:
    tree = {"class": ["a", "b", "c"], "results": {"x": [0.1, 0.2, 0.7]}}
    scores = read_class_scores(write(tmp_path / "s.json", tree), ("c", "a"))
    assert scores.of("x").tolist() == [0.7, 0.1]
    assert scores.of("v_x").tolist() == [0.7, 0.1]
    assert scores.missing(["x", "v_x", "y"]) == ["y"]
    with pytest.raises(DataError, match=r"s\.json: has no scores for video y"):
        scores.of("y")


def test_one_class_a_video(tmp_path: Path) -> None:
    tree = {"v_x": {"class": "b", "score": 0.8}, "v_y": {"class": "other", "score": 0.5}}
    scores = read_class_scores(write(tmp_path / "s.json", tree), ("a", "b"))
    assert scores.of("x").tolist() == [0.0, 0.8]
    assert scores.missing(["x", "y"]) == ["y"]
    with pytest.raises(DataError, match=r"video y has the class 'other'"):
        scores.of("y")


def test_an_id_that_begins_with_v_is_found_before_its_namesake(tmp_path: Path) -> None:
    tree = {"class": ["a"], "results": {"v_x": [1.0], "x": [2.0]}}
    scores = read_class_scores(write(tmp_path / "s.json", tree), ("a",))
    assert (scores.of("v_x")[0], scores.of("x")[0]) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"results": {', "not valid JSON, or cut off, at line 1"),
        ("[1]", "must hold a JSON object, not list"),
        ({"class": ["a", "b"], "results": {"x": [0.1]}}, "video x must have a list of 2 numbers"),
        ({"class": ["a", "b"], "results": {"x": [0.1, "high"]}}, "video x must have a list of 2 numbers"),
        ({"class": ["a", "b"], "results": {"x": [0.1, [0.2]]}}, "video x must have a list of 2 numbers"),
        ({"class": ["a", "b"], "results": {"x": [0.1, math.nan]}}, "video x is NaN"),
        ({"class": ["a"], "results": {"x": [0.1]}}, "no column for the class 'b'"),
        ({"class": "a", "results": {}}, "'class' must be a list"),
        ({"x": {"class": "a"}}, "not a class score file"),
        ({"x": 3}, "not a class score file"),
        ({"x": {"class": "a", "score": math.inf}}, "video x is NaN"),
    ],
)
def test_a_bad_score_file_is_named_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path / "s.json", content)
    with pytest.raises(DataError, match=message) as error:
        read_class_scores(path, ("a", "b"))
    assert "s.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_score_file_is_named(tmp_path: Path) -> None:
    for name in ("none.json", "none.npy"):
        with pytest.raises(DataError, match=name):
            read_class_scores(tmp_path / name, ("a",))


def test_untrimmednet_scores(tmp_path: Path) -> None:
    path = tmp_path / "u.npy"
    array = np.arange(3 * 101, dtype=np.float32).reshape(3, 101)
    np.save(path, array)
    scores = read_class_scores(path, ("VolleyballSpiking", "BaseballPitch"))
    assert scores.of("video_test_0000002").tolist() == [101 + 96, 101 + 6]
    # Validation videos have numbers too, and no row.
    assert scores.missing(["video_test_0000003", "video_validation_0000002", "video_test_0000004"]) == [
        "video_validation_0000002",
        "video_test_0000004",
    ]
    with pytest.raises(DataError, match="'Skiing'"):
        read_class_scores(path, ("Skiing",))
    array[1, 6] = np.nan
    np.save(path, array)
    with pytest.raises(DataError, match="video_test_0000002 is NaN"):
        read_class_scores(path, ("BaseballPitch",))
    np.save(path, array[:, :100])
    with pytest.raises(DataError, match=r"\[3, 100\]"):
        read_class_scores(path, ("BaseballPitch",))


@needs_data
def test_untrimmednet_columns_fit_the_thumos_classes() -> None:
    database = json.loads((SHARED_DATA / "thumos14" / "thumos14.json").read_text())["database"]
    true = {
        video_id: {action["label"] for action in video["annotations"]}
        for video_id, video in database.items()
        if video["subset"] == "Test"
    }
    classes = tuple(sorted(set().union(*true.values())))
    scores = read_class_scores(SHARED_DATA / "thumos14" / "uNet_test.npy", classes)
    assert scores.missing(true) == []
    right = sum(classes[int(scores.of(video_id).argmax())] in labels for video_id, labels in true.items())
    assert right / len(true) > 0.9
