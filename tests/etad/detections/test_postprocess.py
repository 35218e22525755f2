"""Post-processing: the published detections, and what becomes of views, boundaries and classes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etad.config import PostprocessConfig
from etad.detections.detections import RawDetections
from etad.detections.postprocess import boundary_mask, filter_by_boundaries, to_detections
from etad.errors import DataError
from tests.etad.candidates import candidates
from tests.etad.raw_outputs import scores_of, view
from tests.paths import FIXTURES

REFERENCE = FIXTURES / "postprocess.npz"
REFERENCE_CLASSES = ("class0", "class1", "class2")


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

    found = to_detections("a", [raw], duration_s, PostprocessConfig(), scores_of(*reference["class_scores"]))

    np.testing.assert_allclose(found.segments_s, reference["segments"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.scores, reference["scores"], rtol=0, atol=1e-6)
    assert [REFERENCE_CLASSES[label] for label in found.labels] == reference["labels"].tolist()


def test_segments_are_clipped_to_the_video_after_nms() -> None:
    found = to_detections(
        "a", [view([[-0.2, 0.4], [0.7, 1.3]], [0.9, 0.8])], 10.0, PostprocessConfig(classes="agnostic")
    )
    np.testing.assert_allclose(found.segments_s, [[0, 4], [7, 10]], atol=1e-5)


def test_classes_that_a_video_does_not_have_give_no_detections() -> None:
    found = to_detections("a", [view([[0.1, 0.4]], [0.9])], 10.0, PostprocessConfig(), scores_of(0.0, 0.5, 0.0))
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
    found = to_detections("a", [raw], 10.0, config, scores_of(0.1, 0.4, 0.3, 0.2))
    per_segment = 1 if mode == "agnostic" else 2
    assert 0 < len(found) <= limit * per_segment
    assert found.segments_s.shape == (len(found), 2)
    assert found.scores.dtype == np.float64
    assert found.labels.dtype == np.int64
    assert (found.segments_s >= 0).all()
    assert (found.segments_s <= 10).all()
    if mode != "external":
        assert (np.diff(found.scores) <= 0).all()


# --- OpenTAD's path for sliding windows ---

OPENTAD_WINDOWS = [
    [
        (508, 895, 522),
        (492, 989, 285),
        (553, 818, 61),
        (557, 805, 233),
        (523, 907, 707),
        (604, 817, 241),
        (598, 809, 401),
        (95, 449, 54),
        (129, 469, 839),
        (83, 558, 197),
        (65, 454, 304),
        (509, 863, 886),
    ],
    [
        (113, 494, 880),
        (485, 876, 679),
        (559, 961, 175),
        (600, 845, 853),
        (498, 830, 948),
        (566, 838, 909),
        (157, 478, 591),
        (580, 809, 188),
        (75, 566, 233),
        (166, 430, 932),
        (119, 521, 575),
        (598, 888, 222),
    ],
]
"""Start, end and score of two windows' proposals, in thousandths."""


def test_opentads_detections_are_reproduced() -> None:
    """Voting, and soft-NMS of each window and then of all: sming256/OpenTAD, commit 3dd7b03.

    Its own ``batched_nms`` (models/utils/post_processing/nms) gave the values, from these proposals in positions of
    windows of 128, with its conversion to seconds and two classes of scores 0.7 and 0.4 between the two passes;
    without its rounding.
    """
    views = []
    for start_s, window in zip((0.0, 6.0), OPENTAD_WINDOWS, strict=True):
        proposals = np.array(window) / 1000
        views.append(view(proposals[:, :2], proposals[:, 2], start_s=start_s))
    config = PostprocessConfig(
        soft_nms_sigma=0.3, max_segments=6, min_score=1e-4, voting_tiou=0.5, windows="each", boundary_filter=False
    )
    found = to_detections("a", views, 18.0, config, scores_of(0.7, 0.4))
    expected_s = [
        [11.4538, 14.5092],
        [7.348, 10.8254],
        [1.0723, 4.7753],
        [5.3197, 8.7274],
        [11.4538, 14.5092],
        [1.0723, 4.7753],
    ]
    np.testing.assert_allclose(found.segments_s, expected_s, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.6636, 0.6524, 0.5873, 0.50204, 0.01353, 0.01197], rtol=0, atol=1e-5)
    assert found.labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_windows_that_share_one_nms_keep_more() -> None:
    views = [view([[0.1, 0.4]], [0.9]), view([[0.1, 0.4]], [0.8], start_s=5.0)]
    scores = scores_of(0.5, 0.25)
    together = to_detections("a", views, 20.0, PostprocessConfig(), scores)
    each = to_detections("a", views, 20.0, PostprocessConfig(windows="each"), scores)
    assert len(together) == len(each) == 4
    # The second class of a segment lies on the first and decays by it.
    assert sorted(together.scores.tolist()) == pytest.approx([0.2, 0.225, 0.4, 0.45])
    decay = math.exp(-1 / 0.35)
    assert each.scores.tolist() == pytest.approx([0.45, 0.4, 0.225 * decay, 0.2 * decay])
    assert len(to_detections("a", views, 20.0, PostprocessConfig(windows="each", max_segments=3), scores)) == 3
