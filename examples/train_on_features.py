"""Train ETAD on features from Python, detect actions in the test set and score them.

The features are synthetic, drawn for made-up annotations: the mAP shows that the code runs, and nothing else.

python examples/train_on_features.py runs/example
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

from etad.config import load_config
from etad.data.dataset import evaluation_dataset, train_dataset
from etad.data.synthetic_features import FeatureSpec, write_features
from etad.distributed import alone
from etad.evaluation.scoring import score
from etad.files import write_json
from etad.infer import infer_test_set
from etad.train import train


def made_up_annotations(path: Path, videos: int) -> None:
    """Write an annotation file in the form of ActivityNet: one action a video, three of four videos for training."""
    chance, database = random.Random(0), {}
    for number in range(videos):
        start = chance.uniform(2, 20)
        action = {"segment": [start, start + chance.uniform(10, 30)], "label": chance.choice(["run", "jump"])}
        subset = "validation" if number % 4 == 3 else "training"
        database[f"video{number}"] = {"subset": subset, "duration": 60.0, "annotations": [action]}
    path.write_text(json.dumps({"database": database}))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where data, weights and detections go")
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--set", action="append", default=[], help="a setting, as in train.epochs=3")
    chosen = parser.parse_args(arguments)

    chosen.folder.mkdir(parents=True, exist_ok=True)
    made_up_annotations(chosen.folder / "made_up.json", chosen.videos)
    config = load_config("anet_features", [f"data.root={chosen.folder / 'data'}", "data.length=32", *chosen.set])
    write_features(config, chosen.folder / "made_up.json", None, FeatureSpec(noise=2.0))

    world, training = alone(), train_dataset(config)
    print(f"{len(training)} videos to train on, {len(evaluation_dataset(config))} to test, classes {training.classes}")
    model = train(config, training, chosen.folder / "run", world)  # started again, it goes on where it stopped
    found = infer_test_set(model, config, training.classes, world)
    write_json(chosen.folder / "detections.json", found.submission())
    print(f"average mAP {score(chosen.folder / 'detections.json', config).evaluation.average_mAP:.4f}")


if __name__ == "__main__":
    main()
