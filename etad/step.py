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
from etad.models.etad import Etad, encode_chunk, encode_snippets
from etad.proposals import dense_grid, sample_proposals
from etad.snippets import sample_snippets, snippet_count

AUTOCAST_DTYPE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

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
    """

    def __init__(
        self,
        model: Etad,
        optimizer: torch.optim.Optimizer,
        config: Config,
        listeners: Sequence[Listener] = (),
        world: int = 1,
        total: Total = lambda count: count,
    ) -> None:
        device = next(model.parameters()).device
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
        self._detection = _Detection(model)
        self._synchronised_encoder: nn.Module | None = self._encoder
        self._synchronised_detection: nn.Module = self._detection
        if world > 1:
            self._synchronised_detection = _distributed(self._detection)
            if self._encoder is not None and self._trains_encoder:
                self._synchronised_encoder = _distributed(self._encoder)

    def __call__(self, batch: Batch, streams: Streams) -> StepResult:
        """Train on one batch, which lies on the model's device."""
        features = self._encode(batch.input_)
        losses, proposals, gradient = self._detect(features.detach(), batch, streams)
        self._update(Phase.UPDATE_DETECTOR)
        snippets = 0
        if gradient is not None:
            snippets = self._train_encoder(batch.input_, features, gradient, streams)
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

    def _encode(self, input_: Tensor) -> Tensor:
        """Return features ``[B, C, N]``; only ``checkpointed`` attaches a graph to them."""
        if self._encoder is None:
            return input_
        with announced(self._listeners, Phase.ENCODE), self._autocast():
            if self.config.strategy == "checkpointed" and self._trains_encoder:
                assert self._synchronised_encoder is not None
                parts = input_.split(self.config.chunk, dim=1)
                encoder = self._synchronised_encoder
                return torch.cat([checkpoint(encode_chunk, encoder, part, use_reentrant=False) for part in parts], 2)
            with torch.no_grad():
                return encode_snippets(self._encoder, input_, self.config.chunk)

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
            with self._autocast():
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

    def _train_encoder(self, frames: Tensor, features: Tensor, gradient: Tensor, streams: Streams) -> int:
        """Push the kept gradient through the encoder; return the snippets per video that it reached."""
        with announced(self._listeners, Phase.BACKPROPAGATE):
            gradient = gradient * self.scaler.get_scale()
            if self.config.strategy == "checkpointed":
                features.backward(gradient)
                return frames.shape[1]
            count = snippet_count(frames.shape[1], self.config.snippet_ratio, self.config.chunk)
            if count:
                sampler = self.config.snippet_sampler
                drawn = sample_snippets(sampler, count, features, gradient, streams("snippets"))
                self.backpropagate(frames, gradient, drawn.to(self._device))
            return count

    def backpropagate(self, frames: Tensor, gradient: Tensor, drawn: Tensor) -> None:
        """Re-encode the drawn snippets and add the gradient that reaches the encoder's parameters.

        Args:
            frames: uint8 ``[B, N, 3, T, H, W]``.
            gradient: d loss / d feature ``[B, C, N]``.
            drawn: numbers of the drawn snippets, int64 ``[B, count]``; ``sequential`` takes them ``chunk`` at a time.
        """
        encoder = self._synchronised_encoder
        assert encoder is not None
        count = drawn.shape[1]
        chunk = count if self.config.strategy == "joint" else self.config.chunk
        rows = torch.arange(len(frames), device=frames.device)[:, None]
        for start in range(0, count, chunk):
            index = drawn[:, start : start + chunk]
            with self._unsynchronised(encoder, unless=start + chunk >= count):
                with self._autocast():
                    features = encode_chunk(encoder, frames[rows, index])
                features.backward(gradient.transpose(1, 2)[rows, index].transpose(1, 2))

    def _update(self, phase: Phase) -> None:
        with announced(self._listeners, phase):
            if self._clip_norm is not None:
                self.scaler.unscale_(self._optimizer)
                parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
                nn.utils.clip_grad_norm_(parameters, self._clip_norm)
            self.scaler.step(self._optimizer)
            self.scaler.update()
            self._optimizer.zero_grad(set_to_none=True)

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
