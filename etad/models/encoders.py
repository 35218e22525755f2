"""Snippet encoders: a clip of frames in, one feature vector out.

Every network is the library's own (torchvision); this module only removes its head, names its stages (for freezing and
recomputation) and pools. ``r2plus1d_34_tsp`` is the published one (specification, section 2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import video
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet

from etad.config import EfficiencyConfig, EncoderConfig, FramesConfig
from etad.data.transforms import PIXEL_MEAN, PIXEL_STD
from etad.models.convolutions import replace_convolutions

Stage = Callable[[Tensor], Tensor]
TokenGrid = tuple[int, int, int]
"""Tokens along time, height and width."""
PUBLISHED_FORM = EfficiencyConfig()


@dataclass(frozen=True)
class Backbone:
    """A network cut into stages. ``stages[0]`` is the stem; freezing and recomputation go stage by stage.

    Attributes:
        module: owns every parameter; its names are those of the published files.
        stages: applied in order to normalised clips ``[K, 3, T, H, W]``.
        stage_modules: the modules of each stage.
        pool: turns the last stage's output into ``[K, channels]``.
        channels: width of the feature.
    """

    module: nn.Module
    stages: tuple[Stage, ...]
    stage_modules: tuple[tuple[nn.Module, ...], ...]
    pool: Callable[[Tensor], Tensor]
    channels: int


class Part(StrEnum):
    """What of an encoder runs.

    ``FROZEN`` is what no training changes: normalisation of the pixels and the frozen stages. ``TRAINED`` takes its
    output, and is the rest.
    """

    WHOLE = "whole"
    FROZEN = "frozen"
    TRAINED = "trained"


class SnippetEncoder(nn.Module):
    """Encode snippets into features; frozen and normalisation-frozen as configured.

    The encoder never trains dropout or stochastic depth: the sampled backward pass has to meet the same features again
    (specification, section 5). With ``norm_eval`` BatchNorm, too, keeps its stored statistics.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, config: EncoderConfig, frames: FramesConfig, efficiency: EfficiencyConfig = PUBLISHED_FORM
    ) -> None:
        super().__init__()
        self._backbone = _BUILDERS[config.name](frames)
        # The published files say feature_extractor.model.backbone.*
        self.model = nn.ModuleDict({"backbone": self._backbone.module})
        self.channels = self._backbone.channels
        self.norm_eval = config.norm_eval
        self.checkpointing = config.checkpointing
        self._frozen = config.frozen_stages + 1 if config.frozen_stages else 0
        for modules in self._backbone.stage_modules[: self._frozen]:
            for module in modules:
                module.requires_grad_(False)
        if efficiency.fold_norm or efficiency.planar_convolutions:
            replace_convolutions(self._backbone.module, efficiency.fold_norm, efficiency.planar_convolutions)
        self._memory_format = torch.contiguous_format
        if efficiency.channels_last:
            self._memory_format = torch.channels_last_3d
            for parameter in self.model.parameters():
                if parameter.dim() == 5:
                    parameter.data = parameter.data.contiguous(memory_format=self._memory_format)
        for name, value in (("pixel_mean", PIXEL_MEAN), ("pixel_std", PIXEL_STD)):
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1, 1), persistent=False)
        self.train()

    def train(self, mode: bool = True) -> "SnippetEncoder":
        """Set the mode of BatchNorm unless ``norm_eval``; everything else stays in evaluation mode."""
        super().train(False)
        self.training = mode
        if mode and not self.norm_eval:
            for module in self.modules():
                if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)):
                    module.train()
        return self

    def forward(self, x: Tensor, part: Part = Part.WHOLE) -> Tensor:
        """Encode clips, or a part of the way.

        Args:
            x: uint8 RGB ``[K, 3, T, H, W]``; for ``TRAINED`` the output of ``FROZEN``.
            part: what runs.

        Returns:
            Features ``[K, channels]``; for ``FROZEN`` what ``TRAINED`` takes, of K rows.
        """
        stages = self._backbone.stages
        if part is Part.TRAINED:
            stages = stages[self._frozen :]
        else:
            x = x.to(torch.float32, memory_format=self._memory_format).sub_(self.pixel_mean).div_(self.pixel_std)
            if part is Part.FROZEN:
                stages = stages[: self._frozen]
        for stage in stages:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(stage, x, use_reentrant=False)
            else:
                x = stage(x)
        return x if part is Part.FROZEN else self._backbone.pool(x)


class TspConv2Plus1D(Conv2Plus1D):
    """A (2+1)D convolution that computes its middle width from its own in and out planes.

    torchvision gives both convolutions of a block the width of the first, which does not fit the TSP weights.
    """

    def __init__(self, in_planes: int, out_planes: int, midplanes: int, stride: int = 1, padding: int = 1) -> None:
        own_midplanes = (in_planes * out_planes * 27) // (in_planes * 9 + 3 * out_planes)
        super().__init__(in_planes, out_planes, own_midplanes, stride, padding)


