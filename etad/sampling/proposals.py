"""The dense grid of proposals and the ways to draw some of them for training (specification, section 4).

Random, grid and block follow the published ETAD (arXiv 2205.07134). The paper also studies farthest-point, DPP and
label-guided sampling without publishing code: those are our reading, stated where they are defined.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from etad.config import Config, ProposalSampler
from etad.sampling.diversity import KDpp, farthest_points
from etad.segments import tiou_matrix

TIOU_BANDS = (0.7, 0.3)
"""Lower ends of the high and the middle band of tIoU (specification, section 6); the low band is the rest."""


def dense_grid(length: int = 128, max_duration: int | None = None) -> Tensor:
    """Return every segment between two positions, shortest first; those of one duration by ascending start.

    Args:
        length: positions of the video, >= 1.
        max_duration: longest segment in positions; None: ``length``.

    Returns:
        ``[K, 2]`` float32 start and end as parts of the video; K = 8256 for 128 positions.
    """
    starts, durations = _positions(length, _longest(length, max_duration))
    return torch.stack((starts, starts + durations), dim=-1).float() / length


def sampled_count(total: int, ratio: float) -> int:
    """Return how many of ``total`` proposals a draw asks for, at least one; grid and block round it their own way."""
    return max(1, int(total * ratio))


def sample_proposals(
    grid: Tensor,
    length: int,
    name: ProposalSampler,
    ratio: float,
    generators: Sequence[torch.Generator],
    segments: Sequence[Tensor] | None = None,
) -> Tensor:
    """Draw proposals for each video of a batch, in random order and without repetition.

    A draw depends on the video's own generator (and true segments) alone, never on its batch mates. Every video gets
    the same number: ``sampled_count``, except for grid and block. At ratio 1 there is nothing to choose: every sampler
    returns the whole grid (the published grid method would leave out start 0 and duration 1).

    Args:
        grid: ``[K, 2]``, what ``dense_grid`` returned for ``length``; best on the CPU, where the drawing is done.
        length: positions of the video.
        name: random, grid, block, fps, dpp or label_guided. The first dpp draw for a grid takes most of a minute.
        ratio: part of the proposals to draw, in 0..1.
        generators: one CPU generator per video.
        segments: true segments ``[G, 2]`` per video as parts of the video, G may be 0. Only label_guided reads them.

    Returns:
        ``[B, count]`` int64 numbers of proposals in ``grid``, on the CPU.

    Raises:
        ValueError: label_guided without one ``segments`` entry per video.
    """
    grid = grid.detach().cpu()
    total = len(grid)
    count = sampled_count(total, ratio)
    if name == "random" or count == total:
        return torch.stack([torch.randperm(total, generator=generator)[:count] for generator in generators])
    if name == "fps":
        chosen = _farthest(grid, count, generators)
    elif name == "label_guided":
        if segments is None or len(segments) != len(generators):
            raise ValueError("label_guided sampling needs the true segments of every video")
        chosen = [_label_guided(grid, count, *video) for video in zip(segments, generators, strict=True)]
    else:
        # The last proposal of the grid is one of the longest.
        longest = round(float(grid[-1, 1] - grid[-1, 0]) * length)
        if name == "grid":
            chosen = [_every_nth(length, longest, ratio)] * len(generators)
        elif name == "block":
            chosen = [_block(length, longest, count, generator) for generator in generators]
        else:
            process = _proposal_dpp(length, longest)
            chosen = [process.sample(count, generator) for generator in generators]
    return torch.stack([_shuffled(draw, generator) for draw, generator in zip(chosen, generators, strict=True)])


def _every_nth(length: int, longest: int, ratio: float) -> Tensor:
    """Return the published grid draw: every sqrt(1/ratio)-th duration and start, counted from 1, in valid pairs.

    496 of 8256 at ratio 0.06. A grid of two positions has no such pair, and gives its first proposal.
    """

    def steps(stop: int) -> Tensor:
        # min: a single duration or start is taken as it is. A value just below stop may round up to it.
        values = torch.arange(min(1, stop - 1), stop, math.sqrt(1 / ratio), dtype=torch.float64).round().long()
        return values[values < stop]

    cells = _numbers(length, longest)[steps(longest)][:, steps(length)].flatten()
    valid = cells[cells >= 0]
    return valid if len(valid) else torch.zeros(1, dtype=torch.int64)


def _block(length: int, longest: int, count: int, generator: torch.Generator) -> Tensor:
    """Return the published block draw: a square of neighbouring durations and starts, at a random place.

    Its side is ``int(sqrt(count))``, so the draw holds somewhat fewer than ``count`` (484 for 495). The duration comes
    first, then a start that leaves room for it. Where the square is too large (its side is above half the length, or
    above the longest duration) it begins at 0 and only its valid cells count, the same number in every draw.
    """
    side = math.isqrt(count)
    duration = _draw(min(length - 2 * side, longest - side), generator)
    start = _draw(length - 2 * side - duration, generator)
    cells = _numbers(length, longest)[duration : duration + side, start : start + side].flatten()
    return cells[cells >= 0]


def _farthest(grid: Tensor, count: int, generators: Sequence[torch.Generator]) -> list[Tensor]:
    """Return farthest-point draws in the (start, end) plane, each from a random first proposal."""
    first = torch.tensor([_draw(len(grid) - 1, generator) for generator in generators])
    return list(farthest_points(grid.expand(len(generators), -1, -1), count, first))


def _label_guided(grid: Tensor, count: int, segments: Tensor, generator: torch.Generator) -> Tensor:
    """Return a draw balanced over how well proposals match the true segments (our definition; none was published).

    A third of the draw comes from each band of best tIoU with any true segment: above 0.7, 0.3-0.7 and at most 0.3
    (which also takes the remainder). What a band lacks, the next lower one supplies; what the lowest lacks, the higher
    ones. Without true segments every proposal is in the lowest band.
    """
    order = torch.randperm(len(grid), generator=generator)
    high, low = TIOU_BANDS
    best = torch.zeros(len(grid))
    if len(segments):
        best = tiou_matrix(grid, segments.detach().to("cpu", grid.dtype)).amax(-1)[order]
    bands = (order[best > high], order[(best <= high) & (best > low)], order[best <= low])
    third = count // 3
    taken, spare, missing = [], [], 0
    for band, share in zip(bands, (third, third, count - 2 * third), strict=True):
        wanted = share + missing
        taken.append(band[:wanted])
        spare.append(band[wanted:])
        missing = wanted - len(taken[-1])
    return torch.cat((*taken, torch.cat(spare[::-1])[:missing]))


@functools.lru_cache(maxsize=1)
def _proposal_dpp(length: int, longest: int) -> KDpp:
    """Return the k-DPP whose kernel is the tIoU of proposals; it does not depend on the video, hence the cache.

    tIoU is a Jaccard index, and the Jaccard matrix of distinct sets is positive definite (Bouchard, Jousselme and Doré,
    "A proof for the positive definiteness of the Jaccard index matrix", 2013). Playing a video backwards swaps
    proposals and keeps every tIoU, which halves the problem.

    For the 8,256 proposals of 128 positions, measured on one core of a cloud server: 41 s and 2.3 GB once in a process,
    of which 0.55 GB stay; then 0.25 s for a draw of 495.
    """
    starts, durations = _positions(length, longest)
    mirror = _numbers(length, longest)[durations - 1, length - starts - durations]
    proposals = dense_grid(length, longest).double()
    return KDpp(tiou_matrix(proposals, proposals), mirror)


def _longest(length: int, max_duration: int | None) -> int:
    return length if max_duration is None else min(max_duration, length)


def _positions(length: int, longest: int) -> tuple[Tensor, Tensor]:
    """Return start and duration ``[K]`` int64 of every proposal in positions, in grid order."""
    durations, starts = torch.meshgrid(torch.arange(1, longest + 1), torch.arange(length), indexing="ij")
    valid = starts + durations <= length
    return starts[valid], durations[valid]


def _numbers(length: int, longest: int) -> Tensor:
    """Return ``[longest, length]`` int64: the proposal's number by (duration - 1, start), -1 where there is none."""
    starts, durations = _positions(length, longest)
    table = torch.full((longest, length), -1)
    table[durations - 1, starts] = torch.arange(len(starts))
    return table


def _draw(highest: int, generator: torch.Generator) -> int:
    """Return a random number in 0..``highest``; 0 where ``highest`` is negative."""
    return int(torch.randint(max(highest, 0) + 1, (), generator=generator))


def _shuffled(draw: Tensor, generator: torch.Generator) -> Tensor:
    return draw[torch.randperm(len(draw), generator=generator)]


def proposal_count(config: Config) -> int:
    """Return how many proposals per video a training step draws."""
    grid = dense_grid(config.data.length, config.model.detector.max_duration)
    # grid and block round the number their own way, and are cheap to ask; the others draw as many as random does.
    name = config.step.proposal_sampler if config.step.proposal_sampler in ("grid", "block") else "random"
    generator = [torch.Generator()]
    return sample_proposals(grid, config.data.length, name, config.step.proposal_ratio, generator).shape[-1]
