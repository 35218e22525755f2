"""The cascade detector: features and proposals in, scores and refined proposals out (specification, section 3).

Module names are the published state-dict names.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from etad.config import DetectorConfig, EfficiencyConfig
from etad.models.linear import OneDnnSequential, onednn_linear
from etad.models.roi_align import align_projected, choose_form, roi_align_1d
from etad.segments import refine

_PUBLISHED = EfficiencyConfig()


@dataclass(frozen=True)
class StageOutput:
    """What one cascade stage says of its proposals.

    Attributes:
        segments: the proposals it was given, ``[B, K, 2]``.
        tiou: estimates of the proposals' tIoU, ``[B, K, 2]``: trained as a classification, as a regression.
        start_end: start and end offsets in proposal lengths, ``[B, K, 2]``.
        centre_width: centre offset in proposal lengths and log width ratio, ``[B, K, 2]``.
        boundary: probability that start and end are true boundaries, ``[B, K, 2]``.
        refined: the segments it makes of them, ``[B, K, 2]``, without gradient.
    """

    segments: Tensor
    tiou: Tensor
    start_end: Tensor
    centre_width: Tensor
    boundary: Tensor
    refined: Tensor


@dataclass(frozen=True)
class DetectorOutput:
    """Start and end probability per position ``[B, 2, T]``, and the output of every stage."""

    boundary_maps: Tensor
    stages: tuple[StageOutput, ...]

    @property
    def scores(self) -> Tensor:
        """Confidence ``[B, K]``: both tIoU estimates, averaged over stages, multiplied (specification, section 7)."""
        return torch.stack([stage.tiou for stage in self.stages]).mean(0).prod(-1)

    @property
    def segments(self) -> Tensor:
        """Refined segments ``[B, K, 2]``: the mean over the stages (specification, section 7)."""
        return torch.stack([stage.refined for stage in self.stages]).mean(0)


class TemporalEnhance(nn.Module):
    """Long-range context: a convolution, one LSTM in each direction, and a grouped fusion."""

    def __init__(self, channels: int, config: DetectorConfig) -> None:
        super().__init__()
        hidden, half, groups = config.hidden, config.hidden // 2, config.groups

        def block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
            convolution = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
            return nn.Sequential(convolution, nn.GroupNorm(config.norm_groups, outputs), nn.ReLU(inplace=True))

        self.layer1 = block(channels, hidden, 3)
        self.mem_f = nn.LSTM(hidden, hidden, batch_first=True)
        self.mem_b = nn.LSTM(hidden, hidden, batch_first=True)
        self.layer2_f = block(hidden, half, 3)
        self.layer2_b = block(hidden, half, 3)
        self.layer2_d = block(hidden, hidden, 3)
        self.layer3 = block(2 * hidden, hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[B, channels, T]`` to ``[B, hidden, T]``."""
        x = self.layer1(features)  # [B, hidden, T]
        sequence = x.transpose(1, 2)  # [B, T, hidden]
        forward_memory = self.mem_f(sequence)[0].transpose(1, 2)  # [B, hidden, T]
        backward_memory = self.mem_b(sequence.flip(1))[0].flip(1).transpose(1, 2)  # [B, hidden, T]
        branches = (self.layer2_f(forward_memory), self.layer2_d(x), self.layer2_b(backward_memory))
        out: Tensor = self.layer3(torch.cat(branches, dim=1))
        return out


