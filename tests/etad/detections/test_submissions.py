"""Submission files: what is written reads back, and what cannot be used is named."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etad.detections.detections import Detections
from etad.detections.submissions import load_submission, parse_submission, submission
from etad.errors import DataError


def read(path: Path, value: Any, classes: tuple[str, ...], **settings: Any) -> tuple[dict[str, Detections], list[str]]:
    """Write a file with this content, and read it as a submission."""
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return parse_submission(load_submission(path), path, classes, **settings)


def entry(start_s: float, end_s: float, label: Any = None, score: float = 0.5) -> dict[str, Any]:
    """Return a detection as a submission has it; without a label where that is None."""
    found = {"segment": [start_s, end_s], "score": score}
    return found if label is None else found | {"label": label}


def test_a_submission_reads_back_as_it_was(tmp_path: Path) -> None:
    found = Detections(np.array([[0.5, 2.25], [1.0, 3.0]]), np.array([0.9, 0.25]), np.array([1, 0]))
    tree = submission({"x": found, "y": Detections.empty()}, ("a", "b"), {"used": True})
    assert tree["external_data"] == {"used": True}
    assert tree["results"]["x"][0] == {"label": "b", "score": 0.9, "segment": [0.5, 2.25]}
    results, warnings = read(tmp_path / "r.json", tree, ("a", "b"))
    assert warnings == []
    assert list(results) == ["x", "y"]
    np.testing.assert_array_equal(results["x"].segments_s, found.segments_s)
    np.testing.assert_array_equal(results["x"].scores, found.scores)
    np.testing.assert_array_equal(results["x"].labels, found.labels)
    assert results["y"].segments_s.shape == (0, 2)


def test_unusable_entries_are_counted_and_named(tmp_path: Path) -> None:
    good = {"label": "a", "score": 0.5, "segment": [1, 2]}
    entries = [
        good,
        good | {"score": math.nan},
        good | {"segment": [1, math.inf]},
        good | {"label": "q"},
        good | {"label": "r"},
        good | {"segment": [1]},
        good | {"label": ["a"]},
        {"label": "a"},
        7,
        good | {"label": None},
        good | {"segment": [2, 1]},
    ]
    results, warnings = read(tmp_path / "r.json", {"results": {"x": entries}}, ("a", "b"))
    assert len(results["x"]) == 2
    text = "\n".join(warnings)
    for expected in (
        "1 detections whose score is NaN",
        "1 detections whose segment is NaN",
        "3 malformed",
        "label 'q'",
    ):
        assert expected in text
    assert "3 detections of an unknown class" in text
    assert "1 detections that end before they start, kept as published: only a true action of exactly" in text
    assert "1 detections without a label, left out (first: video x, 1 to 2 s)" in text


@pytest.mark.parametrize("content", ["nonsense", "[]", {"results": []}, {"results": {"x": {}}}, {}])
def test_a_file_that_is_no_submission_is_an_error(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DataError, match=r"r\.json"):
        read(tmp_path / "r.json", content, ("a",))


@pytest.mark.parametrize("packed", [False, True])
def test_a_byte_order_mark_and_gzip_change_nothing(tmp_path: Path, packed: bool) -> None:
    text = "\ufeff" + json.dumps({"results": {"x": [entry(1, 2, "a")]}})
    path = tmp_path / "results.json"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert load_submission(path) == {"results": {"x": [entry(1, 2, "a")]}}


def test_gzip_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "results.json.gz"
    path.write_bytes(gzip.compress(b"{}")[:-6])
    with pytest.raises(DataError, match="not valid gzip, or cut off"):
        load_submission(path)


def test_a_video_listed_twice_is_refused(tmp_path: Path) -> None:
    one = json.dumps([entry(1, 2, "a")])
    twice = f'{{"results": {{"x": {one}, "y": {one}, "x": {one}}}}}'
    with pytest.raises(DataError, match=r"1 videos are listed more than once in 'results' \(first: x\); join"):
        read(tmp_path / "r.json", twice, ("a",))
    with pytest.raises(DataError, match="holds 'results' more than once; join"):
        read(tmp_path / "r.json", f'{{"results": {{"x": {one}}}, "results": {{"x": []}}}}', ("a",))
    # What is lost is an empty list, or stands elsewhere.
    results, _ = read(tmp_path / "r.json", f'{{"results": {{"x": [], "x": {one}}}, "a": "\\"segment\\""}}', ("a",))
    assert len(results["x"]) == 1


def test_ids_are_found_with_and_without_v(tmp_path: Path) -> None:
    tree = {"results": {"v_x": [entry(1, 2, "a")], "y": [], "v_z": [], "elsewhere": []}}
    results, warnings = read(tmp_path / "r.json", tree, ("a",), video_ids=("x", "v_y", "v_z", "z"))
    assert list(results) == ["x", "v_y", "v_z", "elsewhere"]
    (line,) = warnings
    assert line.endswith("2 videos are written with another 'v_' than in the annotations, read as those (first: v_x)")
    with pytest.raises(DataError, match="x and v_x are one video of the annotations; join their detections"):
        read(tmp_path / "r.json", {"results": {"x": [], "v_x": []}}, ("a",), video_ids=("x",))


def test_proposals_have_no_label_and_need_none_where_there_is_one_class(tmp_path: Path) -> None:
    tree = {"results": {"x": [entry(1, 2), entry(3, 4)]}}
    for settings in ({"agnostic": True}, {}):
        results, warnings = read(tmp_path / "r.json", tree, ("action",), **settings)
        assert results["x"].labels.tolist() == [0, 0]
        assert warnings == []
    with pytest.raises(DataError, match=r"its 2 detections have no label, .*; set postprocess.classes=agnostic"):
        read(tmp_path / "r.json", tree, ("a", "b"))


def test_without_classes_a_segment_of_several_labels_is_one_detection(tmp_path: Path) -> None:
    found = [entry(1, 2, "a", 0.2), entry(1, 2, "b", 0.6), entry(3, 4, "a", 0.4), entry(1, 2, "c", 0.1)]
    tree = {"results": {"x": found, "y": [entry(1, 2, "Ambiguous")]}}
    results, warnings = read(tmp_path / "r.json", tree, ("action",), agnostic=True, ignored=("Ambiguous",))
    assert results["x"].segments_s.tolist() == [[1, 2], [3, 4]]
    assert results["x"].scores.tolist() == [0.6, 0.4]
    assert len(results["y"]) == 0
    assert "1 detections of a class of data.ignored_classes, left out" in warnings[1]
    assert "4 detections have a label, and all count as 'action'" in warnings[0]
    # What is agnostic already stays as it is, doubles and all.
    doubled = {"results": {"x": [entry(1, 2, "action"), entry(1, 2, "action")]}}
    results, warnings = read(tmp_path / "r.json", doubled, ("action",), agnostic=True)
    assert (len(results["x"]), warnings) == (2, [])


def test_whole_numbers_are_labels_where_the_annotations_have_them(tmp_path: Path) -> None:
    results, warnings = read(tmp_path / "r.json", {"results": {"x": [entry(1, 2, 7), entry(1, 2, "3")]}}, ("3", "7"))
    assert results["x"].labels.tolist() == [1, 0]
    assert warnings == []


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [3, "4"],
            r"its labels are numbers \(first: 3\), and those of the annotations names \(a, b\); write each detection",
        ),
        (["q", 4], r"none of its 2 detections is of a class of the annotations \(first: 'q'; there are: a, b\)"),
    ],
)
def test_labels_of_which_none_is_known_are_refused(tmp_path: Path, labels: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "r.json", {"results": {"x": [entry(1, 2, label) for label in labels]}}, ("a", "b"))
