"""The folder of a run: what its checkpoint says, and its folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from etad.classes import check_classes
from etad.config import Config, parse_config, with_assignments
from etad.data.annotations import Annotations
from etad.errors import DataError, NothingToDoError
from etad.models.checkpoints import load_model, read_checkpoint, state_dict_of
from etad.models.etad import Etad
from etad.notes import note
from etad.train import CHECKPOINT

PREDICTIONS = "predictions.json"
EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class KeptRun:
    """What a run's checkpoint says, without the network.

    Attributes:
        folder: where the run lives.
        checkpoint: its file.
        config: the config it was trained with, with overrides.
        classes: class names; class numbers index them.
        weights: the network's state.
    """

    folder: Path
    checkpoint: Path
    config: Config
    classes: tuple[str, ...]
    weights: Mapping[str, Tensor]


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


def read_run(folder: Path, assignments: Sequence[str] = ()) -> KeptRun:
    """Return what a run's checkpoint says. Arguments and errors are those of :func:`open_run`."""
    path = folder / CHECKPOINT
    content = read_checkpoint(path)
    config = _config(path, content, assignments)
    return KeptRun(folder, path, config, tuple(content["classes"]), state_dict_of(content, path))


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


def load_weights(
    path: Path, content: Mapping[str, Any], config: Config, annotations: Annotations | None, key: str | None = None
) -> tuple[Etad, tuple[str, ...]]:
    """Build the configured network with the weights of a checkpoint, ours or a published one.

    Args:
        path: the checkpoint.
        content: what is in it, from :func:`etad.models.checkpoints.read_checkpoint`.
        config: the experiment.
        annotations: of the data that it is used on; the names of the classes come from there if the checkpoint has
            none, as published ones. None: there are none, and nothing is compared.
        key: where in the file the weights are; see :func:`etad.models.checkpoints.state_dict_of`.

    Returns:
        model: on the CPU, in evaluation mode.
        classes: names of the class numbers.

    Raises:
        DataError: the weights do not fit, or were trained for other classes.
    """
    # Chosen once, so that the choice is told once.
    state = state_dict_of(content, path, key)
    annotated = () if annotations is None else annotations.trained_classes(config.data)
    classes = trained_classes(content)
    if classes is not None:
        if annotations is not None:
            check_classes(classes, annotated, path, annotations.path)
    elif config.model.classifier is not None:
        classes = _by_number(path, state, annotated)
    model = Etad(config, len(annotated if classes is None else classes))
    load_model(model, {"state_dict": state}, path)
    return model.eval(), annotated if classes is None else classes


def trained_classes(content: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes that a checkpoint's weights were trained for; None where it does not tell."""
    names = content.get("classes")
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _by_number(path: Path, state: Mapping[str, Tensor], annotated: tuple[str, ...]) -> tuple[str, ...]:
    """Return the data's names for the classes of weights that come without names."""
    last = state.get("snippet_classifier.exit.weight")
    # The background comes last.
    count = len(annotated) if last is None else len(last) - 1
    if count != len(annotated):
        raise DataError(
            f"{path}: holds no class names, and its classifier knows {count} classes, the data {len(annotated)}; "
            "list them in data.classes, in its order"
        )
    note(
        f"{path}: holds no class names; its {count} classes are taken to be the data's, "
        f"in this order: {_few(annotated)}"
    )
    return annotated


def _few(names: Sequence[str], most: int = 3) -> str:
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def _config(path: Path, content: Mapping[str, Any], assignments: Sequence[str]) -> Config:
    if "config" not in content or "classes" not in content:
        raise DataError(
            f"{path}: not a checkpoint of etad-bench train; give its weights with --checkpoint and --config"
        )
    return parse_config(with_assignments(content["config"], assignments), source=str(path))
