"""Submission files: what is written reads back, and what cannot be used is named."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etad.detections.detections import Detections
from etad.detections.submissions import load_submission, parse_submission, submission
from etad.errors import DataError


def read(path: Path, value: Any, classes: tuple[str, ...]) -> tuple[dict[str, Detections], list[str]]:
    """Write a file with this content, and read it as a submission."""
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return parse_submission(load_submission(path), path, classes)


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
        good | {"segment": [2, 1]},
    ]
    results, warnings = read(tmp_path / "r.json", {"results": {"x": entries}}, ("a",))
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
    assert "1 detections that end before they start, kept" in text


@pytest.mark.parametrize("content", ["nonsense", "[]", {"results": []}, {"results": {"x": {}}}, {}])
def test_a_file_that_is_no_submission_is_an_error(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DataError, match=r"r\.json"):
        read(tmp_path / "r.json", content, ("a",))
