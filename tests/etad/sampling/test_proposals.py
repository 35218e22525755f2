"""The dense grid against the published order, and what every sampler promises: counts, distinctness, repeatability."""

import json
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etad.config import ProposalSampler
from etad.sampling.proposals import TIOU_BANDS, dense_grid, sample_proposals, sampled_count
from etad.seeding import stream
from etad.segments import tiou_matrix
from tests.paths import FIXTURES

SAMPLERS: tuple[ProposalSampler, ...] = get_args(ProposalSampler)
EXACT: tuple[ProposalSampler, ...] = ("random", "fps", "dpp", "label_guided")
TRUE_SEGMENTS = (torch.tensor([[0.1, 0.35], [0.5, 0.9]]), torch.empty(0, 2), torch.tensor([[0.2, 0.75]]))


def published() -> dict[str, object]:
    fixture = FIXTURES / "proposals.json"
    values: dict[str, object] = json.loads(fixture.read_text(encoding="utf-8"))
    return values


def draw(
    name: ProposalSampler, ratio: float, length: int = 32, max_duration: int | None = None, seed: int = 0
) -> torch.Tensor:
    generators = [stream(seed, video) for video in range(len(TRUE_SEGMENTS))]
    return sample_proposals(dense_grid(length, max_duration), length, name, ratio, generators, TRUE_SEGMENTS)


def cells(indices: torch.Tensor, grid: torch.Tensor, length: int) -> set[tuple[int, int]]:
    """Return (duration - 1, start) in positions of the chosen proposals."""
    starts, ends = (grid[indices] * length).round().long().unbind(-1)
    return set(zip((ends - starts - 1).tolist(), starts.tolist(), strict=True))


def test_grid_is_the_published_one() -> None:
    grid = dense_grid()
    assert grid.dtype == torch.float32
    assert len(grid) == published()["valid"]
    assert grid[:3].tolist() == published()["anchors_first"]


@given(st.integers(1, 20), st.one_of(st.none(), st.integers(1, 25)))
@settings(deadline=None)
def test_grid_holds_every_allowed_segment_once_in_duration_major_order(length: int, longest: int | None) -> None:
    expected = [
        [start / length, (start + duration) / length]
        for duration in range(1, min(longest or length, length) + 1)
        for start in range(length - duration + 1)
    ]
    torch.testing.assert_close(dense_grid(length, longest), torch.tensor(expected))


def test_sampled_count_rounds_down_to_one_at_least() -> None:
    assert sampled_count(8256, 0.06) == 495
    assert sampled_count(8256, 1) == 8256
    assert sampled_count(8256, 1e-6) == 1


def test_grid_sampler_selects_as_many_as_published() -> None:
    draws = sample_proposals(dense_grid(), 128, "grid", 0.06, [stream(0)])
    assert draws.shape == (1, published()["grid_selected"])


@given(st.floats(0.005, 0.99), st.integers(3, 40), st.one_of(st.none(), st.integers(2, 40)))
@settings(deadline=None)
def test_grid_sampler_takes_every_nth_duration_and_start(ratio: float, length: int, longest: int | None) -> None:
    grid = dense_grid(length, longest)
    if sampled_count(len(grid), ratio) == len(grid):
        return
    rows = min(longest or length, length)
    durations = set(np.round(np.arange(1, rows, np.sqrt(1 / ratio))).astype(int).tolist()) - {rows}
    starts = set(np.round(np.arange(1, length, np.sqrt(1 / ratio))).astype(int).tolist())
    expected = {(row, start) for row in durations for start in starts if row + 1 + start <= length}
    draws = sample_proposals(grid, length, "grid", ratio, [stream(1)])
    assert cells(draws[0], grid, length) == expected


def test_block_sampler_takes_a_square_at_a_random_place() -> None:
    grid, places = dense_grid(), set()
    draws = sample_proposals(grid, 128, "block", 0.06, [stream(video) for video in range(40)])
    assert draws.shape == (40, 22 * 22)
    for indices in draws:
        chosen = cells(indices, grid, 128)
        row, start = min(chosen)
        assert chosen == {(row + i, start + j) for i in range(22) for j in range(22)}
        assert start <= 128 - 2 * 22 - row
        places.add((row, start))
    assert len(places) > 35


