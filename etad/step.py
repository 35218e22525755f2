"""One training step: sequentialised gradient sampling (etad-spec section 5).

    encode           features of all snippets, without gradient, chunk by chunk
    detect           detector forward and backward on those features; d loss / d feature is kept
    update_detector  optimizer step of the detector
    backpropagate    the kept gradient goes through a re-encoding of the drawn snippets
    update_encoder   optimizer step of the encoder

The strategies differ in the encoder's part only:

    sequential    drawn snippets, one backward per chunk: the memory of one chunk, whatever the ratio (published)
    joint         drawn snippets in one backward: memory grows with the ratio; ratio 1 is plain end-to-end training
    checkpointed  all snippets in one graph that stores no activations and recomputes each chunk
    frozen        none; the encoder is not trained

The gradient is exact for the snippets that it reaches, because the encoder repeats its features exactly (no dropout,
stored BatchNorm statistics). A step tells its listeners when a phase begins and ends; it measures nothing itself.

What ``efficiency`` changes here: where frames lie (placement.py), whether the frozen stages run again for the drawn
snippets (kept_prefix.py), where the encoder's gradient is summed (gradients.py), and what is compiled
(models/compiled.py).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from etad.config import Config, StepConfig
from etad.data.batch import Batch
from etad.losses import KEEP_DRAWS, Losses, Total, classifier_loss, detector_losses, make_targets
from etad.models.compiled import GraphedForward, compile_parts
from etad.models.encoders import Part
from etad.models.etad import Etad, by_video, encode_chunk, encode_snippets
from etad.offload.gradients import GradientSums
from etad.offload.kept_prefix import KeptPrefix
from etad.offload.placement import Placement
from etad.sampling.proposals import dense_grid, sample_proposals
from etad.sampling.snippets import sample_snippets, snippet_count

AUTOCAST_DTYPE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

DRAWN_BY_FEATURES = ("fps", "dpp", "gradient")
"""Snippet samplers that need what the encode and detect phases find."""

Streams = Callable[[str], Sequence[torch.Generator]]
"""Gives, for a purpose ("proposals", ...), one random generator per video of the batch."""


class Phase(StrEnum):
    """The parts of a step, in order."""

    ENCODE = "encode"
    DETECT = "detect"
    UPDATE_DETECTOR = "update_detector"
    BACKPROPAGATE = "backpropagate"
    UPDATE_ENCODER = "update_encoder"


class Listener(Protocol):
    """Is told of every phase of every step."""

    def begin(self, phase: Phase) -> None:
        """The phase is about to begin."""

    def end(self, phase: Phase) -> None:
        """The phase has been issued; on a GPU its kernels may still run."""


@contextmanager
def announced(listeners: Iterable[Listener], phase: Phase) -> Iterator[None]:
    """Tell listeners of a phase around what runs inside."""
    for listener in listeners:
        listener.begin(phase)
    yield
    for listener in listeners:
        listener.end(phase)


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes:
        losses: every term, 0-d tensors on the device (reading one waits for the GPU).
        proposals: proposals per video.
        snippets: snippets per video that the gradient reached.
        proposal_ratio, snippet_ratio: the same as parts of all; they differ from those asked for by rounding to whole
            proposals and whole chunks.
    """

    losses: dict[str, Tensor]
    proposals: int
    snippets: int
    proposal_ratio: float
    snippet_ratio: float


