"""Accuracy of one experiment: train, infer and score it, and keep what came out as a record."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.environment import collect_environment, device_slug
from bench.record import Metric, Record
from etad.config import Config
from etad.data.dataset import train_dataset
from etad.distributed import World
from etad.files import write_json
from etad.infer import infer_test_set
from etad.models.checkpoints import read_checkpoint
from etad.runs import EVALUATION, PREDICTIONS, parts
from etad.scoring import mean_record, score
from etad.train import CHECKPOINT, train


def measure_accuracy(config: Config, folder: Path, world: World, command: str) -> Record:
    """Train, infer and score an experiment (every fold of it), and return the record.

    What a run folder already holds is not done again: training goes on from its checkpoint.

    Args:
        config: the experiment.
        folder: where its run lives.
        world: the process it runs in.
        command: the command line that repeats this.

    Raises:
        UserError: the data or the folder cannot be used.
    """
    started_at, began = datetime.now(UTC), time.monotonic()
    records, train_s, infer_s = [], [], []
    for part, part_folder in parts(config, folder):
        dataset = train_dataset(part)
        model = train(part, dataset, part_folder, world)
        train_s.append(float(read_checkpoint(part_folder / CHECKPOINT)["trained_s"]))
        infer_began = time.monotonic()
        detected = infer_test_set(model, part, dataset.classes, world)
        infer_s.append(time.monotonic() - infer_began)
        write_json(part_folder / PREDICTIONS, detected.submission())
        result = score(part_folder / PREDICTIONS, part).to_record()
        write_json(part_folder / EVALUATION, result)
        records.append(result)
    summary = mean_record(records)
    environment = collect_environment(config.train.seed)
    return Record(
        status="ok",
        kind="measured",
        suite="accuracy",
        device=device_slug(environment),
        config=config.resolved(),
        measurement={},
        metrics={
            "average_mAP": _over_folds([record["average_mAP"] for record in records]),
            **{
                f"mAP_at_tiou_{tiou}": _over_folds([record["mAP_by_tiou"][tiou] for record in records])
                for tiou in summary["mAP_by_tiou"]
            },
            "train_s": Metric(value=sum(train_s), unit="s", samples=tuple(train_s)),
            "infer_s": Metric(value=sum(infer_s), unit="s", samples=tuple(infer_s)),
        },
        environment=environment.model_dump(mode="json"),
        command=command,
        started_at=started_at,
        duration_s=time.monotonic() - began,
    )


def _over_folds(values: Sequence[float]) -> Metric:
    return Metric(value=float(np.mean(values)), unit="1", samples=tuple(values), method="ActivityNet protocol")
