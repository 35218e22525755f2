"""The whole network: snippet encoder, detector and, where wanted, the snippet classifier."""

from torch import Tensor, nn

from etad.config import ClassifierConfig, Config
from etad.models.detector import Detector, DetectorOutput
from etad.models.encoders import SnippetEncoder


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


class Detection(nn.Module):
    """Everything of the network that works on features, as one module: gradients are averaged module by module."""

    def __init__(self, model: Etad) -> None:
        super().__init__()
        self.detector = model.base_detector
        self.classifier = model.snippet_classifier

    def forward(self, features: Tensor, proposals: Tensor) -> tuple[DetectorOutput, Tensor | None]:
        """Return the detector's output and, with a classifier, its logits; see there."""
        logits = None if self.classifier is None else self.classifier(features)
        return self.detector(features, proposals), logits
