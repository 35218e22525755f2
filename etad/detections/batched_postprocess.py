"""Post-processing of many videos at once, on the device that holds their raw outputs (specification, section 7).

``postprocess.py`` is the reference, and the numbers are the same: in float64 as there, because which candidate is the
best of a round must not depend on rounding. That costs a GPU nothing: a round of soft-NMS takes as long as its kernels
need to start, whatever they compute with. All videos go through a round together, each keeping one candidate. Only a
vote's sums are added up in another order than there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from etad.config import PostprocessConfig
from etad.detections.class_scores import ClassScores
from etad.detections.detections import Detections, RawDetections
from etad.detections.postprocess import kept_detections
from etad.detections.soft_nms import LEAST_EXPONENT, LEAST_LENGTH
from etad.errors import DataError


@dataclass(frozen=True, eq=False)
class RawTensors:
    """What the network says about one view, as tensors on any device; see :class:`RawDetections`."""

    segments: Tensor
    scores: Tensor
    start: Tensor
    end: Tensor
    snippet_classes: Tensor | None
    start_s: float
    duration_s: float

    @classmethod
    def on_device(cls, raw: RawDetections, device: torch.device) -> Self:
        """Return numpy's arrays as tensors on ``device``."""
        segments, scores, start, end = (
            torch.from_numpy(array).to(device) for array in (raw.segments, raw.scores, raw.start, raw.end)
        )
        classes = None if raw.snippet_classes is None else torch.from_numpy(raw.snippet_classes).to(device)
        return cls(segments, scores, start, end, classes, raw.start_s, raw.duration_s)

    def on_host(self) -> RawDetections:
        """Return the tensors as numpy's arrays; those of a CPU are not copied."""
        segments, scores, start, end = (
            tensor.cpu().numpy() for tensor in (self.segments, self.scores, self.start, self.end)
        )
        classes = None if self.snippet_classes is None else self.snippet_classes.cpu().numpy()
        return RawDetections(segments, scores, start, end, classes, self.start_s, self.duration_s)


Groups = Sequence[tuple[str, Sequence[RawTensors]]]
"""Views that share a soft-NMS, with the id of their video."""


@torch.inference_mode()
def batched_detections(
    videos: Mapping[str, Sequence[RawTensors]],
    durations_s: Mapping[str, float],
    config: PostprocessConfig,
    class_scores: ClassScores | None = None,
) -> dict[str, Detections]:
    """Turn the raw outputs of videos into their detections, as ``postprocess.to_detections`` does for one.

    The host gets what was kept in one transfer, after another that says whether the outputs are finite.

    Args:
        videos: video id -> its views; all on one device, with as many proposals and positions each.
        durations_s: video id -> duration of the video.
        config: section ``postprocess`` of the experiment.
        class_scores: video-level scores; needed by ``classes: external`` and unused otherwise.

    Raises:
        DataError: an output is NaN or infinite, or a video has no class scores.
        ValueError: the mode's class scores were not passed.
    """
    found = {video_id: Detections.empty() for video_id in videos}
    seen: Groups = [(video_id, views) for video_id, views in videos.items() if views]
    if config.windows == "each":
        windows: Groups = [(video_id, [view]) for video_id, views in seen for view in views]
        of_windows: dict[str, list[Detections]] = {video_id: [] for video_id, _ in seen}
        for (video_id, _), one in zip(windows, _detected(windows, durations_s, config, class_scores), strict=True):
            of_windows[video_id].append(one)
        return found | (_suppressed_again(of_windows, seen[0][1][0].scores.device, config) if seen else {})
    detected = _detected(seen, durations_s, config, class_scores)
    return found | {video_id: one for (video_id, _), one in zip(seen, detected, strict=True)}


def _detected(
    groups: Groups, durations_s: Mapping[str, float], config: PostprocessConfig, class_scores: ClassScores | None
) -> list[Detections]:
    """Return the detections of every group of views that share a soft-NMS."""
    found = []
    for (video_id, _), rows in zip(groups, _kept(groups, config).cpu().numpy() if groups else [], strict=True):
        # [n, 4]: a video whose candidates ran out goes on with minus infinity.
        segments_s, scores, labels = np.split(rows[rows[:, 2] >= config.min_score], (2, 3), axis=1)
        found.append(
            kept_detections(
                video_id,
                segments_s,
                scores[:, 0],
                labels[:, 0].astype(np.int64) if config.classes == "snippet" else None,
                durations_s[video_id],
                config,
                class_scores,
            )
        )
    return found


