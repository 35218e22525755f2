"""RoIAlign: its forms give the numbers and gradients of torchvision's operator."""

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etad.models import interpolation
from etad.models.interpolation import most_samples, sample_segments
from etad.models.roi_align import align_projected, choose_form, roi_align_1d

FORMS: tuple[Literal["matrix", "gather"], ...] = ("matrix", "gather")

# Segments that begin, end or are sampled exactly at a position, at -1 or at T are common.
TIMES = st.one_of(st.floats(-1.5, 2.5, width=32), st.integers(-8, 24).map(lambda number: number / 16))
SEGMENTS = st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=12)
SIZES = st.sampled_from([(16, 24), (1, 3), (2, 1), (13, 5), (64, 4), (40, 8)])


@pytest.fixture
def shapes_known_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute on the CPU the way a GPU does, where no shape may depend on a value."""
    monkeypatch.setattr(interpolation, "_values_are_at_hand", lambda tensor: False)


def pooled_and_gradient(
    form: Literal["published", "matrix", "gather"], segments: Tensor, length: int, bins: int
) -> tuple[Tensor, Tensor]:
    """Return the pooled features of two videos and the gradient of a fixed function of them."""
    generator = torch.Generator().manual_seed(length)
    features = torch.randn(2, 3, length, generator=generator).requires_grad_()
    pooled = roi_align_1d(features, segments, bins, form)
    factors = torch.randn(pooled.shape, generator=generator)
    return pooled.detach(), torch.autograd.grad((pooled * factors).sum(), features)[0]


def assert_equal_to_published(segments: Tensor, length: int, bins: int) -> None:
    expected, expected_gradient = pooled_and_gradient("published", segments, length, bins)
    scale = max(1.0, float(expected_gradient.abs().max()))
    for form in FORMS:
        pooled, gradient = pooled_and_gradient(form, segments, length, bins)
        torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-5 * scale)


@settings(max_examples=100, deadline=None)
@given(SEGMENTS, SIZES)
def test_forms_equal_torchvision(pairs: list[tuple[float, float]], size: tuple[int, int]) -> None:
    # Unsorted pairs: about half of the segments are inverted, and so of length one.
    assert_equal_to_published(torch.tensor([pairs, pairs[::-1]]), *size)


@pytest.mark.usefixtures("shapes_known_beforehand")
@settings(max_examples=40, deadline=None)
@given(SEGMENTS, SIZES)
def test_forms_with_shapes_known_beforehand_equal_torchvision(
    pairs: list[tuple[float, float]], size: tuple[int, int]
) -> None:
    assert_equal_to_published(torch.tensor([pairs, pairs[::-1]]), *size)


def test_the_dense_grid_of_the_published_sizes() -> None:
    edges = torch.arange(0, 129, 4) / 128
    first, second = torch.meshgrid(edges, edges, indexing="ij")
    segments = torch.stack((first, second), dim=-1)[first < second]
    extended = torch.stack(
        (1.5 * segments[:, 0] - 0.5 * segments[:, 1], 1.5 * segments[:, 1] - 0.5 * segments[:, 0]), 1
    )
    assert_equal_to_published(extended.expand(2, -1, -1), 128, 24)


@settings(max_examples=40, deadline=None)
@given(SEGMENTS, SIZES, st.data())
def test_a_layer_may_come_first(pairs: list[tuple[float, float]], size: tuple[int, int], data: st.DataObject) -> None:
    length, bins = size
    start = data.draw(st.integers(0, bins - 1))
    part = range(start, data.draw(st.integers(start + 1, bins)))
    segments = torch.tensor([pairs, pairs[::-1]])
    generator = torch.Generator().manual_seed(length)
    features = torch.randn(2, 3, length, generator=generator).requires_grad_()
    weight = torch.randn(5, 3, len(part), generator=generator).requires_grad_()

    table = torch.einsum("ocb,nct->ntbo", weight, features).contiguous()
    first = align_projected(table, segments, bins, part)
    pooled = roi_align_1d(features, segments, bins)[..., part.start : part.stop]
    behind = torch.einsum("ocb,nkcb->nko", weight, pooled)
    torch.testing.assert_close(first, behind, rtol=1e-5, atol=1e-5)
    for gradient, expected in zip(
        *(torch.autograd.grad(output.square().sum(), (features, weight)) for output in (first, behind)), strict=True
    ):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=100, deadline=None)
@given(SEGMENTS, SIZES, st.data())
def test_no_segment_needs_more_samples_than_planned(
    pairs: list[tuple[float, float]], size: tuple[int, int], data: st.DataObject
) -> None:
    length, bins = size
    start = data.draw(st.integers(0, bins - 1))
    part = range(start, data.draw(st.integers(start + 1, bins)))
    segments = torch.tensor(pairs) * data.draw(st.sampled_from([0.01, 1.0, 5.0, 300.0]))
    samples = sample_segments(segments, length, bins, part)
    per_segment = samples.first[:: len(part)].diff()
    assert int(per_segment.max()) <= most_samples(length, part)
    weights = torch.zeros(len(pairs), dtype=torch.float64)
    weights.index_add_(0, samples.group // len(part), samples.weight.double().sum(1))
    # A bin that lies inside the sequence has a weight of one, and any other less.
    assert (weights <= len(part) * (1 + 1e-5)).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_diverged_network_does_not_index_out_of_bounds(form: Literal["matrix", "gather"]) -> None:
    nan, infinity = float("nan"), float("inf")
    segments = torch.tensor([[[nan, nan], [0.5, nan], [-infinity, infinity], [infinity, 1.0], [-1e30, 1e30]]])
    pooled = roi_align_1d(torch.ones(1, 2, 16), segments, 4, form)
    assert pooled.isfinite().all()
    assert (pooled >= 0).all()
    assert (pooled <= 1 + 1e-6).all()


@pytest.mark.parametrize("form", FORMS)
def test_segments_outside_read_nothing(form: Literal["matrix", "gather"]) -> None:
    features = torch.ones(1, 2, 16, requires_grad=True)
    pooled = roi_align_1d(features, torch.tensor([[[1.5, 2.0], [-1.0, -0.5]]]), 4, form)
    assert (pooled == 0).all()
    assert (torch.autograd.grad(pooled.sum(), features)[0] == 0).all()


@pytest.mark.parametrize("form", ["published", *FORMS])
def test_half_precision_keeps_the_segments_exact(form: Literal["published", "matrix", "gather"]) -> None:
    ramp = torch.arange(128.0).expand(1, 2, 128)
    segments = torch.tensor([[[0.3, 0.31], [0.501, 0.777]]])
    expected = roi_align_1d(ramp, segments, 4)
    pooled = roi_align_1d(ramp.bfloat16(), segments, 4, form)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.float(), expected, rtol=2**-8, atol=0)


def test_the_choice_of_a_form() -> None:
    assert choose_form("gather", "cuda", 10_000, 128) == "gather"
    assert choose_form("auto", "cpu", 8256, 128) == "projected"
    assert choose_form("auto", "cpu", 82, 128) == "gather"
    assert choose_form("auto", "cuda", 8256, 128) == "matrix"
