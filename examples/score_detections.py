"""From a network's raw proposals to detections and their mAP, in numpy alone: bring your own detector.

python examples/score_detections.py
"""

import argparse
from collections.abc import Sequence

import numpy as np

from etad.config import PostprocessConfig
from etad.detections.detections import RawDetections
from etad.detections.postprocess import to_detections
from etad.evaluation.average_precision import evaluate, format_table

CLASSES, DURATION_S, POSITIONS = ("run", "jump"), 60.0, 32


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--proposals", type=int, default=200)
    chosen = parser.parse_args(arguments)
    random = np.random.default_rng(0)
    config = PostprocessConfig(classes="snippet", boundary_filter=False, classes_per_segment=1)

    truth, detections = {}, {}
    for number in range(chosen.videos):
        name, label = f"video{number}", number % 2
        start_s = random.uniform(5, 30)
        truth[name] = np.array([[start_s, start_s + 20]]), np.array([label])
        # What your network says of a video, in parts of its length; here: the truth, more or less blurred.
        blur = random.normal(0, 0.15, (chosen.proposals, 2))
        view = RawDetections(
            segments=np.sort(truth[name][0] / DURATION_S + blur, axis=1),
            scores=np.exp(-np.abs(blur).sum(axis=1)),
            start=np.zeros(POSITIONS),
            end=np.zeros(POSITIONS),
            snippet_classes=np.tile(np.eye(2)[label], (POSITIONS, 1)),
            start_s=0.0,
            duration_s=DURATION_S,
        )
        detections[name] = to_detections(name, [view], DURATION_S, config)

    print(f"{sum(map(len, detections.values()))} detections after soft-NMS")
    print(format_table(evaluate(truth, detections, CLASSES)))


if __name__ == "__main__":
    main()
