"""Subsets whose members differ from each other: farthest points and determinantal point processes.

A k-DPP draws a subset S of k items with probability proportional to det(kernel[S, S]): the more alike two items are,
the less likely they appear together. Sampling is exact (Kulesza and Taskar, "k-DPPs: Fixed-Size Determinantal Point
Processes", ICML 2011); its second half draws by rejection (Barthelmé, Tremblay and Amblard, "A Faster Sampler for
Discrete Determinantal Point Processes", AISTATS 2023). Everything here runs on the CPU.
"""

import math

import torch
from torch import Tensor

SMALLEST_EIGENVALUE = 1e-12
"""Ridge, as a part of the largest eigenvalue: below it an eigenvalue is rounding noise. It lets a kernel whose rank is
smaller than the subset fill up with items that add nothing, instead of failing."""


def farthest_points(points: Tensor, count: int, first: Tensor) -> Tensor:
    """Pick, again and again, the point farthest (Euclidean) from all picked so far; ties go to the lowest number.

    Args:
        points: ``[B, n, d]`` floating, finite.
        count: points to pick, 1..n.
        first: ``[B]`` int64, the first pick of each batch member.

    Returns:
        ``[B, count]`` int64, distinct, in the order they were picked.
    """
    rows = torch.arange(points.shape[0])
    picked = torch.empty(points.shape[0], count, dtype=torch.int64)
    distance = torch.full(points.shape[:2], math.inf, dtype=points.dtype)
    latest = first
    for step in range(count):
        picked[:, step] = latest
        distance = torch.minimum(distance, (points - points[rows, latest].unsqueeze(1)).square().sum(-1))
        # Below every distance, for good: a picked point cannot return even where all points coincide.
        distance[rows, latest] = -1
        latest = distance.argmax(-1)
    return picked


class KDpp:
    """Fixed-size determinantal point process over the n items of one kernel.

    Building it costs an eigendecomposition: time n³, and 8 n² bytes that stay (four times that on the way). A draw of
    k items costs time n k + k³ log k. Draws repeat exactly where the linear algebra library does.
    """

    def __init__(self, kernel: Tensor, mirror: Tensor | None = None) -> None:
        """Decompose a kernel.

        Args:
            kernel: ``[n, n]`` symmetric positive semidefinite, finite.
            mirror: ``[n]`` int64, a permutation that is its own inverse and leaves the kernel as it is
                (``kernel[mirror][:, mirror] == kernel``). Knowing one makes the decomposition four times as fast.
        """
        kernel = kernel.double()
        values, self._vectors = _eigenvectors(kernel) if mirror is None else _mirrored_eigenvectors(kernel, mirror)
        # Only ratios of eigenvalues matter, for the size of the subset is fixed.
        largest = values.max().clamp(min=torch.finfo(values.dtype).tiny)
        self._log_values = (values / largest).clamp(min=SMALLEST_EIGENVALUE).log()
        self._inclusion: Tensor = torch.empty(0, 0)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw a subset.

        Args:
            count: its size k, 0..n.
            generator: CPU generator, the only source of chance.

        Returns:
            ``[count]`` int64, distinct.

        Raises:
            ValueError: ``count`` is not in 0..n.
        """
        items = len(self._log_values)
        if not 0 <= count <= items:
            raise ValueError(f"cannot draw {count} of {items} items")
        if count in (0, items):
            return torch.arange(count)
        return _sample_projection(self._vectors[self._sample_vectors(count, generator)], generator)

    def _sample_vectors(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the eigenvectors of the elementary DPP (Kulesza and Taskar, algorithm 2): ``[count]`` int64."""
        if self._inclusion.shape[1] != count + 1:
            self._inclusion = _inclusion_probability(self._log_values, count)
        inclusion = self._inclusion.numpy()
        chance = torch.rand(len(inclusion), generator=generator, dtype=torch.float64).tolist()
        chosen: list[int] = []
        for number in reversed(range(len(inclusion))):
            if chance[number] < inclusion[number, count - len(chosen)]:
                chosen.append(number)
                if len(chosen) == count:
                    break
        return torch.tensor(chosen)


