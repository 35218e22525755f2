"""Segment geometry: overlaps against plain arithmetic, refinement and offsets as each other's inverse."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etad.segments import (
    from_centre_width,
    offset_targets,
    overlap_over_first,
    refine,
    tiou,
    tiou_matrix,
    to_centre_width,
)

positions = st.floats(0, 1, width=32)
segments = st.tuples(positions, positions).map(sorted)
proper_segments = segments.filter(lambda segment: segment[1] - segment[0] > 1e-3)


def tensor(*values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0.0, 0.5), (0.0, 0.5), 1.0),
        ((0.0, 0.5), (0.25, 0.75), 1 / 3),
        ((0.0, 0.5), (0.5, 1.0), 0.0),
        ((0.0, 1.0), (0.25, 0.5), 0.25),
        ((0.3, 0.3), (0.3, 0.3), 0.0),
        ((0.6, 0.4), (0.0, 1.0), 0.0),
        ((0.6, 0.4), (0.6, 0.4), 0.0),
    ],
)
def test_tiou(a: tuple[float, float], b: tuple[float, float], expected: float) -> None:
    assert tiou(tensor(*a), tensor(*b)).item() == pytest.approx(expected)


@given(proper_segments, proper_segments)
@settings(deadline=None)
def test_tiou_is_symmetric_and_between_0_and_1(a: list[float], b: list[float]) -> None:
    forward, backward = tiou(tensor(*a), tensor(*b)), tiou(tensor(*b), tensor(*a))
    assert forward == backward
    assert 0 <= forward <= 1
    assert tiou(tensor(*a), tensor(*a)).item() == pytest.approx(1)


def test_tiou_matrix_holds_every_pair() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(3, 4, 2, generator=generator).sort(-1).values
    b = torch.rand(3, 5, 2, generator=generator).sort(-1).values
    matrix = tiou_matrix(a, b)
    assert matrix.shape == (3, 4, 5)
    for batch, row, column in torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(5)).tolist():
        assert matrix[batch, row, column] == tiou(a[batch, row], b[batch, column])


def test_tiou_matrix_of_no_segments_is_empty() -> None:
    assert tiou_matrix(torch.rand(4, 2), torch.rand(0, 2)).shape == (4, 0)


def test_overlap_over_first_divides_by_the_first_length() -> None:
    assert overlap_over_first(tensor(0.0, 0.5), tensor(0.25, 2.0)).item() == pytest.approx(0.25 / (0.5 + 1e-6))
    assert overlap_over_first(tensor(0.5, 0.5), tensor(0.0, 1.0)).item() == 0


@given(segments)
@settings(deadline=None)
def test_centre_width_round_trip(segment: list[float]) -> None:
    torch.testing.assert_close(from_centre_width(to_centre_width(tensor(*segment))), tensor(*segment))


def test_refine_is_the_mean_of_both_decodings() -> None:
    # By boundaries: centre 0.4 + 0.2 * 0.1 = 0.42, width 0.2 + 0.2 * 0.4 = 0.28; by centre: 0.5 and 0.4.
    refined = refine(tensor(0.3, 0.5), tensor(-0.1, 0.3), tensor(0.5, math.log(2)))
    torch.testing.assert_close(refined, tensor((0.28 + 0.3) / 2, (0.56 + 0.7) / 2))


@given(proper_segments, proper_segments)
@settings(deadline=None)
def test_refining_by_the_targets_gives_the_true_segment(segment: list[float], true: list[float]) -> None:
    start, end, centre, width = offset_targets(tensor(*segment), tensor(*true))
    refined = refine(tensor(*segment), torch.stack((start, end)), torch.stack((centre, width)))
    torch.testing.assert_close(refined, tensor(*true), atol=2e-6, rtol=0)


def test_offset_targets_follow_the_formulas() -> None:
    targets = offset_targets(tensor(0.2, 0.6), tensor(0.3, 0.5))
    expected = (0.25, -0.25, 0.0, math.log(0.5 + 1e-6))
    assert [target.item() for target in targets] == pytest.approx(expected)


@pytest.mark.parametrize("segment", [(0.5, 0.5), (0.6, 0.4)])
def test_offset_targets_of_degenerate_segments_are_finite(segment: tuple[float, float]) -> None:
    assert all(target.isfinite() for target in offset_targets(torch.tensor(segment), torch.tensor([0.1, 0.2])))
