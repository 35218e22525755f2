"""Made-up raw outputs of a network, and class scores, for tests of post-processing."""

from pathlib import Path
from typing import Any

import numpy as np

from etad.detections.class_scores import ClassScores
from etad.detections.detections import RawDetections


def view(segments: Any, scores: Any, positions: int = 8, **changes: Any) -> RawDetections:
    """A view of 10 s whose boundary maps let every position through."""
    values: dict[str, Any] = {
        "segments": np.array(segments, dtype=np.float32).reshape(-1, 2),
        "scores": np.array(scores, dtype=np.float32),
        "start": np.ones(positions, dtype=np.float32),
        "end": np.ones(positions, dtype=np.float32),
        "snippet_classes": None,
        "start_s": 0.0,
        "duration_s": 10.0,
    }
    return RawDetections(**(values | changes))


def scores_of(*values: float, videos: tuple[str, ...] = ("a",)) -> ClassScores:
    """Video-level scores, the same for all ``videos``."""
    classes = tuple(f"class{number}" for number in range(len(values)))
    return ClassScores(Path("scores.json"), classes, {video_id: np.array(values) for video_id in videos})
