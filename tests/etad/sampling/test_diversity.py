"""Farthest points against a brute-force search; k-DPP draws against the exact probabilities of small kernels."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etad.sampling.diversity import KDpp, farthest_points


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_kernel(items: int, rank: int, seed: int) -> torch.Tensor:
    factor = torch.randn(items, rank, generator=generator(seed), dtype=torch.float64)
    return factor @ factor.mT


def brute_force_farthest(points: np.ndarray, count: int, first: int) -> list[int]:
    picked = [first]
    while len(picked) < count:
        gaps = {
            candidate: min(float(((points[candidate] - points[other]) ** 2).sum()) for other in picked)
            for candidate in range(len(points))
            if candidate not in picked
        }
        picked.append(max(gaps, key=lambda candidate: gaps[candidate]))
    return picked


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_farthest_points_are_those_of_the_brute_force_search(seed: int, count: int, dimensions: int) -> None:
    # A coarse lattice makes ties and coinciding points common.
    points = torch.randint(0, 4, (3, 12, dimensions), generator=generator(seed)).double()
    first = torch.randint(0, 12, (3,), generator=generator(seed))
    picked = farthest_points(points, count, first)
    for video in range(3):
        expected = brute_force_farthest(points[video].numpy(), count, int(first[video]))
        assert picked[video].tolist() == expected


@pytest.mark.parametrize(("rank", "size"), [(5, 2), (5, 4), (3, 3)])
def test_kdpp_draws_each_subset_with_its_exact_probability(rank: int, size: int) -> None:
    kernel = random_kernel(5, rank, seed=1)
    weights = {
        subset: float(torch.linalg.det(kernel[list(subset)][:, list(subset)]))
        for subset in itertools.combinations(range(5), size)
    }
    process, source, draws = KDpp(kernel), generator(2), 3000
    counts = dict.fromkeys(weights, 0)
    for _ in range(draws):
        counts[tuple(sorted(process.sample(size, source).tolist()))] += 1
    total = sum(weights.values())
    for subset, weight in weights.items():
        chance = weight / total
        # Four standard deviations; the half keeps the bound above zero for a subset that cannot occur.
        assert abs(counts[subset] - draws * chance) <= 4 * math.sqrt(draws * chance * (1 - chance)) + 0.5


def test_kdpp_includes_items_as_often_as_the_marginals_say() -> None:
    # Two separate pairs of near-duplicates: one of each pair, hardly ever both.
    kernel = torch.block_diag(*[torch.tensor([[1.0, 0.999], [0.999, 1.0]])] * 2)
    process, source = KDpp(kernel), generator(3)
    both = sum({0, 1} == set(process.sample(2, source).tolist()) for _ in range(500))
    assert both <= 5


@given(st.integers(0, 2**31), st.integers(1, 30), st.data())
@settings(deadline=None, max_examples=40)
def test_kdpp_draws_are_distinct_and_repeat_with_the_seed(seed: int, items: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, items))
    rank = data.draw(st.integers(1, items))  # often smaller than the subset
    process = KDpp(random_kernel(items, rank, seed))
    draw = process.sample(size, generator(seed))
    assert draw.dtype == torch.int64
    assert len(set(draw.tolist())) == len(draw) == size
    assert set(draw.tolist()) <= set(range(items))
    assert draw.tolist() == process.sample(size, generator(seed)).tolist()


def test_kdpp_of_a_zero_kernel_still_fills_the_subset() -> None:
    draw = KDpp(torch.zeros(6, 6)).sample(4, generator(0))
    assert len(set(draw.tolist())) == 4


def test_kdpp_copes_with_eigenvalues_hundreds_of_orders_apart_in_their_products() -> None:
    items = torch.arange(400, dtype=torch.float64)
    smooth = torch.exp(-((items[:, None] - items) ** 2) / 200)  # numerical rank of about 80
    draw = KDpp(smooth).sample(150, generator(0))
    assert len(set(draw.tolist())) == 150


def test_kdpp_refuses_a_subset_larger_than_the_set() -> None:
    with pytest.raises(ValueError, match="cannot draw 4 of 3 items"):
        KDpp(torch.eye(3)).sample(4, generator(0))


def test_mirrored_decomposition_equals_the_plain_one() -> None:
    mirror = torch.tensor([4, 1, 3, 2, 0, 6, 5])
    kernel = random_kernel(7, 7, seed=5)
    kernel = kernel + kernel[mirror][:, mirror]
    plain, mirrored = KDpp(kernel), KDpp(kernel, mirror)
    torch.testing.assert_close(mirrored._log_values.sort().values, plain._log_values.sort().values)
    scale = torch.linalg.eigvalsh(kernel).max()
    rebuilt = mirrored._vectors.mT @ torch.diag(mirrored._log_values.exp() * scale) @ mirrored._vectors
    torch.testing.assert_close(rebuilt, kernel)
