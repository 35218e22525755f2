"""Which memory a tensor lies in: the device's, or the host's.

Whatever leaves the device to save its memory, or comes back, goes through a ``Placement``. A prediction of memory puts
its own in the place of the real one, to know what lies where.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class Placement:
    """Moves tensors between the host and one device. On a CPU, where both are one, nothing moves.

    Copies between pinned host memory and a GPU are issued, not awaited: later work on the device comes after them.
    Before the host itself reads what came from the device, ``wait`` has to be called.

    Args:
        device: where the network lies.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def empty_on_host(self, like: Tensor, rows: int | None = None) -> Tensor:
        """Return uninitialised host memory, pinned for a GPU.

        Args:
            like: a dense tensor of the type, shape and strides that are wanted.
            rows: size of the first dimension, if another one is wanted.
        """
        return _empty(like, rows, torch.device("cpu"), pinned=self.device.type == "cuda")

    def empty_on_device(self, like: Tensor, rows: int | None = None) -> Tensor:
        """Return uninitialised memory on the device, likewise."""
        return _empty(like, rows, self.device, pinned=False)

    def to_host(self, tensor: Tensor) -> Tensor:
        """Return the tensor in host memory; itself, where that is where it lies."""
        if self.device.type == "cpu":
            return tensor
        host = self.empty_on_host(tensor)
        host.copy_(tensor)
        return host

    def to_device(self, tensor: Tensor) -> Tensor:
        """Return the tensor on the device; itself, where that is where it lies."""
        return tensor.to(self.device, non_blocking=True)

    def gather(self, source: Tensor, rows: Iterable[int]) -> Tensor:
        """Return the given rows of a tensor, which may lie in either memory, as a new one on the device."""
        rows = list(rows)
        gathered = self.empty_on_device(source, len(rows))
        for place, row in zip(gathered, rows, strict=True):
            place.copy_(source[row], non_blocking=True)
        return gathered

    def clips(self, frames: Tensor, snippets: slice | Tensor) -> Tensor:
        """Return snippets of a batch of frames, which may lie in either memory, on the device.

        Args:
            frames: ``[B, N, ...]``.
            snippets: of every video those in a slice, or the numbers in int64 ``[B, n]`` on the CPU.

        Returns:
            ``[B, n, ...]``.
        """
        videos, count = frames.shape[:2]
        if not self.is_away(frames):
            if isinstance(snippets, slice):
                return frames[:, snippets]
            return frames[torch.arange(videos, device=self.device)[:, None], snippets.to(self.device)]
        wanted = [range(count)[snippets]] * videos if isinstance(snippets, slice) else snippets.numpy()
        # One by one, as only a snippet's own frames lie together, and only such can be copied without waiting.
        rows = (video * count + int(number) for video, numbers in enumerate(wanted) for number in numbers)
        return self.gather(frames.flatten(0, 1), rows).unflatten(0, (videos, -1))

    def is_away(self, tensor: Tensor) -> bool:
        """Tell whether a tensor lies on the host, and that is not where the device is."""
        return tensor.device.type != self.device.type

    def wait(self) -> None:
        """Wait until every copy is complete."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _empty(like: Tensor, rows: int | None, device: torch.device, pinned: bool) -> Tensor:
    shape, strides = tuple(like.shape), like.stride()
    if rows is not None:
        # Rows lie one behind the other, in whatever order the dimensions of each are.
        shape, strides = (rows, *shape[1:]), (like[0].numel(), *strides[1:])
    return torch.empty_strided(shape, strides, dtype=like.dtype, device=device, pin_memory=pinned)
