"""Training targets and losses of the detector (specification, section 6).

Every term is a sum divided by a count. The counts go through ``total``, which in a distributed run adds them up over
the processes. Each process then holds its share of the loss of the whole batch, and the sum of the gradients is exactly
that of one process. Nothing here depends on a value on the host, so a GPU never waits for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from etad.models.detector import DetectorOutput, StageOutput
from etad.segments import offset_targets, overlap_over_first, tiou, tiou_matrix

EPSILON = 1e-6
BOUNDARY_WINDOW = 3
"""Width, in positions, of the window around a true boundary."""
CLASSIFICATION_TIOU = 0.9
BANDS = (0.7, 0.3)
TIOU_REGRESSION_WEIGHT = 5.0
OFFSET_WEIGHT = 10.0
BOUNDARY_WEIGHT = 0.5

KEEP_DRAWS = 4
"""Uniform draws per stage and proposal: tIoU classification, tIoU regression, start, end."""

Total = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Targets:
    """What the batch should have been detected as.

    Attributes:
        start, end: overlap of each position with a true boundary, ``[B, T]``.
        assigned: the true segment of highest tIoU for each initial proposal, ``[B, K, 2]``.
    """

    start: Tensor
    end: Tensor
    assigned: Tensor


@dataclass(frozen=True)
class Losses:
    """The terms of the loss; ``total`` is what is differentiated."""

    tem: Tensor
    stages: tuple[Tensor, ...]
    classifier: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """The sum of all terms."""
        total = self.tem + torch.stack(self.stages).sum()
        return total if self.classifier is None else total + self.classifier

    def detached(self) -> dict[str, Tensor]:
        """Return every term by name, without graph."""
        terms = {"loss": self.total, "tem": self.tem}
        terms |= {f"stage{number}": loss for number, loss in enumerate(self.stages, 1)}
        if self.classifier is not None:
            terms["classifier"] = self.classifier
        return {name: value.detach() for name, value in terms.items()}


def make_targets(segments: Sequence[Tensor], proposals: Tensor, length: int) -> Targets:
    """Build the targets of a batch.

    Args:
        segments: true segments of each video, ``[G, 2]`` in normalised time; G may be 0.
        proposals: initial proposals ``[B, K, 2]``.
        length: positions T of the boundary maps.
    """
    edges = torch.arange(length + 1, device=proposals.device, dtype=proposals.dtype) / length  # [T + 1]
    positions = torch.stack((edges[:-1], edges[1:]), dim=-1)  # [T, 2]
    half = BOUNDARY_WINDOW / length / 2
    starts, ends, assigned = [], [], []
    for true, candidates in zip(segments, proposals, strict=True):  # [G, 2], [K, 2]
        if not len(true):
            # Nothing to find: no boundary, and a target that overlaps no proposal.
            starts.append(proposals.new_zeros(length))
            ends.append(proposals.new_zeros(length))
            assigned.append(torch.full_like(candidates, -1.0))
            continue
        windows = torch.stack((true - half, true + half), dim=-1)  # [G, start or end, 2]
        overlap = overlap_over_first(positions[:, None, None], windows, eps=EPSILON).amax(dim=1)  # [T, start or end]
        starts.append(overlap[:, 0])
        ends.append(overlap[:, 1])
        assigned.append(true[tiou_matrix(candidates, true).argmax(dim=-1)])  # [K, 2]
    return Targets(torch.stack(starts), torch.stack(ends), torch.stack(assigned))


def draw_keep(stages: int, proposals: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw the uniform numbers that decide which negatives are kept, from one CPU generator per video.

    Returns:
        float32 ``[stages, KEEP_DRAWS, B, proposals]`` on the CPU.
    """
    shape = (stages, KEEP_DRAWS, proposals)
    return torch.stack([torch.rand(shape, generator=generator) for generator in generators], dim=2)


def detector_losses(
    output: DetectorOutput, targets: Targets, stage_tiou: Sequence[float], keep: Tensor, total: Total
) -> Losses:
    """Return the loss of a batch.

    Args:
        output: the detector's output.
        targets: from :func:`make_targets`, for the same initial proposals.
        stage_tiou: for each stage, the tIoU above which a proposal trains the offsets.
        keep: uniform draws in [0, 1), ``[stages, KEEP_DRAWS, B, K]``, from :func:`draw_keep`.
        total: adds counts over processes; the identity in a single process.
    """
    boundary = (targets.start, targets.end)
    tem = sum(
        (_balanced_bce(output.boundary_maps[:, side], boundary[side], total) for side in (0, 1)),
        start=output.boundary_maps.new_zeros(()),
    )
    stages = tuple(
        _stage_loss(stage, targets, threshold, draws, total)
        for stage, threshold, draws in zip(output.stages, stage_tiou, keep, strict=True)  # [KEEP_DRAWS, B, K]
    )
    return Losses(tem, stages)