def _suppressed_again(
    of_windows: Mapping[str, Sequence[Detections]], device: torch.device, config: PostprocessConfig
) -> dict[str, Detections]:
    """Put the detections of each video's windows through one more soft-NMS, as ``postprocess.suppressed_again``."""

    def joined(name: str, filler: float) -> Tensor:
        parts = [np.concatenate([getattr(one, name) for one in windows]) for windows in of_windows.values()]
        rows = [torch.from_numpy(part) for part in parts]
        return pad_sequence(rows, batch_first=True, padding_value=filler).to(device)

    segments_s, scores = joined("segments_s", 0.0), joined("scores", -math.inf)  # [V, N, 2], [V, N]
    kept, kept_scores, voted_s = batched_soft_nms_with_voting(
        segments_s, scores, config.soft_nms_sigma, config.max_segments, config.voting_tiou
    )
    columns = (voted_s, kept_scores[..., None], joined("labels", 0).gather(1, kept).double()[..., None])
    found = {}
    for video_id, rows in zip(of_windows, torch.cat(columns, dim=2).cpu().numpy(), strict=True):
        lasting = rows[rows[:, 2] >= config.min_score]
        found[video_id] = Detections(lasting[:, :2].copy(), lasting[:, 2].copy(), lasting[:, 3].astype(np.int64))
    return found


