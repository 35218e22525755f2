"""Every encoder gives features, freezes by stage and recomputes without changing its result."""

from itertools import pairwise

import pytest
import torch

from etad.config import EncoderConfig, FramesConfig
from etad.models.encoders import SnippetEncoder

FRAMES = FramesConfig(clip_frames=16, crop=64)
CHANNELS = {
    "r2plus1d_34_tsp": 512,
    "r2plus1d_18": 512,
    "r3d_18": 512,
    "mc3_18": 512,
    "s3d": 1024,
    "mvit_v2_s": 768,
    "swin3d_t": 768,
    "tiny": 32,
}


def clips(count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 16, 64, 64), generator=generator, dtype=torch.uint8)


def build(name: str, **settings: object) -> SnippetEncoder:
    torch.manual_seed(0)
    return SnippetEncoder(EncoderConfig.model_validate({"name": name, **settings}), FRAMES)


@pytest.mark.parametrize("name", CHANNELS)
def test_features_repeat_exactly_in_training_mode(name: str) -> None:
    encoder = build(name).train()
    with torch.no_grad():
        first, second = encoder(clips()), encoder(clips())
    assert first.shape == (1, CHANNELS[name])
    assert encoder.channels == CHANNELS[name]
    assert torch.equal(first, second)
    assert torch.isfinite(first).all()


@pytest.mark.parametrize("name", CHANNELS)
def test_freezing_takes_the_stem_and_whole_stages(name: str) -> None:
    stages = 2 if name == "tiny" else 5
    free = [count_trainable(build(name, frozen_stages=frozen)) for frozen in range(stages)]
    assert all(fewer < more for more, fewer in pairwise(free))
    encoder = build(name, frozen_stages=1)
    encoder(clips()).sum().backward()
    for parameter in encoder.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad


def count_trainable(encoder: SnippetEncoder) -> int:
    return sum(p.numel() for p in encoder.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t", "tiny"])
def test_recomputation_gives_the_same_gradient(name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        encoder = build(name, frozen_stages=0, checkpointing=checkpointing).train()
        encoder(clips()).square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters()])
    for stored, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(stored, recomputed)


def test_norm_eval_decides_whether_statistics_move() -> None:
    for norm_eval in (True, False):
        encoder = build("r3d_18", norm_eval=norm_eval).train()
        before = encoder.model["backbone"].stem[1].running_mean.clone()
        encoder(clips(2))
        moved = not torch.equal(before, encoder.model["backbone"].stem[1].running_mean)
        assert moved != norm_eval
