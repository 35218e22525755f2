"""The whole network: snippet encoder, detector and, where wanted, the snippet classifier."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from etad.config import ClassifierConfig, Config
from etad.models.detector import Detector
from etad.models.encoders import Part, SnippetEncoder
from etad.offload.kept_prefix import KeptPrefix
from etad.offload.placement import Placement

Encoder = Callable[..., Tensor]
"""Takes clips, and what part of the network is to run, as :class:`SnippetEncoder` does."""


class SnippetClassifier(nn.Module):
    """Class scores per position, for sets in which one video holds several classes.

    A stack of residual dilated convolutions over the features. It is our addition: the published system takes its
    classes from a video-level classifier.
    """

    def __init__(self, channels: int, classes: int, config: ClassifierConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.entry = nn.Conv1d(channels, hidden, 1)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(hidden, hidden, 3, padding=2**depth, dilation=2**depth),
                nn.ReLU(inplace=True),
                nn.Conv1d(hidden, hidden, 1),
                nn.Dropout(config.dropout),
            )
            for depth in range(config.layers)
        )
        self.exit = nn.Conv1d(hidden, classes + 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``[B, channels, T]`` to logits ``[B, classes + 1, T]``; the last class is background."""
        x = self.entry(features)
        for layer in self.layers:
            x = x + layer(x)
        logits: Tensor = self.exit(x)
        return logits.float()


class Etad(nn.Module):
    """ETAD. State-dict names are the published ones (``base_detector.*``, ``feature_extractor.model.backbone.*``).

    Attributes:
        feature_extractor: the snippet encoder; None when the input is features.
        base_detector: the detector.
        snippet_classifier: None unless configured.
    """

    feature_extractor: SnippetEncoder | None
    snippet_classifier: SnippetClassifier | None

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        self.feature_extractor = None
        channels = config.data.channels
        if config.data.input == "frames":
            self.feature_extractor = SnippetEncoder(config.model.encoder, config.data.frames, config.efficiency)
            channels = self.feature_extractor.channels
        self.base_detector = Detector(channels, config.model.detector, config.efficiency)
        self.snippet_classifier = None
        if config.model.classifier is not None:
            self.snippet_classifier = SnippetClassifier(channels, classes, config.model.classifier)


def encode_snippets(
    encoder: Encoder,
    frames: Tensor,
    chunk: int,
    placement: Placement | None = None,
    prefix: KeptPrefix | None = None,
) -> Tensor:
    """Encode every snippet of a batch, ``chunk`` snippets of each video at once.

    Args:
        encoder: maps clips ``[K, 3, T, H, W]`` to ``[K, channels]``.
        frames: uint8 ``[B, N, 3, T, H, W]``; frames on the host are moved to the device chunk by chunk.
        chunk: snippets per video and call; the last chunk may be smaller.
        placement: moves frames to the device; None: they are there.
        prefix: gets what the frozen stages make of the snippets; None: it is not kept.

    Returns:
        float32 features ``[B, channels, N]``.
    """
    parts, placement = [], placement or Placement(frames.device)
    for start in range(0, frames.shape[1], chunk):
        part = placement.clips(frames, slice(start, start + chunk))
        if prefix is None:
            parts.append(encode_chunk(encoder, part))
        else:
            output = encoder(part.flatten(0, 1), Part.FROZEN)
            prefix.keep(range(start, start + part.shape[1]), output)
            parts.append(by_video(encoder(output, Part.TRAINED), len(frames)))
    return torch.cat(parts, dim=2)


def encode_chunk(encoder: Encoder, frames: Tensor) -> Tensor:
    """Encode snippets ``[B, n, 3, T, H, W]`` in one call; return float32 ``[B, channels, n]``."""
    return by_video(encoder(frames.flatten(0, 1)), len(frames))


def by_video(features: Tensor, videos: int) -> Tensor:
    """Turn features ``[B * n, channels]`` into float32 ``[B, channels, n]``."""
    return features.float().unflatten(0, (videos, -1)).transpose(1, 2)
