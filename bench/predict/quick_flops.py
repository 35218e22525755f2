"""Floating-point operations of a training step, for one video: an order of settings by arithmetic, not a time.

Counted by torch's FlopCounterMode on fake tensors (2 for a multiply-add, forward and backward; convolutions and
matrix products only), one snippet and one video's detection at a time, and multiplied by how often a step runs them.
Neither batch nor precision changes the number. It says nothing of memory traffic, launches or decoding.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.predict.made_up import Building
from bench.torch_internals.fake_mode import fake_mode
from etad.config import Config, DetectorConfig, EncoderConfig, FramesConfig
from etad.models.detector import Detector
from etad.models.encoders import SnippetEncoder
from etad.sampling.proposals import proposal_count
from etad.sampling.snippets import snippet_count


@dataclass(frozen=True)
class Arithmetic:
    """FLOP for one video, by what they are for."""

    encode: int
    detect: int
    backpropagate: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.encode + self.detect + self.backpropagate


def arithmetic_per_video(config: Config) -> Arithmetic:
    """Count a training step.

    For ``checkpointed`` with an encoder that recomputes its stages, too, the number is an upper bound: what was
    recomputed for the whole is partly used for the stages.
    """
    channels, encode, backpropagate = config.data.channels, 0, 0
    if config.data.input == "frames":
        channels, forward, both = snippet_flop(config.model.encoder, config.data.frames)
        snippets, step = config.data.length, config.step
        encode = snippets * forward
        if step.strategy in ("sequential", "joint"):
            # The drawn snippets are encoded once more, with a graph.
            backpropagate = snippet_count(snippets, step.snippet_ratio, step.chunk) * both
        elif step.strategy == "checkpointed":
            # Every snippet is encoded once more, in the backward pass.
            backpropagate = snippets * both
    detect = detection_flop(channels, config.data.length, config.model.detector, proposal_count(config))
    return Arithmetic(encode, detect, backpropagate)


@cache
def snippet_flop(encoder: EncoderConfig, frames: FramesConfig) -> tuple[int, int, int]:
    """Return, for one snippet: channels of its feature, FLOP without gradient, and FLOP of forward and backward."""
    with fake_mode():
        with Building():
            network = SnippetEncoder(encoder, frames)
        clips = torch.empty(1, 3, frames.clip_frames, frames.crop, frames.crop, dtype=torch.uint8)
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            network(clips)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            return network.channels, forward.get_total_flops(), 0
        with FlopCounterMode(display=False) as both:
            network(clips).sum().backward()
    return network.channels, forward.get_total_flops(), both.get_total_flops()


@cache
def detection_flop(channels: int, length: int, config: DetectorConfig, proposals: int) -> int:
    """Return the FLOP of the detector's forward and backward pass for one video; without the snippet classifier."""
    with fake_mode():
        detector = Detector(channels, config)
        features, segments = torch.empty(1, channels, length, requires_grad=True), torch.empty(1, proposals, 2)
        with FlopCounterMode(display=False) as counter:
            output = detector(features, segments)
            trained = [output.boundary_maps]
            for stage in output.stages:
                trained += [stage.tiou, stage.start_end, stage.centre_width, stage.boundary]
            torch.stack([tensor.sum() for tensor in trained]).sum().backward()
    return counter.get_total_flops()