class TrainingStep:
    """A training step bound to a model and its optimizer; call it with a batch.

    Args:
        model: the network, on its device.
        optimizer: holds the parameters of the whole network. The step only touches those that have a gradient.
        config: the experiment.
        listeners: are told of phases.
        world: number of processes; above 1 the gradients are averaged over them (DistributedDataParallel).
        total: adds a tensor over the processes; the identity in a single one.
        placement: moves tensors between host and device; None: the real one.

    Attributes:
        scaler: scales the loss of fp16; without effect otherwise.
        gradient_sums: where the encoder's gradient is, if not in ``grad`` of the parameters.
        keeps_every_snippet: whether a kept prefix holds all snippets, because the draw comes later.
    """

    def __init__(
        self,
        model: Etad,
        optimizer: torch.optim.Optimizer,
        config: Config,
        listeners: Sequence[Listener] = (),
        world: int = 1,
        total: Total = lambda count: count,
        placement: Placement | None = None,
    ) -> None:
        device = next(model.parameters()).device
        efficiency = config.efficiency
        self.config: StepConfig = config.step
        self._stage_tiou = config.model.detector.stage_tiou
        self._classifier_weight = config.model.classifier.loss_weight if config.model.classifier else 0.0
        self._clip_norm = config.train.clip_norm
        self._optimizer = optimizer
        self._listeners = tuple(listeners)
        self._world, self._total = world, total
        self._device = device
        self._length = config.data.length
        self._grid = dense_grid(self._length, config.model.detector.max_duration)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.config.precision == "fp16")

        self._encoder = model.feature_extractor
        trainable = self._encoder is not None and any(p.requires_grad for p in self._encoder.parameters())
        self._trains_encoder = trainable and self.config.strategy != "frozen"
        self._placement = placement or Placement(device)
        self._frames_on_host = efficiency.frames_on == "host" and self._encoder is not None
        self._frozen_prefix = efficiency.frozen_prefix
        if not (self._trains_encoder and keeps_prefix(config)):
            self._frozen_prefix = "recomputed"
        self.keeps_every_snippet = self.config.snippet_sampler in DRAWN_BY_FEATURES
        self._detector_in_fp32 = efficiency.detector_precision == "fp32"

        self._detection = _Detection(model)
        if efficiency.compile:
            compile_parts(model)
        self._encode_only: Callable[..., Tensor] | None = self._encoder
        if self._encoder is not None and efficiency.cuda_graphs and device.type == "cuda":
            self._encode_only = GraphedForward(self._encoder)
        self.gradient_sums: GradientSums | None = None
        if self._encoder is not None and self._trains_encoder and efficiency.encoder_gradient != "fp32":
            parameters = [p for p in self._encoder.parameters() if p.requires_grad]
            self.gradient_sums = GradientSums(parameters, efficiency.encoder_gradient, self._placement)
        self._synchronised_encoder: nn.Module | None = self._encoder
        self._synchronised_detection: nn.Module = self._detection
        if world > 1:
            self._synchronised_detection = _distributed(self._detection)
            if self._encoder is not None and self._trains_encoder and self.gradient_sums is None:
                self._synchronised_encoder = _distributed(self._encoder)

    def __call__(self, batch: Batch, streams: Streams) -> StepResult:
        """Train on one batch; what of it is not on the model's device is moved there, all at once or chunk by chunk."""
        batch = batch.to(self._device, with_input=not self._frames_on_host)
        prefix = self._plan_prefix(batch, streams)
        features = self._encode(batch.input_, prefix)
        losses, proposals, gradient = self._detect(features.detach(), batch, streams)
        self._update(Phase.UPDATE_DETECTOR)
        snippets = 0
        if gradient is not None:
            snippets = self._train_encoder(batch.input_, features, gradient, streams, prefix)
        if snippets:
            self._update(Phase.UPDATE_ENCODER)
        terms = losses.detached()
        # Each process holds its share; what is reported is the loss of the whole batch.
        values = self._total(torch.stack(list(terms.values())))
        return StepResult(
            losses=dict(zip(terms, values, strict=True)),
            proposals=proposals,
            snippets=snippets,
            proposal_ratio=proposals / len(self._grid),
            snippet_ratio=snippets / self._length,
        )

    def _plan_prefix(self, batch: Batch, streams: Streams) -> KeptPrefix | None:
        """Return where the frozen stages' output is to be kept, with the draw of snippets if that can be made now."""
        count = 0 if self._encoder is None else self._snippet_count(batch.input_.shape[1])
        if self._frozen_prefix == "recomputed" or not count:
            return None
        on_host = self._frozen_prefix == "offloaded"
        videos, snippets = batch.input_.shape[:2]
        if self.keeps_every_snippet:
            return KeptPrefix.of_every_snippet(videos, snippets, self._placement, on_host)
        nothing = torch.empty(videos, 0, snippets)
        drawn = sample_snippets(self.config.snippet_sampler, count, nothing, nothing, streams("snippets"))
        return KeptPrefix.of_drawn(drawn, self._placement, on_host)

    def _encode(self, input_: Tensor, prefix: KeptPrefix | None) -> Tensor:
        """Return features ``[B, C, N]``; only ``checkpointed`` attaches a graph to them."""
        if self._encoder is None:
            return input_
        with announced(self._listeners, Phase.ENCODE), self._autocast():
            if self.config.strategy == "checkpointed" and self._trains_encoder:
                return self._encode_checkpointed(input_)
            assert self._encode_only is not None
            with torch.no_grad():
                return encode_snippets(self._encode_only, input_, self.config.chunk, self._placement, prefix)

    def _encode_checkpointed(self, frames: Tensor) -> Tensor:
        assert self._synchronised_encoder is not None
        encoder, parts = self._synchronised_encoder, []
        for start in range(0, frames.shape[1], self.config.chunk):
            part = self._placement.clips(frames, slice(start, start + self.config.chunk))
            parts.append(checkpoint(encode_chunk, encoder, part, use_reentrant=False))
        return torch.cat(parts, 2)

    def _detect(self, features: Tensor, batch: Batch, streams: Streams) -> tuple[Losses, int, Tensor | None]:
        """Train the detector; return the loss, the number of proposals and, if wanted, d loss / d feature."""
        with announced(self._listeners, Phase.DETECT):
            features.requires_grad_(self._trains_encoder)
            index = sample_proposals(
                self._grid,
                self._length,
                self.config.proposal_sampler,
                self.config.proposal_ratio,
                streams("proposals"),
                [segments.cpu() for segments in batch.segments],
            )
            proposals = self._grid[index].to(self._device)
            keep = self._keep_draws(proposals.shape[1], streams("losses"))
            with nullcontext() if self._detector_in_fp32 else self._autocast():
                output, logits = self._synchronised_detection(features, proposals)
            targets = make_targets(batch.segments, proposals, self._length)
            losses = detector_losses(output, targets, self._stage_tiou, keep, self._total)
            if logits is not None:
                extra = self._classifier_weight * classifier_loss(logits, batch.segments, batch.labels, self._total)
                losses = Losses(losses.tem, losses.stages, extra)
            # The counts are global, so each process holds its share of the loss; the averaging divides it once more.
            self.scaler.scale(losses.total * self._world).backward()
            # Kept without the loss scale: the detector's update may change the scale.
            gradient = None if features.grad is None else features.grad / self.scaler.get_scale()
            return losses, proposals.shape[1], gradient

    def _train_encoder(
        self, frames: Tensor, features: Tensor, gradient: Tensor, streams: Streams, prefix: KeptPrefix | None
    ) -> int:
        """Push the kept gradient through the encoder; return the snippets per video that it reached."""
        with announced(self._listeners, Phase.BACKPROPAGATE):
            gradient = gradient * self.scaler.get_scale()
            if self.config.strategy == "checkpointed":
                features.backward(gradient)
                return frames.shape[1]
            count = self._snippet_count(frames.shape[1])
            if count:
                drawn = None if prefix is None else prefix.drawn
                if drawn is None:
                    sampler = self.config.snippet_sampler
                    drawn = sample_snippets(sampler, count, features, gradient, streams("snippets"))
                self.backpropagate(frames, gradient, drawn, prefix)
            return count

    def backpropagate(self, frames: Tensor, gradient: Tensor, drawn: Tensor, prefix: KeptPrefix | None = None) -> None:
        """Re-encode the drawn snippets and add the gradient that reaches the encoder's parameters.

        Args:
            frames: uint8 ``[B, N, 3, T, H, W]``.
            gradient: d loss / d feature ``[B, C, N]``.
            drawn: numbers of the drawn snippets, int64 ``[B, count]`` on the CPU; ``sequential`` takes them ``chunk``
                at a time.
            prefix: what the frozen stages made of them, where that was kept.
        """
        encoder = self._synchronised_encoder
        assert encoder is not None
        count = drawn.shape[1]
        chunk = count if self.config.strategy == "joint" else self.config.chunk
        rows = torch.arange(len(frames), device=gradient.device)[:, None]
        for start in range(0, count, chunk):
            index = drawn[:, start : start + chunk]
            with self._unsynchronised(encoder, unless=start + chunk >= count):
                with self._autocast():
                    if prefix is None:
                        features = encode_chunk(encoder, self._placement.clips(frames, index))
                    else:
                        features = by_video(encoder(prefix.take(index), Part.TRAINED), len(frames))
                features.backward(gradient.transpose(1, 2)[rows, index.to(gradient.device)].transpose(1, 2))

    def _snippet_count(self, snippets: int) -> int:
        return snippet_count(snippets, self.config.snippet_ratio, self.config.chunk)

    def _update(self, phase: Phase) -> None:
        with announced(self._listeners, phase):
            if phase is Phase.UPDATE_ENCODER and self.gradient_sums is not None:
                self._update_from(self.gradient_sums)
            else:
                if self._clip_norm is not None:
                    self.scaler.unscale_(self._optimizer)
                    parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
                    nn.utils.clip_grad_norm_(parameters, self._clip_norm)
                self.scaler.step(self._optimizer)
                self.scaler.update()
            self._optimizer.zero_grad(set_to_none=True)

    def _update_from(self, sums: GradientSums) -> None:
        """Update one parameter after the other, so that only one gradient is whole."""
        if self._world > 1:
            sums.average(self._total, self._world)
        factor = None if self._clip_norm is None else sums.clip_factor(self._clip_norm)
        for parameter in list(sums.sums):
            gradient = sums.pop(parameter)
            parameter.grad = gradient if factor is None else gradient.mul_(factor.to(gradient.device))
            self._optimizer.step()
            parameter.grad = None

    def _keep_draws(self, proposals: int, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (len(self._stage_tiou), KEEP_DRAWS, proposals)
        draws = torch.stack([torch.rand(shape, generator=generator) for generator in generators], dim=2)
        return draws.to(self._device)

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = AUTOCAST_DTYPE[self.config.precision]
        return torch.autocast(self._device.type, dtype=dtype, enabled=self.config.precision != "fp32")

    @staticmethod
    def _unsynchronised(encoder: nn.Module, unless: bool) -> AbstractContextManager[object]:
        """Hold gradients back until the last chunk: they are summed over processes once."""
        if unless or not isinstance(encoder, DistributedDataParallel):
            return nullcontext()
        return encoder.no_sync()


def keeps_prefix(config: Config) -> bool:
    """Tell whether an experiment's step runs frozen stages twice, so that keeping their output saves work."""
    encoder, step = config.model.encoder, config.step
    return encoder.frozen_stages > 0 and step.strategy in ("sequential", "joint") and step.snippet_ratio > 0


class _Detection(nn.Module):
    """Everything that works on features, as one module, because gradients are synchronised per module."""

    def __init__(self, model: Etad) -> None:
        super().__init__()
        self.detector = model.base_detector
        self.classifier = model.snippet_classifier

    def forward(self, features: Tensor, proposals: Tensor) -> tuple[object, Tensor | None]:
        logits = None if self.classifier is None else self.classifier(features)
        return self.detector(features, proposals), logits


def _distributed(module: nn.Module) -> DistributedDataParallel:
    device = next(module.parameters()).device
    return DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None)
