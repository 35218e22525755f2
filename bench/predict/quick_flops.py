"""Floating-point operations of a training step, for one video: an order of settings by arithmetic, not a time.

Counted by the counter of step_costs.py on fake tensors (2 for a multiply-add, forward and backward), one snippet and
one video's detection at a time, and multiplied by how often a step runs them: seconds where the count of the whole step
takes a minute. Neither batch nor precision changes the number. It leaves out the snippet classifier, and says nothing
of memory traffic, launches or decoding.
"""

from dataclasses import dataclass
from functools import cache

import torch

from bench.predict.made_up import Building
from bench.predict.step_costs import Cost, CostCounter
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
    trains_encoder = backpropagate > 0
    _, detect = detection_flop(
        channels, config.data.length, config.model.detector, proposal_count(config), trains_encoder
    )
    return Arithmetic(encode, detect, backpropagate)


@cache
def snippet_flop(encoder: EncoderConfig, frames: FramesConfig) -> tuple[int, int, int]:
    """Return, for one snippet: channels of its feature, FLOP without gradient, and FLOP of forward and backward."""
    with fake_mode():
        with Building():
            network = SnippetEncoder(encoder, frames)
        clips = torch.empty(1, 3, frames.clip_frames, frames.crop, frames.crop, dtype=torch.uint8)
        with CostCounter() as forward, torch.no_grad():
            network(clips)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            return network.channels, _counted(forward), 0
        with CostCounter() as both:
            network(clips).sum().backward()
    return network.channels, _counted(forward), _counted(both)


@cache
def detection_flop(
    channels: int, length: int, config: DetectorConfig, proposals: int, trains_encoder: bool
) -> tuple[int, int]:
    """Return, for one video, the FLOP of the detector without gradient, and of its forward and backward pass.

    Args:
        channels: width of the features.
        length: positions.
        config: the detector's sizes.
        proposals: that it judges.
        trains_encoder: whether the features get a gradient.
    """
    with fake_mode():
        detector = Detector(channels, config)
        features = torch.empty(1, channels, length, requires_grad=trains_encoder)
        segments = torch.empty(1, proposals, 2)
        with CostCounter() as forward, torch.no_grad():
            detector(features, segments)
        with CostCounter() as both:
            output = detector(features, segments)
            trained = [output.boundary_maps]
            for stage in output.stages:
                trained += [stage.tiou, stage.start_end, stage.centre_width, stage.boundary]
            torch.stack([tensor.sum() for tensor in trained]).sum().backward()
    return _counted(forward), _counted(both)


def _counted(counter: CostCounter) -> int:
    return sum(counter.costs.values(), Cost()).total_flops
