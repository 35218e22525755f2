"""A data set of random features and a config for it, small enough to train in a second."""

import json
from pathlib import Path

import numpy as np

SMALL_DETECTOR = {
    "hidden": 16,
    "groups": 1,
    "norm_groups": 4,
    "proposal_channels": 8,
    "proposal_hidden": 16,
    "head_hidden": 8,
    "bins": 8,
    "boundary_bins": 2,
}
"""Settings of a detector that trains in milliseconds."""

CONFIG = """
data:
  root: {root}
  annotations: annotations.json
  train_subsets: [training]
  test_subsets: [validation]
  folder: features
  pattern: "{{id}}.npy"
  channels: 6
  length: 16
model:
  detector: {detector}
  classifier: {{hidden: 8, layers: 2, dropout: 0.5}}
step: {{proposal_ratio: 0.5}}
train: {{batch: 2, epochs: 2, detector_lr: 1.0e-3, checkpoint_every_s: 0}}
postprocess: {{classes: snippet, boundary_filter: false}}
"""


def write_small_set(folder: Path, videos: int = 6) -> Path:
    """Write features, annotations and ``config.yaml`` into ``folder``; return the config's path."""
    random = np.random.default_rng(0)
    (folder / "features").mkdir(parents=True)
    database = {}
    for number in range(2 * videos):
        name = f"video{number}"
        np.save(folder / "features" / f"{name}.npy", random.standard_normal((20 + number, 6)).astype(np.float32))
        start = float(random.uniform(0, 5))
        database[name] = {
            "subset": "training" if number < videos else "validation",
            "duration": 10.0,
            "annotations": [{"segment": [start, start + 4.0], "label": ("run", "jump")[number % 2]}],
        }
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(root=folder, detector=json.dumps(SMALL_DETECTOR)))
    return config