class TinyBlock(nn.Sequential):
    """(2+1)D convolution, GroupNorm, ReLU. GroupNorm needs no stored statistics, so training from scratch is exact."""

    def __init__(self, in_planes: int, out_planes: int, stride: int, time_stride: int) -> None:
        super().__init__(
            nn.Conv3d(in_planes, out_planes, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.GroupNorm(4, out_planes),
            nn.ReLU(inplace=True),
            nn.Conv3d(out_planes, out_planes, (3, 1, 1), (time_stride, 1, 1), (1, 0, 0), bias=False),
            nn.GroupNorm(4, out_planes),
            nn.ReLU(inplace=True),
        )


def _mean_over_time_and_space(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3, 4))


def _cut_resnet(net: VideoResNet) -> Backbone:
    del net.avgpool, net.fc
    stages = (net.stem, net.layer1, net.layer2, net.layer3, net.layer4)
    return Backbone(net, stages, tuple((stage,) for stage in stages), _mean_over_time_and_space, 512)


def _r2plus1d_34_tsp(frames: FramesConfig) -> Backbone:
    net = VideoResNet(BasicBlock, [TspConv2Plus1D] * 4, [3, 4, 6, 3], R2Plus1dStem)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps, module.momentum = 1e-3, 0.9
    return _cut_resnet(net)


def _s3d(frames: FramesConfig) -> Backbone:
    net = video.s3d()
    del net.avgpool, net.classifier
    # The pooling layers divide the network; the library's own pooling wants 224 pixels, the mean takes any size.
    cuts = (0, 1, 5, 8, 14, len(net.features))
    stages = tuple(net.features[start:end] for start, end in pairwise(cuts))
    return Backbone(net, stages, tuple((stage,) for stage in stages), _mean_over_time_and_space, 1024)


def _swin3d_t(frames: FramesConfig) -> Backbone:
    net = video.swin3d_t()
    del net.avgpool, net.head
    # features: blocks and patch merging in turn; a stage is a merging and the blocks after it.
    bodies = (net.features[0:1], net.features[1:3], net.features[3:5], net.features[5:7])
    stages = (net.patch_embed, *bodies)
    modules = tuple((stage,) for stage in stages)
    return Backbone(net, stages, modules, lambda x: net.norm(x).mean(dim=(1, 2, 3)), 768)


def _mvit_v2_s(frames: FramesConfig) -> Backbone:
    net = video.mvit_v2_s()
    del net.head
    # The network is built for 16x224x224, but its relative positions are interpolated: any token grid will do.
    with torch.device("meta"):
        probe = nn.Conv3d(3, 1, net.conv_proj.kernel_size, net.conv_proj.stride, net.conv_proj.padding)
        time, height, width = probe(torch.empty(3, frames.clip_frames, frames.crop, frames.crop)).shape[1:]
    grid = (time, height, width)

    def stem(x: Tensor) -> Tensor:
        return net.pos_encoding(net.conv_proj(x).flatten(2).transpose(1, 2))

    stages: list[Stage] = [stem]
    modules: list[tuple[nn.Module, ...]] = [(net.conv_proj, net.pos_encoding)]
    for start, end in ((0, 1), (1, 3), (3, 14), (14, 16)):
        blocks = tuple(net.blocks[start:end])
        stage, grid = _token_stage(blocks, grid)
        stages.append(stage)
        modules.append(blocks)
    return Backbone(net, tuple(stages), tuple(modules), lambda x: net.norm(x)[:, 0], 768)


def _token_stage(blocks: Sequence[Any], grid: TokenGrid) -> tuple[Stage, TokenGrid]:
    """Bind token blocks to the token grid they get; return the stage and the grid it leaves."""
    after = grid
    for block in blocks:
        pool = block.attn.pool_q
        if pool is not None:
            # The pooling is padded, so that a stride divides a size rounding up.
            time, height, width = (-(-size // step) for size, step in zip(after, pool.pool.stride, strict=True))
            after = (time, height, width)

    def stage(x: Tensor) -> Tensor:
        size = grid
        for block in blocks:
            x, size = block(x, size)
        return x

    return stage, after


def _tiny(frames: FramesConfig) -> Backbone:
    net = nn.Sequential(
        TinyBlock(3, 8, stride=2, time_stride=1),
        TinyBlock(8, 16, stride=2, time_stride=2),
        TinyBlock(16, 32, stride=2, time_stride=2),
    )
    return Backbone(net, tuple(net), tuple((block,) for block in net), _mean_over_time_and_space, 32)


_BUILDERS: dict[str, Callable[[FramesConfig], Backbone]] = {
    "r2plus1d_34_tsp": _r2plus1d_34_tsp,
    "r2plus1d_18": lambda frames: _cut_resnet(video.r2plus1d_18()),
    "r3d_18": lambda frames: _cut_resnet(video.r3d_18()),
    "mc3_18": lambda frames: _cut_resnet(video.mc3_18()),
    "s3d": _s3d,
    "mvit_v2_s": _mvit_v2_s,
    "swin3d_t": _swin3d_t,
    "tiny": _tiny,
}
