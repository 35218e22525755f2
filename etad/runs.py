"""The folder of a run: what its checkpoint says, and its folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etad.config import Config, parse_config, with_assignments
from etad.errors import DataError, NothingToDoError
from etad.models.checkpoints import load_model, read_checkpoint
from etad.models.etad import Etad
from etad.train import CHECKPOINT

PREDICTIONS = "predictions.json"
EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class TrainedRun:
    """A run's checkpoint: the config it was trained with, its classes and its weights.

    Attributes:
        folder: where the run lives.
        config: the config, with overrides.
        classes: class names; class numbers index them.
        model: on the CPU, in evaluation mode.
        complete: whether every epoch was trained.
    """

    folder: Path
    config: Config
    classes: tuple[str, ...]
    model: Etad
    complete: bool


def fold_folders(folder: Path) -> list[Path]:
    """Return the folders of a run: its folds' if it is a cross-validation, otherwise itself.

    Raises:
        NothingToDoError: there is no checkpoint.
    """
    if (folder / CHECKPOINT).is_file():
        return [folder]
    folds = sorted(path.parent for path in folder.glob(f"fold*/{CHECKPOINT}"))
    if not folds:
        raise NothingToDoError(f"{folder}: holds no {CHECKPOINT}; train first: etad-bench train --out {folder}")
    return folds


def parts(config: Config, folder: Path) -> list[tuple[Config, Path]]:
    """Return the runs, each with its folder, that an experiment consists of: itself, or one for each fold."""
    data = config.data
    if not data.folds or data.fold is not None:
        return [(config, folder)]
    return [
        (config.model_copy(update={"data": data.model_copy(update={"fold": fold})}), folder / f"fold{fold}")
        for fold in range(1, len(data.folds) + 1)
    ]


def run_config(folder: Path, assignments: Sequence[str] = ()) -> Config:
    """Return the config that a run's checkpoint holds, with overrides. Raises as :func:`open_run`."""
    return _config(folder / CHECKPOINT, read_checkpoint(folder / CHECKPOINT), assignments)


def open_run(folder: Path, assignments: Sequence[str] = ()) -> TrainedRun:
    """Load a run's checkpoint.

    Args:
        folder: the folder that training wrote.
        assignments: ``key=value`` overrides of its config.

    Raises:
        DataError: the checkpoint is missing, damaged, or not one that ``etad-bench train`` wrote.
        ConfigError: an override does not fit.
    """
    path = folder / CHECKPOINT
    content = read_checkpoint(path)
    config = _config(path, content, assignments)
    classes = tuple(content["classes"])
    model = Etad(config, len(classes))
    load_model(model, content, path)
    return TrainedRun(folder, config, classes, model.eval(), content["epoch"] >= config.train.epochs)


def load_weights(path: Path, config: Config, classes: Sequence[str]) -> Etad:
    """Build the configured network with the weights of a checkpoint, ours or a published one, on the CPU.

    Raises:
        DataError: the file is missing, damaged or does not fit.
    """
    model = Etad(config, len(classes))
    load_model(model, read_checkpoint(path), path)
    return model.eval()


def _config(path: Path, content: Mapping[str, Any], assignments: Sequence[str]) -> Config:
    if "config" not in content or "classes" not in content:
        raise DataError(
            f"{path}: not a checkpoint of etad-bench train; give its weights with --checkpoint and --config"
        )
    return parse_config(with_assignments(content["config"], assignments), source=str(path))