def _stage_loss(stage: StageOutput, targets: Targets, threshold: float, keep: Tensor, total: Total) -> Tensor:
    # The tIoU with the assigned segment, not the largest over all: the assignment is made once, on the first proposals.
    overlap = tiou(stage.segments, targets.assigned)  # [B, K]
    loss = _sampled_bce(stage.tiou[..., 0], overlap > CLASSIFICATION_TIOU, keep[0], total)
    loss = loss + TIOU_REGRESSION_WEIGHT * _sampled_mse(stage.tiou[..., 1], overlap, keep[1], total)
    loss = loss + OFFSET_WEIGHT * _offset_loss(stage, targets.assigned, overlap > threshold, total)
    for side, true_map in enumerate((targets.start, targets.end)):
        length = true_map.shape[1]
        position = (stage.segments[..., side] * length).long().clamp(0, length - 1)  # [B, K]
        positive = true_map.gather(1, position) > 0.5  # [B, T] -> [B, K]
        loss = loss + BOUNDARY_WEIGHT * _sampled_bce(stage.boundary[..., side], positive, keep[2 + side], total)
    return loss


def _balanced_bce(probability: Tensor, target: Tensor, total: Total) -> Tensor:
    """BCE, ``[B, T]``, with the same weight for all positives (target > 0.5) as for all negatives.

    Plain BCE where there is no positive.
    """
    positive = (target > 0.5).to(probability.dtype)
    log_one = (probability + EPSILON).log() * positive
    log_zero = (1 - probability + EPSILON).log() * (1 - positive)
    positives, entries = total(torch.stack((positive.sum(), torch.full_like(positive, 1.0).sum())))
    negatives = entries - positives
    balanced = 0.5 * (log_one.sum() / positives.clamp(min=1) + log_zero.sum() / negatives.clamp(min=1))
    return -torch.where(positives > 0, balanced, log_zero.sum() / entries)


def _sampled_bce(probability: Tensor, positive: Tensor, keep: Tensor, total: Total) -> Tensor:
    """BCE, ``[B, K]``, over all positives and about as many negatives; over all negatives without a positive."""
    positives, negatives = total(torch.stack((positive.sum(), (~positive).sum())))
    # A negative stays with probability positives / negatives, so that no number has to be read from the device.
    kept = positive | (keep < positives / negatives) | (positives == 0)
    elementwise = functional.binary_cross_entropy(probability, positive.to(probability.dtype), reduction="none")
    return (elementwise * kept).sum() / total(kept.sum()).clamp(min=1)


def _sampled_mse(estimate: Tensor, overlap: Tensor, keep: Tensor, total: Total) -> Tensor:
    """MSE, ``[B, K]``, over the highest tIoU band and about as many of each other; over all if the highest is empty."""
    high = overlap > BANDS[0]
    low = overlap <= BANDS[1]
    middle = ~high & ~low
    highs, middles, lows = total(torch.stack((high.sum(), middle.sum(), low.sum())))
    kept = high | (middle & (keep < highs / middles)) | (low & (keep < highs / lows)) | (highs == 0)
    return ((estimate - overlap).square() * kept).sum() / total(kept.sum()).clamp(min=1)


def _offset_loss(stage: StageOutput, assigned: Tensor, selected: Tensor, total: Total) -> Tensor:
    """Sum of the four mean smooth-L1 losses over the selected proposals; zero where none is selected."""
    target = torch.stack(offset_targets(stage.segments, assigned), dim=-1)  # [B, K, 4]
    estimate = torch.cat((stage.start_end, stage.centre_width), dim=-1)  # [B, K, 4]
    # A degenerate refined proposal has an infinite target; masked out before the difference, it cannot spread NaN.
    mask = selected[..., None]  # [B, K, 1]
    target, estimate = torch.where(mask, target, 0.0), torch.where(mask, estimate, 0.0)
    return functional.smooth_l1_loss(estimate, target, reduction="sum") / total(selected.sum()).clamp(min=1)


def classifier_loss(logits: Tensor, segments: Sequence[Tensor], labels: Sequence[Tensor], total: Total) -> Tensor:
    """Cross-entropy of the snippet classifier, averaged over positions.

    Args:
        logits: ``[B, classes + 1, T]``, the last class being background.
        segments: true segments of each video, ``[G, 2]`` in normalised time.
        labels: their classes, ``[G]``.
        total: adds counts over processes.
    """
    batch, channels, length = logits.shape
    target = logits.new_zeros(batch, channels, length)  # [B, classes + 1, T]
    centres = (torch.arange(length, device=logits.device) + 0.5) / length  # [T]
    for row, true, classes in zip(target, segments, labels, strict=True):
        inside = (centres >= true[:, :1]) & (centres < true[:, 1:])  # [G, T]
        row.index_add_(0, classes, inside.to(row.dtype))
    target.clamp_(max=1)
    # Where actions of several classes overlap, they share the position; where there is none, it is background.
    target[:, -1] = (target.sum(dim=1) == 0).to(target.dtype)
    target = target / target.sum(dim=1, keepdim=True)
    positions = total(torch.ones_like(target[:, 0]).sum())
    return functional.cross_entropy(logits, target, reduction="sum") / positions
