"""A small experiment, and its traces: each is made once and serves all tests."""

import functools
from typing import Any, Literal

from bench.predict.device_rules import Rules, cpu, cuda
from bench.predict.recorder import Trace
from bench.predict.trace import trace_training
from etad.config import Config, parse_config
from tests.etad.small_runs import SMALL_DETECTOR

VIDEOS = 2
RULES: dict[str, Rules] = {"cpu": cpu(), "cuda": cuda(torch_release=(2, 15))}


def small(encoder: dict[str, Any] | None = None, snippets: int = 8, **step: Any) -> Config:
    """A small experiment from frames: snippets of 4 frames of 48 pixels, and a cascade of two stages."""
    frames = {"clip_frames": 4, "crop": 48, "resize_height": 48, "resize_width": 48}
    return parse_config(
        {
            "name": "small",
            "data": {"input": "frames", "length": snippets, "frames": frames},
            "model": {
                "encoder": {"name": "tiny", "frozen_stages": 0, **(encoder or {})},
                "detector": {**SMALL_DETECTOR, "stage_tiou": [0.7, 0.8]},
            },
            "step": {"chunk": 2, "snippet_ratio": 0.8, "proposal_ratio": 0.5, **step},
            "train": {"batch": VIDEOS},
        },
        source="test",
    )


def traced(config: Config, device: Literal["cpu", "cuda"] = "cuda", shortcut: bool = True) -> Trace:
    """Return the trace of a training step with two classes."""
    return _traced(config.model_dump_json(), device, shortcut)


@functools.cache
def _traced(config: str, device: str, shortcut: bool) -> Trace:
    return trace_training(Config.model_validate_json(config), classes=2, rules=RULES[device], shortcut=shortcut)
