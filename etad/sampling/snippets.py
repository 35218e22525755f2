"""Which snippets of a video get the second, back-propagated encoder pass (specification, section 5, step 3).

The published ETAD (arXiv 2205.07134) draws at random; the paper studies further strategies, of which no code was
published, so the others are our reading.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from etad.config import SnippetSampler
from etad.sampling.diversity import KDpp, farthest_points

DRAWN_BY_FEATURES = ("fps", "dpp", "gradient")
"""Samplers that read features or their gradient, which a step has only after its detect phase."""


def snippet_count(snippets: int, ratio: float, chunk: int) -> int:
    """Return how many snippets of a video are drawn: whole encoder chunks, as published.

    Args:
        snippets: snippets of the video (N).
        ratio: part of them to draw, 0..1.
        chunk: snippets that the encoder takes at once.

    Returns:
        The snippets in ``int(N * ratio / chunk + 0.99)`` chunks, N at most: 40 for N = 128, ratio 0.3, chunk 4. Ratio 0
        draws none, ratio 1 all.
    """
    # 0.99 is the published code's way to round up: less than a hundredth of a chunk does not make another one.
    if ratio == 1:
        return snippets
    return min(snippets, int(snippets * ratio / chunk + 0.99) * chunk)


def sample_snippets(
    name: SnippetSampler, count: int, features: Tensor, gradient: Tensor, generators: Sequence[torch.Generator]
) -> Tensor:
    """Draw ``count`` distinct snippets for each video of a batch.

    A draw depends on the video's own generator, features and gradient alone, never on its batch mates. Values that are
    not finite (a gradient that overflowed in fp16) count as zero.

    - random: uniformly, in the order drawn (published).
    - uniform: evenly spaced over the video, from a random offset.
    - block: a run of neighbours at a random place.
    - fps: farthest points by Euclidean distance of features, from a random first snippet.
    - dpp: k-DPP on the direction of the features, RBF kernel, bandwidth the median distance.
    - gradient: those with the largest norm of the feature gradient; ties fall at random.

    Args:
        name: the strategy.
        count: snippets per video, 0..N.
        features: ``[B, C, N]`` on any device, any floating type; read by fps and dpp.
        gradient: ``[B, C, N]`` d loss / d feature, likewise; read by gradient.
        generators: one CPU generator per video.

    Returns:
        ``[B, count]`` int64 numbers of snippets, on the CPU.

    Raises:
        ValueError: ``count`` is not in 0..N.
    """
    snippets = features.shape[-1]
    if not 0 <= count <= snippets:
        raise ValueError(f"cannot draw {count} of {snippets} snippets")
    if count == 0:
        return torch.empty(len(generators), 0, dtype=torch.int64)
    match name:
        case "random":
            draws = [torch.randperm(snippets, generator=generator)[:count] for generator in generators]
        case "uniform":
            draws = [_evenly_spaced(snippets, count, generator) for generator in generators]
        case "block":
            draws = [torch.arange(count) + _draw(snippets - count, generator) for generator in generators]
        case "fps":
            first = torch.tensor([_draw(snippets - 1, generator) for generator in generators])
            return farthest_points(_finite(features).cpu().mT.contiguous(), count, first)
        case "dpp":
            videos = _finite(features).cpu().mT.double()
            draws = [_diverse(video, count, generator) for video, generator in zip(videos, generators, strict=True)]
        case "gradient":
            norms = _finite(gradient).norm(dim=1).cpu()
            draws = [_largest(norm, count, generator) for norm, generator in zip(norms, generators, strict=True)]
    return torch.stack(draws)


def _evenly_spaced(snippets: int, count: int, generator: torch.Generator) -> Tensor:
    # Integers keep it exact: distinct, in range, and every snippet equally likely.
    return (torch.arange(count) * snippets + _draw(snippets - 1, generator)) // count


def _diverse(video: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw from the k-DPP of one video's features ``[N, C]``."""
    directions = torch.nn.functional.normalize(video, dim=-1)
    distances = torch.cdist(directions, directions, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = distances[tuple(torch.triu_indices(len(video), len(video), offset=1))]
    bandwidth = float(pairs.median()) if len(pairs) else 0.0
    # Where most snippets are alike the median is zero; directions are at most 2 apart, so 1 is a sensible width.
    return KDpp(torch.exp(-(distances / (bandwidth or 1.0)).square() / 2)).sample(count, generator)


def _largest(norm: Tensor, count: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(norm), generator=generator)
    return order[norm[order].argsort(descending=True, stable=True)[:count]]


def _finite(values: Tensor) -> Tensor:
    return torch.nan_to_num(values.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)


def _draw(highest: int, generator: torch.Generator) -> int:
    """Return a random number in 0..``highest``."""
    return int(torch.randint(highest + 1, (), generator=generator))
