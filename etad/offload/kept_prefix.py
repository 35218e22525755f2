"""Output of an encoder's frozen stages, kept from the encode phase until the backward pass needs it again."""

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from etad.offload.placement import Placement


class KeptPrefix:
    """What the frozen stages made of the snippets that the backward pass will take.

    The drawn snippets lie anywhere among those encoded: each one's output goes into a place of its own.

    Args:
        wanted: numbers of the snippets, int64 ``[B, n]`` on the CPU, distinct in each row.
        placement: moves what is kept.
        on_host: keep it in host memory instead of on the device.
        drawn: the draw, if that is what is wanted.

    Attributes:
        drawn: as given; None where the draw comes later, and so every snippet is kept.
    """

    def __init__(self, wanted: Tensor, placement: Placement, on_host: bool, drawn: Tensor | None = None) -> None:
        self.drawn = drawn
        self._places = {snippet: place for place, snippet in enumerate(_pairs(wanted))}
        self._placement, self._on_host = placement, on_host
        self._kept: Tensor | None = None

    @classmethod
    def of_drawn(cls, drawn: Tensor, placement: Placement, on_host: bool) -> Self:
        """Return one for snippets that are drawn already."""
        return cls(drawn, placement, on_host, drawn)

    @classmethod
    def of_every_snippet(cls, videos: int, snippets: int, placement: Placement, on_host: bool) -> Self:
        """Return one for a draw that the features decide on."""
        return cls(torch.arange(snippets).expand(videos, -1), placement, on_host)

    def keep(self, snippets: range, output: Tensor) -> None:
        """Keep what is wanted of ``output``, ``[B * n, ...]``: that of n snippets of every video, in order."""
        if self._kept is None:
            make = self._placement.empty_on_host if self._on_host else self._placement.empty_on_device
            self._kept = make(output, len(self._places))
        videos = len(output) // len(snippets)
        for row, snippet in enumerate((video, number) for video in range(videos) for number in snippets):
            place = self._places.get(snippet)
            if place is not None:
                self._kept[place].copy_(output[row], non_blocking=True)

    def take(self, drawn: Tensor) -> Tensor:
        """Return the output for the snippets ``drawn``, int64 ``[B, n]`` on the CPU, as ``[B * n, ...]``."""
        assert self._kept is not None
        return self._placement.gather(self._kept, (self._places[snippet] for snippet in _pairs(drawn)))


def _pairs(numbers: Tensor) -> Iterator[tuple[int, int]]:
    """Yield (video, snippet), video by video."""
    for video, row in enumerate(numbers.numpy()):
        for number in row:
            yield video, int(number)
