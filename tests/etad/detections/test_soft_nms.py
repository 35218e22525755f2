"""Soft-NMS against a plain one, over all candidates and within each class."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etad.detections.soft_nms import soft_nms, soft_nms_per_class, soft_nms_with_voting
from tests.etad.candidates import candidates


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


@given(candidates(), st.floats(0.3, 1.0))
def test_what_is_kept_moves_to_the_weighted_mean_of_all_that_overlap_it(
    drawn: tuple[list[tuple[float, float]], list[float]], threshold: float
) -> None:
    segments, scores = drawn
    arrays = np.array(segments), np.array(scores), 0.35, 10, 0.0
    indices, decayed, voted = soft_nms_with_voting(*arrays, threshold)
    for index, found in zip(indices.tolist(), voted.tolist(), strict=True):
        start, end = segments[index]
        sums = [0.0, 0.0, 0.0]
        for (other_start, other_end), score in zip(segments, scores, strict=True):
            overlap = max(0.0, min(end, other_end) - max(start, other_start))
            if overlap / (end - start + other_end - other_start - overlap) >= threshold:
                sums = [sums[0] + score * other_start, sums[1] + score * other_end, sums[2] + score]
        assert found == pytest.approx([sums[0] / sums[2], sums[1] / sums[2]])
    # Votes change neither what is kept nor its score.
    same, same_scores = soft_nms(*arrays)
    assert (same.tolist(), same_scores.tolist()) == (indices.tolist(), decayed.tolist())
    assert soft_nms_with_voting(*arrays, None)[2].tolist() == np.array(segments)[indices].tolist()


def test_a_segment_that_nobody_votes_for_stays() -> None:
    segments = np.array([[1.0, 1.0], [3.0, 2.0], [0.0, 4.0]])
    indices, _, voted = soft_nms_with_voting(segments, np.array([0.9, 0.8, 0.0]), 0.35, 3, 0.0, 0.5)
    assert voted.tolist() == segments[indices].tolist()


def test_soft_nms_ends_at_min_score() -> None:
    segments = np.array([[0.0, 1.0], [0.0, 1.0], [2.0, 3.0]])
    indices, decayed = soft_nms(segments, np.array([0.9, 0.8, 0.3]), 0.35, 10, min_score=0.1)
    assert indices.tolist() == [0, 2]
    assert decayed.tolist() == [0.9, 0.3]


def test_soft_nms_leaves_segments_without_length_alone() -> None:
    segments = np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 1.0], [1.5, 0.5]])
    _, decayed = soft_nms(segments, np.array([0.9, 0.8, 0.7, 0.6]), 0.35, 10)
    assert decayed.tolist() == [0.9, 0.8, 0.7, 0.6]


def test_a_sharp_decay_keeps_nothing_twice() -> None:
    # exp(-1 / sigma) is 0, and 0 times minus infinity would be no number.
    indices, decayed = soft_nms(np.array([[0.0, 1.0]] * 3), np.array([0.9, 0.8, 0.7]), 1e-4, 3)
    assert indices.tolist() == [0, 1, 2]
    assert decayed[0] == 0.9
    assert (decayed[1:] < 1e-300).all()


def test_soft_nms_of_nothing_is_nothing() -> None:
    indices, decayed = soft_nms(np.zeros((0, 2)), np.zeros(0), 0.35, 10)
    assert len(indices) == len(decayed) == 0
    none = soft_nms_per_class(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2), dtype=np.int64), 0.35, 10)
    assert [len(part) for part in none] == [0, 0, 0]


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