def test_block_sampler_starts_at_zero_where_its_square_is_too_large() -> None:
    grid = dense_grid(16)
    draws = sample_proposals(grid, 16, "block", 0.9, [stream(video) for video in range(3)])
    side = 11  # int(sqrt(int(136 * 0.9)))
    valid = {(row, start) for row in range(side) for start in range(side) if row + 1 + start <= 16}
    assert all(cells(indices, grid, 16) == valid for indices in draws)


@pytest.mark.parametrize("name", SAMPLERS)
@given(st.floats(0.001, 1), st.integers(1, 16), st.one_of(st.none(), st.integers(1, 16)), st.integers(0, 999))
@settings(deadline=None, max_examples=15)
def test_draws_are_distinct_in_range_and_of_one_count(
    name: ProposalSampler, ratio: float, length: int, longest: int | None, seed: int
) -> None:
    total = len(dense_grid(length, longest))
    draws = draw(name, ratio, length, longest, seed)
    assert draws.dtype == torch.int64
    assert draws.shape[0] == len(TRUE_SEGMENTS)
    assert draws.shape[1] >= 1
    assert draws.min() >= 0
    assert draws.max() < total
    assert all(len(set(indices)) == len(indices) for indices in draws.tolist())
    if name in EXACT:
        assert draws.shape[1] == sampled_count(total, ratio)


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_depend_on_the_video_alone(name: ProposalSampler) -> None:
    together = draw(name, 0.1)
    assert together.tolist() == draw(name, 0.1).tolist()
    assert together.tolist() != draw(name, 0.1, seed=1).tolist()
    alone = sample_proposals(dense_grid(32), 32, name, 0.1, [stream(0, 2)], [TRUE_SEGMENTS[2]])
    assert alone[0].tolist() == together[2].tolist()


@pytest.mark.parametrize("name", SAMPLERS)
def test_ratio_1_is_the_whole_grid_and_draws_are_shuffled(name: ProposalSampler) -> None:
    whole = draw(name, 1.0)
    assert all(indices.sort().values.tolist() == list(range(528)) for indices in whole)
    assert all(indices.tolist() != indices.sort().values.tolist() for indices in draw(name, 0.1))


@pytest.mark.parametrize("name", ["fps", "dpp"])
def test_diverse_draws_overlap_less_than_random_ones(name: ProposalSampler) -> None:
    grid = dense_grid(32)

    def nearest(draws: torch.Tensor) -> float:
        """Return the mean tIoU of a chosen proposal with the most similar other one."""
        overlap = tiou_matrix(grid[draws], grid[draws]) - torch.eye(draws.shape[1])
        return float(overlap.amax(-1).mean())

    assert nearest(draw(name, 0.1)) < nearest(draw("random", 0.1)) - 0.02


@given(
    st.floats(0.01, 0.99), st.lists(st.tuples(st.integers(0, 31), st.integers(1, 32)), max_size=3), st.integers(0, 9)
)
@settings(deadline=None)
def test_label_guided_fills_the_bands(ratio: float, pairs: list[tuple[int, int]], seed: int) -> None:
    grid = dense_grid(32)
    true = torch.tensor([sorted(pair) for pair in pairs], dtype=torch.float32).reshape(-1, 2) / 32
    best = tiou_matrix(grid, true).amax(-1) if len(true) else torch.zeros(len(grid))
    high, low = TIOU_BANDS

    def band_sizes(values: torch.Tensor) -> tuple[int, int, int]:
        above, below = int((values > high).sum()), int((values <= low).sum())
        return above, len(values) - above - below, below

    chosen = sample_proposals(grid, 32, "label_guided", ratio, [stream(seed)], [true])[0]
    count, sizes = sampled_count(len(grid), ratio), band_sizes(best)
    first = min(count // 3, sizes[0])
    second = min(2 * (count // 3) - first, sizes[1])
    third = min(count - first - second, sizes[2])
    missing = count - first - second - third  # the middle band supplies it, then the high one
    extra = min(missing, sizes[1] - second)
    assert band_sizes(best[chosen]) == (first + missing - extra, second + extra, third)


@pytest.mark.parametrize("segments", [None, TRUE_SEGMENTS[:1]])
def test_label_guided_needs_the_segments_of_every_video(segments: tuple[torch.Tensor, ...] | None) -> None:
    with pytest.raises(ValueError, match="true segments of every video"):
        sample_proposals(dense_grid(8), 8, "label_guided", 0.5, [stream(0), stream(1)], segments)
