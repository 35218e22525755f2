"""Snippet counts as published, and what every snippet sampler promises."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etad.config import SnippetSampler
from etad.sampling.snippets import sample_snippets, snippet_count
from etad.seeding import stream

SAMPLERS: tuple[SnippetSampler, ...] = get_args(SnippetSampler)


def values(videos: int, snippets: int, seed: int = 0, channels: int = 6) -> torch.Tensor:
    return torch.randn(videos, channels, snippets, generator=torch.Generator().manual_seed(seed))


def draw(name: SnippetSampler, count: int, snippets: int = 32, seed: int = 0, videos: int = 3) -> torch.Tensor:
    generators = [stream(seed, video) for video in range(videos)]
    return sample_snippets(name, count, values(3, snippets)[:videos], values(3, snippets, 1)[:videos], generators)


@pytest.mark.parametrize(
    ("snippets", "ratio", "chunk", "expected"),
    [
        (128, 0.3, 4, 40),
        (128, 0.0, 4, 0),
        (128, 1.0, 4, 128),
        (128, 0.5, 4, 64),
        (10, 1.0, 4, 10),
        (10, 0.9, 4, 10),
        (201, 1.0, 200, 201),
        (8, 0.5, 16, 8),
    ],
)
def test_snippet_count(snippets: int, ratio: float, chunk: int, expected: int) -> None:
    assert snippet_count(snippets, ratio, chunk) == expected


@given(st.integers(1, 300), st.floats(0, 1), st.integers(1, 40))
@settings(deadline=None)
def test_snippet_count_is_whole_chunks_or_everything(snippets: int, ratio: float, chunk: int) -> None:
    count = snippet_count(snippets, ratio, chunk)
    assert 0 <= count <= snippets
    assert count % chunk == 0 or count == snippets
    assert abs(count - snippets * ratio) <= chunk


@pytest.mark.parametrize("name", SAMPLERS)
@given(st.integers(1, 24), st.data())
@settings(deadline=None, max_examples=15)
def test_draws_are_distinct_and_in_range(name: SnippetSampler, snippets: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, snippets))
    draws = draw(name, count, snippets, data.draw(st.integers(0, 99)))
    assert draws.dtype == torch.int64
    assert draws.shape == (3, count)
    for indices in draws.tolist():
        assert len(set(indices)) == count
        assert set(indices) <= set(range(snippets))


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_depend_on_the_video_alone(name: SnippetSampler) -> None:
    together = draw(name, 8)
    assert together.tolist() == draw(name, 8).tolist()
    assert draw(name, 8, videos=1)[0].tolist() == together[0].tolist()
    if name != "gradient":  # where no two norms are equal, chance has no part in it
        assert together.tolist() != draw(name, 8, seed=1).tolist()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_overflowed_values_do_not_stop_a_draw(name: SnippetSampler, value: float, dtype: torch.dtype) -> None:
    broken = torch.full((1, 4, 16), value, dtype=dtype)
    draws = sample_snippets(name, 10, broken, broken, [stream(0)])
    assert len(set(draws[0].tolist())) == 10


def test_random_is_the_published_permutation() -> None:
    assert draw("random", 8)[1].tolist() == torch.randperm(32, generator=stream(0, 1))[:8].tolist()


@given(st.integers(1, 60), st.data())
@settings(deadline=None)
def test_uniform_is_evenly_spaced(snippets: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, snippets))
    indices = draw("uniform", count, snippets, data.draw(st.integers(0, 99)))[0]
    gaps = set(indices.diff().tolist())
    assert gaps <= {snippets // count, -(-snippets // count)}
    assert indices[0] <= snippets / count


def test_uniform_takes_every_snippet_equally_often() -> None:
    draws = sample_snippets("uniform", 3, values(2000, 8), values(2000, 8), [stream(i) for i in range(2000)])
    frequency = draws.flatten().bincount(minlength=8) / 2000
    # Four standard deviations of a frequency of 3/8 over 2000 draws.
    torch.testing.assert_close(frequency, torch.full((8,), 3 / 8), atol=4 * 0.0109, rtol=0)


def test_block_is_a_run_that_can_start_anywhere() -> None:
    draws = sample_snippets("block", 6, values(99, 8), values(99, 8), [stream(i) for i in range(99)])
    assert (draws.diff() == 1).all()
    assert set(draws[:, 0].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("name", ["fps", "dpp"])
def test_diverse_draws_take_one_of_each_kind(name: SnippetSampler) -> None:
    # Four kinds of snippet, eight near-copies each.
    features = torch.eye(4).repeat(1, 8).unsqueeze(0) + 1e-4 * values(1, 32, channels=4)
    kinds = sample_snippets(name, 4, features, features, [stream(0)])[0] % 4
    assert sorted(kinds.tolist()) == [0, 1, 2, 3]


def test_gradient_takes_the_largest_norms() -> None:
    gradient = torch.tensor([[[1.0, -9.0, 2.0, 0.0, float("inf")], [1.0, 0.0, 8.0, 3.0, 0.5]]])
    draws = sample_snippets("gradient", 3, gradient, gradient, [stream(0)])
    assert draws.tolist() == [[1, 2, 3]]


def test_gradient_breaks_ties_at_random() -> None:
    zeros = torch.zeros(1, 4, 32)
    first, second = (sample_snippets("gradient", 8, zeros, zeros, [stream(seed)]).tolist() for seed in (0, 1))
    assert first != second


def test_too_many_snippets_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot draw 33 of 32 snippets"):
        draw("random", 33)
