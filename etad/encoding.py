"""The snippet encoder's two passes, in the form that ``efficiency`` asks for.

The first pass gives the features of all snippets, without gradient: training and inference do it alike
(:class:`Encoding`). The second, in training alone, encodes drawn snippets again and sends d loss / d feature through
them (:class:`TrainedEncoding`). Both go chunk by chunk, so that the memory is that of one chunk.

    efficiency.frames_on         frames wait on the host; chunks of them are moved (offload/placement.py)
    efficiency.frozen_prefix     the frozen stages run once, and their output is kept (offload/kept_prefix.py)
    efficiency.encoder_gradient  where the gradients of the chunks are summed (offload/gradients.py)
    efficiency.cuda_graphs       the first pass is a CUDA graph (models/compiled.py)
    efficiency.compile           both passes are compiled (models/compiled.py)
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from etad.config import Config
from etad.distributed import synchronised
from etad.models.compiled import GraphedForward, compile_module
from etad.models.encoders import Part
from etad.models.etad import Etad
from etad.offload.gradients import GradientSums
from etad.offload.kept_prefix import KeptPrefix
from etad.offload.placement import Placement
from etad.precision import autocast
from etad.sampling.snippets import DRAWN_BY_FEATURES

Draw = Callable[[Tensor, Tensor], Tensor]
"""Gives the drawn snippets, int64 ``[B, n]`` on the CPU, for features and gradient ``[B, C, N]``."""


class Encoding:
    """The pass without gradient: frames in, features out. Where the input is features, they come out as they are.

    Args:
        model: the network, on its device. Its encoder is compiled in place, if that is wanted.
        config: the experiment.
        placement: moves frames to the device; None: the real one.

    Attributes:
        encoder: None where the input is features.
        frames_on_host: whether frames wait on the host, and are moved here.
    """

    def __init__(self, model: Etad, config: Config, placement: Placement | None = None) -> None:
        efficiency = config.efficiency
        self.encoder = model.feature_extractor
        self.frames_on_host = efficiency.frames_on == "host" and self.encoder is not None
        self._device = next(model.parameters()).device
        self._placement = placement or Placement(self._device)
        self._precision, self._chunk = config.step.precision, config.step.chunk
        self._encode: Callable[..., Tensor] | None = self.encoder
        if self.encoder is not None and efficiency.compile:
            compile_module(self.encoder)
        if self.encoder is not None and efficiency.cuda_graphs and self._device.type == "cuda":
            self._encode = GraphedForward(self.encoder)

    def features(self, frames: Tensor, prefix: KeptPrefix | None = None) -> Tensor:
        """Encode every snippet of a batch, without gradient.

        Args:
            frames: uint8 ``[B, N, 3, T, H, W]``, on the host or the device.
            prefix: gets what the frozen stages make of the snippets; None: it is not kept.

        Returns:
            float32 ``[B, C, N]``.
        """
        encode, parts = self._encode, []
        if encode is None:
            return frames
        with autocast(self._device, self._precision), torch.no_grad():
            for start in range(0, frames.shape[1], self._chunk):
                clips = self._placement.clips(frames, slice(start, start + self._chunk))  # [B, n, 3, T, H, W]
                if prefix is None:
                    parts.append(_encode_chunk(encode, clips))  # [B, C, n]
                else:
                    output = encode(clips.flatten(0, 1), Part.FROZEN)  # [B * n, ...]
                    prefix.keep(range(start, start + clips.shape[1]), output)
                    parts.append(_by_video(encode(output, Part.TRAINED), len(frames)))  # [B, C, n]
            return torch.cat(parts, dim=2)


class TrainedEncoding(Encoding):
    """Adds the pass with gradient.

    Args:
        model: as :class:`Encoding`.
        config: the experiment.
        placement: moves frames, kept outputs and gradients; None: the real one.
        world: number of processes; above 1 the encoder's gradients are averaged over them.
        draws_late: whether snippets are drawn by features or gradient, so that a kept prefix has to hold all of them;
            None: as the configured sampler does.

    Attributes:
        is_trained: whether a gradient reaches the encoder.
        gradient_sums: where the gradient is, if not in ``grad`` of the parameters.
    """

    def __init__(
        self,
        model: Etad,
        config: Config,
        placement: Placement | None = None,
        world: int = 1,
        draws_late: bool | None = None,
    ) -> None:
        super().__init__(model, config, placement)
        step, efficiency = config.step, config.efficiency
        trainable = [] if self.encoder is None else [p for p in self.encoder.parameters() if p.requires_grad]
        self.is_trained = bool(trainable) and step.strategy != "frozen"
        self._draws_late = step.snippet_sampler in DRAWN_BY_FEATURES if draws_late is None else draws_late
        self._prefix_on = efficiency.frozen_prefix
        if not (self.is_trained and _runs_frozen_stages_twice(config)):
            self._prefix_on = "recomputed"
        self.gradient_sums: GradientSums | None = None
        self._synchronised: nn.Module | None = self.encoder
        if self.is_trained and efficiency.encoder_gradient != "fp32":
            self.gradient_sums = GradientSums(trainable, efficiency.encoder_gradient, self._placement)
        elif self.is_trained and self.encoder is not None and world > 1:
            self._synchronised = synchronised(self.encoder)

    def plan(self, frames: Tensor, count: int, draw: Draw) -> KeptPrefix | None:
        """Return where the frozen stages' output is to be kept, with the draw if that can be made now; or None.

        Args:
            frames: the batch ``[B, N, ...]``.
            count: snippets per video that will be drawn.
            draw: draws them.
        """
        if self._prefix_on == "recomputed" or not count:
            return None
        on_host = self._prefix_on == "offloaded"
        videos, snippets = frames.shape[:2]
        if self._draws_late:
            return KeptPrefix.of_every_snippet(videos, snippets, self._placement, on_host)
        nothing = torch.empty(videos, 0, snippets)  # the draw reads neither features nor gradient
        return KeptPrefix.of_drawn(draw(nothing, nothing), self._placement, on_host)

    def recomputable_features(self, frames: Tensor) -> Tensor:
        """Encode every snippet, with a graph that stores no activations and computes each chunk again.

        Args:
            frames: uint8 ``[B, N, 3, T, H, W]``, on the host or the device.

        Returns:
            float32 ``[B, C, N]``.
        """
        encoder, parts = self._synchronised, []
        assert encoder is not None
        with autocast(self._device, self._precision):
            for start in range(0, frames.shape[1], self._chunk):
                clips = self._placement.clips(frames, slice(start, start + self._chunk))  # [B, n, 3, T, H, W]
                parts.append(checkpoint(_encode_chunk, encoder, clips, use_reentrant=False))  # [B, C, n]
            return torch.cat(parts, dim=2)

    def backpropagate(
        self,
        frames: Tensor,
        gradient: Tensor,
        drawn: Tensor,
        chunk: int,
        prefix: KeptPrefix | None = None,
    ) -> None:
        """Encode the drawn snippets again, and add the gradient that reaches the encoder's parameters.

        Args:
            frames: uint8 ``[B, N, 3, T, H, W]``, on the host or the device.
            gradient: d loss / d feature ``[B, C, N]``.
            drawn: numbers of the drawn snippets, int64 ``[B, n]`` on the CPU.
            chunk: snippets per video in one backward pass.
            prefix: what the frozen stages made of them, where that was kept.
        """
        encoder, count = self._synchronised, drawn.shape[1]
        assert encoder is not None
        rows = torch.arange(len(frames), device=gradient.device)[:, None]  # [B, 1]
        for start in range(0, count, chunk):
            index = drawn[:, start : start + chunk]  # [B, n]
            # Summed over processes once, with the last chunk.
            with _unsynchronised(encoder) if start + chunk < count else nullcontext():
                with autocast(self._device, self._precision):
                    if prefix is None:
                        features = _encode_chunk(encoder, self._placement.clips(frames, index))  # [B, C, n]
                    else:
                        features = _by_video(encoder(prefix.take(index), Part.TRAINED), len(frames))  # [B, C, n]
                # Not named, so that it does not outlive the pass: [B, N, C] -> [B, n, C] -> [B, C, n]
                features.backward(gradient.transpose(1, 2)[rows, index.to(gradient.device)].transpose(1, 2))


def _runs_frozen_stages_twice(config: Config) -> bool:
    """Tell whether an experiment's step runs frozen stages twice, so that keeping their output saves work."""
    encoder, step = config.model.encoder, config.step
    return encoder.frozen_stages > 0 and step.strategy in ("sequential", "joint") and step.snippet_ratio > 0


def _encode_chunk(encode: Callable[..., Tensor], clips: Tensor) -> Tensor:
    """Encode snippets ``[B, n, 3, T, H, W]`` in one call; return float32 ``[B, C, n]``."""
    return _by_video(encode(clips.flatten(0, 1)), len(clips))


def _by_video(features: Tensor, videos: int) -> Tensor:
    """Turn features ``[B * n, C]`` into float32 ``[B, C, n]``."""
    return features.float().unflatten(0, (videos, -1)).transpose(1, 2)


def _unsynchronised(encoder: nn.Module) -> AbstractContextManager[object]:
    """Hold back the averaging of gradients over processes."""
    return encoder.no_sync() if isinstance(encoder, DistributedDataParallel) else nullcontext()