class ProposalHead(nn.Module):
    """Score and refine proposals from the features under and around them."""

    def __init__(self, config: DetectorConfig, efficiency: EfficiencyConfig) -> None:
        super().__init__()
        channels, hidden, head = config.proposal_channels, config.proposal_hidden, config.head_hidden
        by_onednn = efficiency.linear == "onednn"
        sequential = OneDnnSequential if by_onednn else nn.Sequential
        self.bins, self.boundary_bins, self.extension = config.bins, config.boundary_bins, config.extension
        self._form, self._linear = efficiency.roi_align, onednn_linear if by_onednn else functional.linear
        self.reduce_dim_before = nn.Sequential(nn.Conv1d(config.hidden, channels, 3, padding=1), nn.ReLU(inplace=True))
        self.reduce_dim_ext = sequential(nn.Linear(channels * config.bins, hidden), nn.ReLU(inplace=True))
        self.iou_fc = _mlp(sequential, hidden, head, head, head, 2)
        self.cls_se_fc = _mlp(sequential, hidden, head, head, head, 2)
        self.reg_cw_fc = _mlp(sequential, hidden, head, head, head, 2)
        self.reg_s_fc = _mlp(sequential, channels * config.boundary_bins, hidden, head, head, head, 1)
        self.reg_e_fc = _mlp(sequential, channels * config.boundary_bins, hidden, head, head, head, 1)

    def forward(self, x: Tensor, segments: Tensor) -> StageOutput:
        """Judge ``segments`` ``[B, K, 2]`` (normalised) on features ``[B, hidden, T]``."""
        margin = (segments[..., 1:] - segments[..., :1]) * self.extension  # [B, K, 1]
        extended = torch.cat((segments[..., :1] - margin, segments[..., 1:] + margin), dim=-1)  # [B, K, 2]
        whole, start, end = self._first_layers(self.reduce_dim_before(x), extended)  # [B, K, hidden] each
        # Offsets leave autocast here: a half-precision segment is off by up to a position.
        start_end = torch.cat((self.reg_s_fc[2:](start), self.reg_e_fc[2:](end)), dim=-1).float()  # [B, K, 2]
        centre_width = self.reg_cw_fc(whole).float() / 2  # [B, K, 2]
        return StageOutput(
            segments=segments,
            tiou=self.iou_fc(whole).float().sigmoid(),
            start_end=start_end,
            centre_width=centre_width,
            boundary=self.cls_se_fc(whole).float().sigmoid(),
            refined=refine(segments, start_end.detach(), centre_width.detach()),
        )

    def _first_layers(self, features: Tensor, extended: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply RoIAlign and the layers that read its bins: all, the first few and the last few; ``[B, K, hidden]``."""
        layers = self.reduce_dim_ext, self.reg_s_fc[:2], self.reg_e_fc[:2]
        edge = self.boundary_bins
        parts = range(self.bins), range(edge), range(self.bins - edge, self.bins)
        form = choose_form(self._form, features.device.type, extended.shape[1], features.shape[2])
        if form == "projected":
            whole, start, end = (
                self._projected(features, extended, layer[0], part) for layer, part in zip(layers, parts, strict=True)
            )
            return whole, start, end
        pooled = roi_align_1d(features, extended, self.bins, form)  # [B, K, C, bins]
        whole, start, end = (
            layer(pooled[..., part.start : part.stop].flatten(2)) for layer, part in zip(layers, parts, strict=True)
        )
        return whole, start, end

    def _projected(self, features: Tensor, extended: Tensor, layer: nn.Module, part: range) -> Tensor:
        assert isinstance(layer, nn.Linear)
        # [outputs, channels * bins] -> [bins * outputs, channels]
        weight = layer.weight.unflatten(1, (features.shape[1], len(part))).permute(2, 0, 1).flatten(0, 1)
        # [B, T, bins, outputs]
        table = self._linear(features.transpose(1, 2), weight).unflatten(2, (len(part), -1))
        return align_projected(table, extended, self.bins, part).add_(layer.bias).relu_()


class Detector(nn.Module):
    """ETAD's detector over features ``[B, channels, T]``.

    Args:
        channels: width of the features.
        config: its sizes.
        efficiency: how it computes; parameters and their names are the same in all forms.
    """

    def __init__(self, channels: int, config: DetectorConfig, efficiency: EfficiencyConfig = _PUBLISHED) -> None:
        super().__init__()
        hidden, groups = config.hidden, config.groups
        self.temporal_enhance = TemporalEnhance(channels, config)
        self.tem = nn.Sequential(
            nn.Conv1d(hidden, hidden, 3, padding=1, groups=groups), nn.ReLU(inplace=True), nn.Conv1d(hidden, 2, 1)
        )
        self.stage_conv = nn.ModuleList(
            nn.Sequential(nn.Conv1d(hidden, hidden, 3, padding=1, groups=groups), nn.ReLU(inplace=True))
            for _ in config.stage_tiou
        )
        self.stage_pem = nn.ModuleList(ProposalHead(config, efficiency) for _ in config.stage_tiou)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor, proposals: Tensor) -> DetectorOutput:
        """Detect.

        Args:
            features: ``[B, channels, T]``.
            proposals: ``[B, K, 2]`` start and end in normalised time. Every stage refines the one before; refined
                segments are never clipped.
        """
        x = self.temporal_enhance(features)  # [B, hidden, T]
        boundary_maps = self.tem(x).float().sigmoid()  # [B, 2, T]
        stages: list[StageOutput] = []
        for convolution, head in zip(self.stage_conv, self.stage_pem, strict=True):
            # Stages share x; only the proposals cascade.
            output: StageOutput = head(x + convolution(x), proposals)
            stages.append(output)
            proposals = output.refined
        return DetectorOutput(boundary_maps, tuple(stages))


def _mlp(sequential: type[nn.Sequential], *widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
    return sequential(*layers[:-1])
