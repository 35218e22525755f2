"""One training step: sequentialised gradient sampling (specification, section 5).

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
stored BatchNorm statistics). How the encoder's two passes are computed is told in encoding.py. A step tells its
listeners when a phase begins and ends; it measures nothing itself.

In shapes, B is videos, N snippets of a video, n drawn ones, C channels of a feature and K proposals of a video.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from etad.config import Config
from etad.data.batch import Batch
from etad.distributed import synchronised
from etad.encoding import Draw, TrainedEncoding
from etad.losses import Losses, Total, classifier_loss, detector_losses, draw_keep, make_targets
from etad.models.compiled import compile_module
from etad.models.etad import Detection, Etad
from etad.offload.kept_prefix import KeptPrefix
from etad.offload.placement import Placement
from etad.phases import Listener, Phase, announced
from etad.precision import autocast, detector_precision
from etad.sampling.proposals import dense_grid, sample_proposals
from etad.sampling.snippets import sample_snippets, snippet_count

Streams = Callable[[str], Sequence[torch.Generator]]
"""Gives, for a purpose ("proposals", ...), one random generator per video of the batch."""


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
        draws_late: see :class:`TrainedEncoding`.
        scaler: scales the loss of fp16; None: torch's own, which has no effect in other precisions.

    Attributes:
        encoding: the encoder's part.
        scaler: as given; a checkpoint holds its state.
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
        draws_late: bool | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self._config, self._optimizer, self._listeners = config, optimizer, tuple(listeners)
        self._world, self._total = world, total
        self._device = next(model.parameters()).device
        if scaler is None:
            scaler = torch.amp.GradScaler(self._device.type, enabled=config.step.precision == "fp16")
        self.scaler = scaler
        self.encoding = TrainedEncoding(model, config, placement, world, draws_late)
        if config.efficiency.compile:
            compile_module(model.base_detector)
        detection = Detection(model)
        self._detection: nn.Module = detection if world == 1 else synchronised(detection)
        self._grid = dense_grid(config.data.length, config.model.detector.max_duration)  # all proposals, [_, 2]
        self._drawn = snippet_count(config.data.length, config.step.snippet_ratio, config.step.chunk)  # n

    def __call__(self, batch: Batch, streams: Streams) -> StepResult:
        """Train on one batch; what of it is not on the model's device is moved there, all at once or chunk by chunk."""
        batch = batch.to(self._device, with_input=not self.encoding.frames_on_host)
        draw = partial(self._draw, streams)
        prefix = self.encoding.plan(batch.input_, self._drawn, draw)  # where the frozen stages' output is kept, if so
        features = self._encode(batch.input_, prefix)  # [B, C, N]
        losses, proposals, gradient = self._detect(features.detach(), batch, streams)
        self._update(Phase.UPDATE_DETECTOR)
        snippets = 0
        if gradient is not None:
            snippets = self._backpropagate(batch.input_, features, gradient, draw, prefix)
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
            snippet_ratio=snippets / self._config.data.length,
        )

    def _encode(self, input_: Tensor, prefix: KeptPrefix | None) -> Tensor:
        """Return features ``[B, C, N]`` of frames; only ``checkpointed`` attaches a graph. Features are left alone."""
        if self.encoding.encoder is None:
            return input_
        with announced(self._listeners, Phase.ENCODE):
            if self._config.step.strategy == "checkpointed" and self.encoding.is_trained:
                return self.encoding.recomputable_features(input_)
            return self.encoding.features(input_, prefix)

    def _detect(self, features: Tensor, batch: Batch, streams: Streams) -> tuple[Losses, int, Tensor | None]:
        """Train the detector; return the loss, the number of proposals and, if wanted, d loss / d feature."""
        config, length = self._config, self._config.data.length
        with announced(self._listeners, Phase.DETECT):
            features.requires_grad_(self.encoding.is_trained)
            sampler, ratio = config.step.proposal_sampler, config.step.proposal_ratio
            segments = [one.cpu() for one in batch.segments]  # [G, 2] each
            index = sample_proposals(self._grid, length, sampler, ratio, streams("proposals"), segments)  # [B, K]
            proposals = self._grid[index].to(self._device)  # [B, K, 2]
            stage_tiou = config.model.detector.stage_tiou
            keep = draw_keep(len(stage_tiou), proposals.shape[1], streams("losses")).to(self._device)  # [_, _, B, K]
            with autocast(self._device, detector_precision(config)):
                output, logits = self._detection(features, proposals)
            targets = make_targets(batch.segments, proposals, length)
            losses = detector_losses(output, targets, stage_tiou, keep, self._total)
            if logits is not None:
                assert config.model.classifier is not None
                weight = config.model.classifier.loss_weight
                extra = weight * classifier_loss(logits, batch.segments, batch.labels, self._total)
                losses = Losses(losses.tem, losses.stages, extra)
            # The counts are global, so each process holds its share of the loss; the averaging divides it once more.
            self.scaler.scale(losses.total * self._world).backward()
            # Kept without the loss scale: the detector's update may change the scale.
            gradient = None if features.grad is None else features.grad / self.scaler.get_scale()  # [B, C, N]
            return losses, proposals.shape[1], gradient

    def _backpropagate(
        self, frames: Tensor, features: Tensor, gradient: Tensor, draw: Draw, prefix: KeptPrefix | None
    ) -> int:
        """Push the kept gradient ``[B, C, N]`` through the encoder; return the snippets per video that it reached."""
        with announced(self._listeners, Phase.BACKPROPAGATE):
            gradient = gradient * self.scaler.get_scale()
            strategy = self._config.step.strategy
            if strategy == "checkpointed":
                features.backward(gradient)
                return frames.shape[1]
            if self._drawn:
                drawn = None if prefix is None else prefix.drawn
                if drawn is None:
                    drawn = draw(features, gradient)  # [B, n]
                chunk = self._drawn if strategy == "joint" else self._config.step.chunk
                self.encoding.backpropagate(frames, gradient, drawn, chunk, prefix)
            return self._drawn

    def _update(self, phase: Phase) -> None:
        clip_norm, sums = self._config.train.clip_norm, self.encoding.gradient_sums
        with announced(self._listeners, phase):
            if phase is Phase.UPDATE_ENCODER and sums is not None:
                if self._world > 1:
                    sums.average(self._total, self._world)
                sums.update(self._optimizer, clip_norm)
            else:
                if clip_norm is not None:
                    self.scaler.unscale_(self._optimizer)
                    parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
                    nn.utils.clip_grad_norm_(parameters, clip_norm)
                self.scaler.step(self._optimizer)
                self.scaler.update()
            self._optimizer.zero_grad(set_to_none=True)

    def _draw(self, streams: Streams, features: Tensor, gradient: Tensor) -> Tensor:
        """Draw snippets ``[B, n]`` for the backpropagate phase; features and gradient are ``[B, C, N]``."""
        sampler = self._config.step.snippet_sampler
        return sample_snippets(sampler, self._drawn, features, gradient, streams("snippets"))