def _eigenvectors(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues ``[n]`` of a symmetric matrix, and its eigenvectors as ROWS ``[n, n]``."""
    values, vectors = torch.linalg.eigh(kernel)
    return values, vectors.mT.contiguous()


def _mirrored_eigenvectors(kernel: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
    """As ``_eigenvectors``, through two problems of half the size.

    A kernel that a mirror leaves as it is has eigenvectors that are even (the same on both items of a mirrored pair) or
    odd (opposite on them, zero on items that are their own mirror image).
    """
    items = torch.arange(len(mirror))
    left, middle = items[items < mirror], items[items == mirror]
    right, pairs = mirror[left], int((items < mirror).sum())
    same, across = kernel[left][:, left], kernel[left][:, right]
    to_middle = math.sqrt(2) * kernel[left][:, middle]
    even_block = torch.cat(
        (torch.cat((same + across, to_middle), dim=1), torch.cat((to_middle.mT, kernel[middle][:, middle]), dim=1))
    )
    even_values, even = _eigenvectors(even_block)
    odd_values, odd = _eigenvectors(same - across)

    vectors = torch.zeros_like(kernel)
    evens, odds = vectors[: len(even)], vectors[len(even) :]
    evens[:, left] = evens[:, right] = even[:, :pairs] / math.sqrt(2)
    evens[:, middle] = even[:, pairs:]
    odds[:, left] = odd / math.sqrt(2)
    odds[:, right] = -odd / math.sqrt(2)
    return torch.cat((even_values, odd_values)), vectors


def _inclusion_probability(log_values: Tensor, count: int) -> Tensor:
    """Return ``[n, count + 1]``: the chance that eigenvector m is in, when l are to be chosen among the first m + 1.

    That is value[m] e(l-1, m) / e(l, m+1), where e(l, m) is the l-th elementary symmetric polynomial of the first m
    eigenvalues. The polynomials span hundreds of orders of magnitude, hence the logarithms. States that cannot occur
    (l > m + 1) hold NaN, and no chance is below that.
    """
    inclusion = torch.zeros(len(log_values), count + 1, dtype=log_values.dtype)
    log_sums = torch.full((count + 1,), -math.inf, dtype=log_values.dtype)
    log_sums[0] = 0
    for number, log_value in enumerate(log_values):
        with_it = log_value + log_sums[:-1]
        log_sums[1:] = torch.logaddexp(log_sums[1:], with_it)
        inclusion[number, 1:] = (with_it - log_sums[1:]).exp()
    return inclusion


def _sample_projection(vectors: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from the DPP whose kernel projects onto ``vectors`` ``[k, n]`` (orthonormal rows): ``[k]`` int64.

    Item by item, each with probability proportional to the squared distance of its column from the span of the columns
    chosen so far. An item is proposed by its whole squared length, which never changes, and accepted with the part of
    that which lies outside the span: on average k / (items still to choose) proposals for one item.
    """
    count = len(vectors)
    columns = vectors.mT.contiguous()
    lengths = columns.square().sum(-1)
    cumulative = lengths.cumsum(0)
    span = torch.zeros(count, count, dtype=vectors.dtype)  # row t: direction that the t-th chosen item added
    chosen: list[int] = []
    while len(chosen) < count:
        proposals = math.ceil(count / (count - len(chosen)))
        where, accept = torch.rand(2, proposals, generator=generator, dtype=vectors.dtype)
        candidates = torch.searchsorted(cumulative, where * cumulative[-1], right=True).clamp(max=len(columns) - 1)
        basis = span[: len(chosen)]
        outside = columns[candidates] - columns[candidates] @ basis.mT @ basis
        accepted = (accept * lengths[candidates] < outside.square().sum(-1)).nonzero().flatten().tolist()
        for number in accepted[:1]:  # proposals after the first accepted one were made for a span that is out of date
            item = int(candidates[number])
            if item in chosen:  # rounding can leave a chosen item a length of 1e-32 outside
                continue
            direction = outside[number] - outside[number] @ basis.mT @ basis  # twice is enough (Kahan)
            span[len(chosen)] = direction / direction.norm()
            chosen.append(item)
    return torch.tensor(chosen)
