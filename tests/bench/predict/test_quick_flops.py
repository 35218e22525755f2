"""The count of single parts, multiplied, is the count of the whole step."""

from typing import get_args

import pytest

from bench.predict.quick_flops import arithmetic_per_video, detection_flop
from bench.predict.step_costs import Cost, count
from etad.config import Config, EncoderName, load_config

SMALL = (
    "data.length=4",
    "train.batch=1",
    "step.chunk=2",
    "data.frames.clip_frames=8",
    "data.frames.crop=32",
    "data.frames.resize_height=32",
    "data.frames.resize_width=32",
    "model.encoder.weights=null",
    "model.encoder.frozen_stages=1",
)


def small(*changes: str, name: str = "anet_e2e") -> Config:
    return load_config(name, [*SMALL, *changes])


@pytest.mark.parametrize("name", get_args(EncoderName))
def test_both_counters_agree_on_every_encoder(name: str) -> None:
    config = small(f"model.encoder.name={name}")
    assert arithmetic_per_video(config).total == sum(count(config).values(), Cost()).total_flops


@pytest.mark.parametrize("strategy", ["sequential", "joint", "checkpointed", "frozen"])
def test_both_counters_agree_on_every_strategy(strategy: str) -> None:
    config = small("model.encoder.name=tiny", f"step.strategy={strategy}")
    phases = count(config)
    found = arithmetic_per_video(config)
    assert found.total == sum(phases.values(), Cost()).total_flops
    if strategy == "sequential":
        assert found.encode == phases["encode"].total_flops
        assert found.detect == phases["detect"].total_flops
        assert found.backpropagate == phases["backpropagate"].total_flops


def test_both_counters_agree_on_features() -> None:
    config = small(name="anet_features")
    assert arithmetic_per_video(config).total == sum(count(config).values(), Cost()).total_flops


def test_a_detection_has_a_forward_and_a_backward_pass() -> None:
    config = small()
    forward, both = detection_flop(16, 32, config.model.detector, 20, trains_encoder=True)
    # Every product has two in the backward pass.
    assert both == 3 * forward
    assert detection_flop(16, 32, config.model.detector, 20, trains_encoder=False)[1] < both
