"""Batches without a data set: of fake tensors, of random values, and where a step finds them."""

import torch

from etad.config import Config
from etad.data.batch import Batch

ACTIONS_PER_VIDEO = 2
"""ActivityNet has 1.5 on average; each takes some bytes."""
CLASSES = 200
"""Classes of the data set, as in a prediction."""


def fake_batch(config: Config) -> Batch:
    """Return a batch of the configured size; call it under the modes."""
    videos, data = config.train.batch, config.data
    frames = data.frames
    if data.input == "frames":
        shape = (videos, data.length, 3, frames.clip_frames, frames.crop, frames.crop)
        input_ = torch.empty(shape, dtype=torch.uint8)
    else:
        input_ = torch.empty(videos, data.channels, data.length)
    return Batch(
        video_ids=("",) * videos,
        indices=tuple(range(videos)),
        starts_s=(0.0,) * videos,
        durations_s=(1.0,) * videos,
        input_=input_,
        segments=tuple(torch.zeros(ACTIONS_PER_VIDEO, 2) for _ in range(videos)),
        labels=tuple(torch.zeros(ACTIONS_PER_VIDEO, dtype=torch.int64) for _ in range(videos)),
    )


def random_batch(config: Config) -> Batch:
    """Return a batch of the configured size, with two actions in every video."""
    batch = fake_batch(config)
    if batch.input_.dtype == torch.uint8:
        batch.input_.random_(0, 256)
    else:
        batch.input_.normal_()
    for segments in batch.segments:
        segments.copy_(torch.linspace(0.1, 0.9, segments.numel()).view_as(segments))
    return batch


def placed(batch: Batch, config: Config, device: torch.device) -> Batch:
    """Return a batch where a step finds it: on the device, or in (pinned) host memory if the frames stay there."""
    if config.efficiency.frames_on == "device":
        return batch.to(device)
    return batch.pin_memory() if device.type == "cuda" else batch