def batched_soft_nms_with_voting(
    segments: Tensor, scores: Tensor, sigma: float, max_segments: int, voting_tiou: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussian soft-NMS of several sets of candidates; see :func:`etad.detections.soft_nms.soft_nms_with_voting`.

    Args:
        segments: float64 ``[V, N, 2]``, any unit, finite.
        scores: float64 ``[V, N]``, not negative; minus infinity where there is no candidate.
        sigma: width of the decay.
        max_segments: stop after so many.
        voting_tiou: tIoU from which a candidate votes. None: nobody does.

    Returns:
        indices: int64 ``[V, n]``, kept candidates in the order of keeping; n is ``max_segments``, or N if that is less.
        scores: float64 ``[V, n]``, their decayed scores; minus infinity once a set is used up.
        segments: float64 ``[V, n, 2]``, where the votes put them.
    """
    start, end = segments[..., 0].contiguous(), segments[..., 1].contiguous()  # [V, N]
    length, live = end - start, scores.clone()  # [V, N]
    votes = scores.clamp(min=0.0)  # [V, N]
    rounds: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for _ in range(min(max_segments, scores.shape[1])):
        best_score, best = live.max(dim=1, keepdim=True)  # [V, 1]
        from_, to = start.gather(1, best), end.gather(1, best)  # [V, 1]
        overlap = torch.minimum(end, to).sub_(torch.maximum(start, from_))  # [V, N]
        overlap.clamp_(min=0.0)
        union = (length + length.gather(1, best)).sub_(overlap).clamp_(min=LEAST_LENGTH)
        tiou = overlap.div_(union)
        if voting_tiou is not None:
            weights = votes * (tiou >= voting_tiou)
            weight = weights.sum(dim=1, keepdim=True)
            # A segment without length overlaps with nobody, not even with itself.
            from_, to = (
                torch.where(weight > 0, (weights * edge).sum(dim=1, keepdim=True) / weight, unmoved)
                for edge, unmoved in ((start, from_), (end, to))
            )
        rounds.append((best, best_score, from_, to))
        decay = tiou.square_().mul_(-1.0 / sigma).clamp_(min=LEAST_EXPONENT).exp_()
        live.mul_(decay).scatter_(1, best, -math.inf)
    if not rounds:
        return scores.new_zeros(len(scores), 0, dtype=torch.int64), scores[:, :0], segments[:, :0]
    kept, kept_scores, first, last = (torch.cat(columns, dim=1) for columns in zip(*rounds, strict=True))
    return kept, kept_scores, torch.stack((first, last), dim=2)


def _kept(groups: Groups, config: PostprocessConfig) -> Tensor:
    """Return what soft-NMS keeps of every group: start and end in seconds, score and class, float64 ``[V, n, 4]``."""
    segments_s, scores, labels = _candidates(groups, config)
    # The views of a group share one soft-NMS; a group of fewer views than another has no candidates in their place.
    counts = [len(views) for _, views in groups]
    # [V, most views], -1 where a group has fewer
    view = pad_sequence(torch.arange(len(scores)).split(counts), batch_first=True, padding_value=-1).to(scores.device)
    segments_s, labels = segments_s[view].flatten(1, 2), labels[view].flatten(1)  # [V, N, 2], [V, N]
    scores = scores[view].masked_fill((view < 0)[..., None], -math.inf).flatten(1)  # [V, N]

    where, most = segments_s, config.max_segments
    if config.classes == "snippet":
        # As in the reference, every class is moved to a stretch of time of its own.
        missing = (scores == -math.inf)[..., None]
        last = segments_s.masked_fill(missing, -math.inf).amax(dim=(1, 2))
        stretch = last - segments_s.masked_fill(missing, math.inf).amin(dim=(1, 2)) + 1.0  # [V]
        where = segments_s + (stretch.nan_to_num(neginf=0.0)[:, None] * labels)[..., None]
        most *= config.classes_per_segment
    kept, kept_scores, voted_s = batched_soft_nms_with_voting(
        where, scores, config.soft_nms_sigma, most, config.voting_tiou
    )
    kept_labels = labels.gather(1, kept).double()  # [V, n]
    # Without votes, the segments as they were before classes moved them.
    kept_s = segments_s.take_along_dim(kept[..., None], 1) if config.voting_tiou is None else voted_s
    return torch.cat((kept_s, kept_scores[..., None], kept_labels[..., None]), dim=2)


def _candidates(groups: Groups, config: PostprocessConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Return the candidates of all W views: one for each proposal and each of the M classes it gets, N in all.

    Returns:
        segments_s: float64 ``[W, N, 2]``.
        scores: float64 ``[W, N]``; minus infinity where a proposal is no candidate.
        labels: int64 ``[W, N]``; 0 where classes are not the proposals' own.
    """
    views = [view for _, of_group in groups for view in of_group]
    segments, scores, start, end = (
        torch.stack([getattr(view, name) for view in views]) for name in ("segments", "scores", "start", "end")
    )
    given = [view.snippet_classes for view in views if view.snippet_classes is not None]
    classes = torch.stack(given) if given else None
    _check_finite(groups, [segments, scores, start, end] + ([] if classes is None else [classes]))

    place = torch.tensor([(view.start_s, view.duration_s) for view in views], dtype=torch.float64).to(segments.device)
    begin_s, duration_s = place[:, :, None, None].unbind(1)  # [W, 2] -> [W, 1, 1] each
    segments_s = begin_s + segments.double() * duration_s  # [W, K, 2]
    scores = scores.double()[..., None]  # [W, K, 1]
    labels = torch.zeros_like(scores, dtype=torch.int64)  # [W, K, 1]
    if config.classes == "snippet":
        if classes is None:
            raise ValueError("postprocess.classes is 'snippet', which needs the network's snippet_classes")
        # View by view: an array of all proposals and classes takes a lot of memory.
        found = [_labels(*one, config.classes_per_segment) for one in zip(segments, classes, strict=True)]
        labels, label_scores = (torch.stack(column) for column in zip(*found, strict=True))  # [W, K, M]
        scores = scores * label_scores  # [W, K, M]
    if config.boundary_filter:
        scores = scores.masked_fill(~_on_boundaries(segments, start, end)[..., None], -math.inf)
    segments_s = segments_s[:, :, None].expand(*labels.shape, 2)  # [W, K, M, 2]
    return segments_s.flatten(1, 2), scores.flatten(1), labels.flatten(1)


def _check_finite(groups: Groups, outputs: Sequence[Tensor]) -> None:
    finite = torch.stack([output.isfinite().flatten(1).all(dim=1) for output in outputs]).all(dim=0).tolist()
    owners = [video_id for video_id, views in groups for _ in views]
    for video_id, fine in zip(owners, finite, strict=True):
        if not fine:
            raise DataError(f"{video_id}: the network returned NaN or infinity; its training must have diverged")


def _on_boundaries(segments: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Say which proposals ``[W, K, 2]`` start and end on a boundary ``[W, T]``: ``[W, K]``."""
    positions = start.shape[1]
    start_ok, end_ok = _peak_or_high(start), _peak_or_high(end)
    start_ok[:, 0] = True
    end_ok[:, -1] = True
    position = (segments * positions).clamp(0, positions - 1).long()  # [W, K, 2]
    return start_ok.gather(1, position[..., 0]) & end_ok.gather(1, position[..., 1])


def _peak_or_high(probability: Tensor) -> Tensor:
    padded = functional.pad(probability, (1, 1))  # [W, T + 2]
    peak = (probability > padded[:, :-2]) & (probability > padded[:, 2:])
    return peak | (probability > 0.5 * probability.amax(dim=1, keepdim=True))


def _labels(segments: Tensor, classes: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the best classes of every proposal of a view and their scores, ``[K, M]`` each, best first.

    A score is the mean of the class's probability over the positions that the proposal touches.
    """
    positions = len(classes)
    first, last = (segments.double() * positions).unbind(1)  # [K]
    begin = first.floor().clamp(0, positions - 1).long()
    past = last.ceil().clamp(max=positions).long().maximum(begin + 1)
    running = functional.pad(classes.double().cumsum(dim=0), (0, 0, 1, 0))  # [T + 1, classes]
    means = (running[past] - running[begin]) / (past - begin)[:, None]  # [K, classes]
    scores, labels = means.sort(dim=1, descending=True, stable=True)
    return labels[:, :most], scores[:, :most]
