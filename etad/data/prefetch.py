"""Batches on the device one step ahead: the next one is copied, and augmented, while the present one is trained on."""

from collections.abc import Iterable, Iterator

import torch

from etad.data.batch import Batch


def ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches on a CUDA ``device``, each sent off before the one in front of it is handed out.

    Copies overlap with the step where the batch is pinned. One batch more than without lies on the device.
    """
    side = torch.cuda.Stream(device)
    waiting: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(side):
            sent = batch.to(device)
        if waiting is not None:
            yield _arrived(waiting, side, device)
        waiting = sent
    if waiting is not None:
        yield _arrived(waiting, side, device)


def _arrived(batch: Batch, side: torch.cuda.Stream, device: torch.device) -> Batch:
    """Make the training stream wait for the copy, and keep the memory until that stream has done with it."""
    current = torch.cuda.current_stream(device)
    current.wait_stream(side)
    for tensor in (batch.input_, *batch.segments, *batch.labels):
        tensor.record_stream(current)
    return batch
