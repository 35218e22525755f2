"""Post-processing: the published detections, soft-NMS against a plain one, score files and submissions."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etad.config import PostprocessConfig
from etad.errors import DataError
from etad.postprocess import (
    ClassScores,
    Detections,
    RawDetections,
    boundary_mask,
    filter_by_boundaries,
    read_class_scores,
    read_submission,
    soft_nms,
    soft_nms_per_class,
    submission,
    to_detections,
)

REFERENCE = Path(__file__).parents[1] / "fixtures" / "postprocess.npz"
SHARED_DATA = Path(__file__).parents[2].parent / "shared" / "data"
REFERENCE_CLASSES = ("class0", "class1", "class2")

needs_data = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the third-party data is not here")


def naive_soft_nms(
    segments: list[tuple[float, float]], scores: list[float], sigma: float, max_segments: int
) -> list[tuple[int, float]]:
    """Soft-NMS written out candidate by candidate."""
    live = dict(enumerate(scores))
    kept: list[tuple[int, float]] = []
    while live and len(kept) < max_segments:
        best = max(live, key=lambda number: (live[number], -number))
        kept.append((best, live.pop(best)))
        for number in live:
            overlap = min(segments[number][1], segments[best][1]) - max(segments[number][0], segments[best][0])
            if overlap > 0:
                union = sum(segments[each][1] - segments[each][0] for each in (number, best)) - overlap
                live[number] *= math.exp(-((overlap / union) ** 2) / sigma)
    return kept


def view(segments: Any, scores: Any, positions: int = 8, **changes: Any) -> RawDetections:
    """A view of 10 s whose boundary maps let every position through."""
    values: dict[str, Any] = {
        "segments": np.array(segments, dtype=np.float32).reshape(-1, 2),
        "scores": np.array(scores, dtype=np.float32),
        "start": np.ones(positions, dtype=np.float32),
        "end": np.ones(positions, dtype=np.float32),
        "snippet_classes": None,
        "start_s": 0.0,
        "duration_s": 10.0,
    }
    return RawDetections(**(values | changes))


def scores_of(video_id: str, *values: float) -> ClassScores:
    classes = tuple(f"class{number}" for number in range(len(values)))
    return ClassScores(Path("scores.json"), classes, {video_id: np.array(values)})


@st.composite
def candidates(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[float]]:
    # Coarse numbers, so that equal ends, nesting and touching are common.
    ends = st.tuples(st.integers(0, 40), st.integers(0, 40)).filter(lambda pair: pair[0] != pair[1])
    segments = draw(st.lists(ends, min_size=1, max_size=25))
    scores = draw(st.lists(st.floats(0.001, 1.0), min_size=len(segments), max_size=len(segments), unique=True))
    return [(min(pair) / 4, max(pair) / 4) for pair in segments], scores


# --- the published path ---


@pytest.mark.parametrize("number", range(6))
def test_published_detections_are_reproduced(number: int) -> None:
    with np.load(REFERENCE) as arrays:
        reference = {
            name.partition(".")[2]: arrays[name] for name in arrays.files if name.startswith(f"video{number}.")
        }
    iou = reference["raw_iou"]
    duration_s = float(reference["duration"])
    raw = RawDetections(
        segments=reference["raw_anchors"],
        scores=iou[:, 0] * iou[:, 1],
        start=reference["raw_start"],
        end=reference["raw_end"],
        snippet_classes=None,
        start_s=0.0,
        duration_s=duration_s,
    )

    found = to_detections("a", [raw], duration_s, PostprocessConfig(), scores_of("a", *reference["class_scores"]))

    np.testing.assert_allclose(found.segments_s, reference["segments"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.scores, reference["scores"], rtol=0, atol=1e-6)
    assert [REFERENCE_CLASSES[label] for label in found.labels] == reference["labels"].tolist()


def test_segments_are_clipped_to_the_video_after_nms() -> None:
    found = to_detections(
        "a", [view([[-0.2, 0.4], [0.7, 1.3]], [0.9, 0.8])], 10.0, PostprocessConfig(classes="agnostic")
    )
    np.testing.assert_allclose(found.segments_s, [[0, 4], [7, 10]], atol=1e-5)


def test_classes_that_a_video_does_not_have_give_no_detections() -> None:
    found = to_detections("a", [view([[0.1, 0.4]], [0.9])], 10.0, PostprocessConfig(), scores_of("a", 0.0, 0.5, 0.0))
    assert found.labels.tolist() == [1]


def test_views_are_joined_in_seconds_and_share_one_nms() -> None:
    # The same action, seen by two windows that overlap.
    first = view([[0.6, 0.8]], [0.9], start_s=0.0)
    second = view([[0.1, 0.3]], [0.8], start_s=5.0)
    found = to_detections("a", [first, second], 20.0, PostprocessConfig(classes="agnostic"))
    np.testing.assert_allclose(found.segments_s, [[6, 8], [6, 8]], atol=1e-5)
    np.testing.assert_allclose(found.scores, [0.9, 0.8 * math.exp(-1 / 0.35)], rtol=1e-5)


def test_a_video_without_views_or_surviving_proposals_has_no_detections() -> None:
    config = PostprocessConfig(classes="agnostic")
    assert len(to_detections("a", [], 10.0, config)) == 0
    silent = view([[0.5, 0.7]], [0.9], start=np.eye(8)[0], end=np.eye(8)[0])
    assert len(to_detections("a", [silent], 10.0, config)) == 0
    assert len(to_detections("a", [silent], 10.0, config.model_copy(update={"boundary_filter": False}))) == 1


@pytest.mark.parametrize("output", ["segments", "scores", "start", "end"])
def test_a_diverged_network_is_an_error(output: str) -> None:
    raw = view([[0.1, 0.4]], [0.9])
    getattr(raw, output)[0] = np.nan
    with pytest.raises(DataError, match="vid: the network returned NaN"):
        to_detections("vid", [raw], 10.0, PostprocessConfig(classes="agnostic"))


def test_missing_class_scores_are_a_programming_error() -> None:
    raw = view([[0.1, 0.4]], [0.9])
    with pytest.raises(ValueError, match="class_scores"):
        to_detections("a", [raw], 10.0, PostprocessConfig())
    with pytest.raises(ValueError, match="snippet_classes"):
        to_detections("a", [raw], 10.0, PostprocessConfig(classes="snippet"))


# --- classes from the snippet classifier ---


def test_a_segments_classes_are_the_mean_over_the_positions_it_covers() -> None:
    # Class 0 for the first half of the video, class 1 for the second.
    halves = np.repeat([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], 4, axis=0)
    raw = view([[0.0, 0.5], [0.5, 1.0], [0.3, 0.3]], [0.8, 0.6, 0.1], snippet_classes=halves)
    found = to_detections("a", [raw], 10.0, PostprocessConfig(classes="snippet", classes_per_segment=1))
    assert found.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.scores, [0.72, 0.48, 0.09], rtol=1e-5)

    whole = view([[0.0, 1.0]], [1.0], snippet_classes=halves)
    found = to_detections("a", [whole], 10.0, PostprocessConfig(classes="snippet"))
    np.testing.assert_allclose(found.scores, [0.55, 0.45], rtol=1e-6)


def test_proposals_outside_the_view_take_the_class_of_its_nearest_position() -> None:
    classes = np.eye(8)
    raw = view([[-0.5, -0.2], [1.1, 1.4]], [0.9, 0.8], snippet_classes=classes)
    config = PostprocessConfig(classes="snippet", classes_per_segment=1, boundary_filter=False)
    assert to_detections("a", [raw], 10.0, config).labels.tolist() == [0, 7]


@given(candidates(), st.integers(1, 12))
def test_nms_per_class_equals_nms_of_each_class_alone(
    drawn: tuple[list[tuple[float, float]], list[float]], limit: int
) -> None:
    segments, scores = np.array(drawn[0]), np.array(drawn[1])
    labels = np.stack([np.arange(len(scores)) % 3, 3 + np.arange(len(scores)) % 2], axis=1)
    both = np.stack([scores, 0.61803 * scores], axis=1)

    alone = []
    for label in range(5):
        row, column = np.nonzero(labels == label)
        kept, kept_scores = soft_nms(segments[row], both[row, column], 0.35, len(row))
        alone += [(score, row[index], label) for index, score in zip(kept, kept_scores, strict=True)]
    alone.sort(key=lambda entry: -entry[0])

    indices, decayed, kept_labels = soft_nms_per_class(segments, both, labels, 0.35, limit)
    np.testing.assert_allclose(decayed, [entry[0] for entry in alone[:limit]], rtol=1e-9)
    assert len(set(zip(indices.tolist(), kept_labels.tolist(), strict=True))) == len(indices)


# --- soft-NMS ---


@given(candidates(), st.floats(0.05, 2.0), st.integers(1, 30))
def test_soft_nms_equals_the_plain_one(
    drawn: tuple[list[tuple[float, float]], list[float]], sigma: float, limit: int
) -> None:
    segments, scores = drawn
    indices, decayed = soft_nms(np.array(segments), np.array(scores), sigma, limit)
    expected = naive_soft_nms(segments, scores, sigma, limit)
    np.testing.assert_allclose(decayed, [score for _, score in expected], rtol=1e-9)
    assert indices[0] == int(np.argmax(scores))
    assert (np.diff(decayed) <= 0).all()
    assert len(set(indices.tolist())) == len(indices) == min(limit, len(scores))
    assert (decayed <= np.array(scores)[indices]).all()


def test_soft_nms_ends_at_min_score() -> None:
    segments = np.array([[0.0, 1.0], [0.0, 1.0], [2.0, 3.0]])
    indices, decayed = soft_nms(segments, np.array([0.9, 0.8, 0.3]), 0.35, 10, min_score=0.1)
    assert indices.tolist() == [0, 2]
    assert decayed.tolist() == [0.9, 0.3]


def test_soft_nms_leaves_segments_without_length_alone() -> None:
    segments = np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 1.0], [1.5, 0.5]])
    _, decayed = soft_nms(segments, np.array([0.9, 0.8, 0.7, 0.6]), 0.35, 10)
    assert decayed.tolist() == [0.9, 0.8, 0.7, 0.6]


def test_soft_nms_of_nothing_is_nothing() -> None:
    indices, decayed = soft_nms(np.zeros((0, 2)), np.zeros(0), 0.35, 10)
    assert len(indices) == len(decayed) == 0
    none = soft_nms_per_class(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2), dtype=np.int64), 0.35, 10)
    assert [len(part) for part in none] == [0, 0, 0]


# --- boundaries ---


def test_boundaries_are_peaks_high_positions_and_the_outer_ends() -> None:
    start = np.array([0.1, 0.3, 0.2, 0.2, 1.0, 0.6, 0.5, 0.1])
    end = np.array([0.3, 0.1, 0.2, 0.2, 0.1, 0.9, 0.0, 0.0])
    start_ok, end_ok = boundary_mask(start, end)
    # 0 outer start, 1 a peak, 4 the maximum, 5 above half of it; 6 is half of it exactly, 2-3 a plateau.
    assert np.flatnonzero(start_ok).tolist() == [0, 1, 4, 5]
    # 0 beats its neighbour and the 0 outside, 5 the maximum, 7 the outer end.
    assert np.flatnonzero(end_ok).tolist() == [0, 5, 7]


def test_ends_outside_the_view_count_as_its_outer_positions() -> None:
    flat = np.array([0.1, 0.2, 0.9, 0.2])
    keep = filter_by_boundaries(np.array([[-0.3, 0.6], [0.3, 1.4], [0.5, 1.0], [0.3, 0.6]]), flat, flat)
    assert keep.tolist() == [True, False, True, False]


# --- score files ---


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
        ('{"results": {', "line 1: not valid JSON"),
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


# --- submissions ---


def test_a_submission_reads_back_as_it_was(tmp_path: Path) -> None:
    found = Detections(np.array([[0.5, 2.25], [1.0, 3.0]]), np.array([0.9, 0.25]), np.array([1, 0]))
    tree = submission({"x": found, "y": Detections.empty()}, ("a", "b"), {"used": True})
    assert tree["external_data"] == {"used": True}
    assert tree["results"]["x"][0] == {"label": "b", "score": 0.9, "segment": [0.5, 2.25]}
    results, warnings = read_submission(write(tmp_path / "r.json", tree), ("a", "b"))
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
    results, warnings = read_submission(write(tmp_path / "r.json", {"results": {"x": entries}}), ("a",))
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
        read_submission(write(tmp_path / "r.json", content), ("a",))


# --- properties of the whole ---


@settings(max_examples=50)
@given(candidates(), st.sampled_from(["external", "snippet", "agnostic"]), st.integers(1, 10))
def test_detections_keep_what_they_promise(
    drawn: tuple[list[tuple[float, float]], list[float]], mode: str, limit: int
) -> None:
    segments, scores = drawn
    classes = np.random.default_rng(0).dirichlet(np.ones(4), size=8)
    raw = view(np.array(segments) / 10, scores, snippet_classes=classes)
    config = PostprocessConfig.model_validate({"classes": mode, "max_segments": limit})
    found = to_detections("a", [raw], 10.0, config, scores_of("a", 0.1, 0.4, 0.3, 0.2))
    per_segment = 1 if mode == "agnostic" else 2
    assert 0 < len(found) <= limit * per_segment
    assert found.segments_s.shape == (len(found), 2)
    assert found.scores.dtype == np.float64
    assert found.labels.dtype == np.int64
    assert (found.segments_s >= 0).all()
    assert (found.segments_s <= 10).all()
    if mode != "external":
        assert (np.diff(found.scores) <= 0).all()
