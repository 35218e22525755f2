"""Accuracy of one experiment: train, infer and score it, and keep what came out as a record."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from torch.cuda import get_device_name

from bench.cells import Cell
from bench.machine.environment import Environment, collect_environment, device_meant, device_slug
from bench.machine.processes import Outcome
from bench.measure.data_check import DataCheck, check_data
from bench.published.reproduction import CLASSIFIER, SYNTHETIC, VERDICT, judge_reproduction
from bench.records.draft import Asked, draft
from bench.records.inputs import input_findings
from bench.records.record import Finding, Metric, Metrics, Record
from etad.config import Config
from etad.data.annotations import Annotations, annotations_of
from etad.data.dataset import VideoDataset, train_dataset
from etad.data.synthetic_mark import synthetic_text
from etad.distributed import World
from etad.errors import ConfigError, DataError
from etad.evaluation.scoring import Submission, mean_record
from etad.files import write_json
from etad.infer import infer_test_set
from etad.inputs import Inputs, experiment_inputs, training_inputs
from etad.loss_curves import read_losses
from etad.models.checkpoints import read_checkpoint
from etad.models.etad import Etad
from etad.notes import note
from etad.runs import EVALUATION, PREDICTIONS, load_weights, parts
from etad.train import CHECKPOINT, LOSSES, data_changes, train

SUITE = "accuracy"
DETECTIONS = "detections.jsonl"
"""Detections as they come, so that inference resumes; see :class:`etad.detections.detection_log.DetectionLog`."""


@dataclass(frozen=True)
class Entry:
    """Where a reproduction begins: by training (neither is given), with trained weights, or with detections.

    Attributes:
        checkpoint: the file of trained weights.
        predictions: the submission file.
        weights_key: where in the checkpoint the weights are; None: the moving average, if any.
    """

    checkpoint: Path | None = None
    predictions: Path | None = None
    weights_key: str | None = None

    def check(self, config: Config) -> None:
        """Refuse what cannot be.

        Raises:
            ConfigError: one file was given for a cross-validation, which has one for every fold.
            DataError: the file is not there.
        """
        given = self.checkpoint or self.predictions
        if given is not None and config.data.folds and config.data.fold is None:
            raise ConfigError(f"{given}: is of one fold, but {config.name} has {len(config.data.folds)}: set data.fold")
        self._check_file()

    def inputs(self, config: Config, annotations: Annotations) -> Inputs:
        """Return what the experiment reads of its data, all folds together; see :func:`etad.inputs.experiment_inputs`.

        Raises:
            NothingToDoError: a subset has no video.
        """
        folds = [part for part, _ in parts(config, Path())]
        detected = self.predictions is None
        return experiment_inputs(folds, annotations, trained=detected and self.checkpoint is None, detected=detected)

    def _check_file(self) -> None:
        given = self.checkpoint or self.predictions
        if given is not None and not given.is_file():
            raise DataError(f"{given}: no such file")

    def measurement(self) -> dict[str, str]:
        """Return what tells the record's cell apart from one that was trained: the file's name and content.

        Raises:
            DataError: the file is not there.
        """
        self._check_file()
        named = {"checkpoint": self.checkpoint, "predictions": self.predictions}
        keyed = {} if self.weights_key is None else {"weights_key": self.weights_key}
        return keyed | {
            key: value
            for name, path in named.items()
            if path is not None
            for key, value in ((name, path.name), (f"{name}_sha256", _sha256(path)))
        }


TRAINED = Entry()


@dataclass
class _Part:
    """What came out of one part of an experiment: the whole of it, or a fold."""

    result: dict[str, Any]
    classifier: str
    evaluate_s: float
    counts: dict[str, int]
    problems: tuple[str, ...]
    infer_s: float | None = None
    train_s: float | None = None
    epochs_s: list[float] = field(default_factory=list)
    ratios_used: dict[str, list[float]] = field(default_factory=dict)


def check_parts(config: Config, files: int | None, annotations: Annotations | None = None) -> list[DataCheck]:
    """Check the data of every fold. Files are opened for the first one only: together the folds have the same.

    Args:
        config: the experiment.
        files: see :func:`bench.measure.data_check.check_data`.
        annotations: those of ``config.data``, which its folds share; None: they are read.

    Raises:
        UserError: the data cannot be used at all.
    """
    annotations = annotations or annotations_of(config.data)
    folds = [part for part, _ in parts(config, Path())]
    return [check_data(part, files if number == 0 else 0, annotations) for number, part in enumerate(folds)]


def asked(entry: Entry, environment: Environment, device_name: str) -> Asked:
    """Return what is asked of an experiment that begins at ``entry``, on the machine described."""
    return Asked(SUITE, "measured", {**entry.measurement()}, device_meant(environment, device_name))


def measure_accuracy(
    cell: Cell,
    folder: Path,
    world: World,
    entry: Entry = TRAINED,
    checks: Sequence[DataCheck] | None = None,
    annotations: Annotations | None = None,
) -> Record:
    """Train, infer and score an experiment (every fold of it), and return the record.

    What a run folder already holds is not done again: training goes on from its checkpoint, inference from the videos
    that it has done with the same weights.

    Args:
        cell: the experiment, and the command line that repeats this.
        folder: where its run lives.
        world: the process it runs in.
        entry: where to begin.
        checks: of the data, by fold; None: look now, without opening files.
        annotations: those of ``config.data``; None: they are read.

    Raises:
        UserError: the data or the folder cannot be used.
    """
    config, started_at, began = cell.config, datetime.now(UTC), time.monotonic()
    entry.check(config)
    annotations = annotations or annotations_of(config.data)
    if checks is None:
        checks = [] if entry.predictions else check_parts(config, 0, annotations)
    if errors := [error for check in checks for error in check.errors]:
        raise DataError("; ".join(dict.fromkeys(errors)))
    # Before anything is read: what changes meanwhile is another input.
    inputs = entry.inputs(config, annotations)
    outcomes = [_run(part, part_folder, world, entry, annotations) for part, part_folder in parts(config, folder)]
    environment = collect_environment(config.train.seed)
    synthetic = synthetic_text(config.data.root)
    warnings = [*(text for check in checks for text in check.warnings), *(p for one in outcomes for p in one.problems)]
    device = device_slug(environment, get_device_name(world.device) if world.device.type == "cuda" else None)
    question = asked(entry, environment, world.device.type).on(device)
    done = Outcome("ok", outcomes, "", started_at, time.monotonic() - began)
    record = draft(cell, done, question, environment).done(
        {**_accuracy(outcomes), **_times(outcomes, entry), **_counts(outcomes), **_data(checks)},
        findings={
            CLASSIFIER: Finding(verdict=", ".join(dict.fromkeys(one.classifier for one in outcomes))),
            **({} if synthetic is None else {SYNTHETIC: Finding(verdict=synthetic)}),
            **input_findings(inputs),
        },
        warnings=dict.fromkeys(warnings),
    )
    judged = judge_reproduction([record])
    verdict = Finding(verdict=judged.word, why=judged.why)
    return record.model_copy(update={"findings": record.findings | {VERDICT: verdict}})


def _run(part: Config, folder: Path, world: World, entry: Entry, annotations: Annotations) -> _Part:
    if entry.predictions is not None:
        return _score(entry.predictions, part, "not said in the submission", annotations)
    if entry.checkpoint is not None:
        content = read_checkpoint(entry.checkpoint)
        model, classes = load_weights(entry.checkpoint, content, part, annotations, entry.weights_key)
        return _infer_and_score(model, classes, part, folder, world, annotations)
    dataset = train_dataset(part, annotations)
    _set_aside_stale(part, folder, dataset)
    model = train(part, dataset, folder, world)
    outcome = _infer_and_score(model, dataset.classes, part, folder, world, annotations)
    content = read_checkpoint(folder / CHECKPOINT)
    outcome.train_s = float(content["trained_s"])
    outcome.epochs_s = [float(value) for value in content.get("epochs_s", ())]
    outcome.ratios_used = _ratios_used(folder / LOSSES)
    return outcome


def _set_aside_stale(part: Config, folder: Path, dataset: VideoDataset) -> None:
    """Rename the folder of a run that was trained on other data; nobody's hours of training are deleted."""
    if not (folder / CHECKPOINT).is_file():
        return
    content = read_checkpoint(folder / CHECKPOINT)
    differing = data_changes(content, dataset.classes, training_inputs(part, dataset.selected))
    if not differing:
        return
    aside = next(
        path for number in count(1) if not (path := folder.with_name(f"earlier-{number}-{folder.name}")).exists()
    )
    folder.rename(aside)
    note(f"{folder}: {differing}, changed since it was trained; trained again, the earlier run is {aside}")


def _infer_and_score(
    model: Etad,
    classes: Sequence[str],
    part: Config,
    folder: Path,
    world: World,
    annotations: Annotations,
) -> _Part:
    detected = infer_test_set(model, part, classes, world, folder / DETECTIONS, annotations)
    write_json(folder / PREDICTIONS, detected.submission())
    outcome = _score(folder / PREDICTIONS, part, part.postprocess.classes, annotations, classes)
    write_json(folder / EVALUATION, outcome.result)
    outcome.infer_s = detected.spent_s
    return outcome


def _score(
    predictions: Path, part: Config, classes_from: str, annotations: Annotations, classes: Sequence[str] | None = None
) -> _Part:
    submission = Submission.read(predictions, part, annotations, classes)
    began = time.perf_counter()
    scored = submission.score()
    evaluate_s = time.perf_counter() - began
    counts = scored.evaluation.counts
    return _Part(
        result=scored.to_record(),
        classifier=submission.external_data or classes_from,
        evaluate_s=evaluate_s,
        counts={
            "test_videos": counts.videos,
            "test_videos_without_detections": counts.videos_without_detections,
            "test_actions": counts.instances,
            "test_classes": counts.classes,
            "detections": counts.detections,
            "detections_in_unknown_videos": counts.unknown_video,
            "detections_of_unknown_classes": counts.unknown_class,
        },
        problems=scored.problems,
    )


def _accuracy(outcomes: Sequence[_Part]) -> Metrics:
    results = [one.result for one in outcomes]
    return {
        "average_mAP": _over_folds([result["average_mAP"] for result in results]),
        **{
            f"mAP_at_tiou_{tiou}": _over_folds([result["mAP_by_tiou"][tiou] for result in results])
            for tiou in mean_record(results)["mAP_by_tiou"]
        },
    }


def _times(outcomes: Sequence[_Part], entry: Entry) -> Metrics:
    """Return what the stages took, summed over the folds; a stage that was not gone through is null."""
    untrained = None if entry == TRAINED else f"not trained: begun with {entry.checkpoint or entry.predictions}"
    trained_s = [one.train_s for one in outcomes if one.train_s is not None]
    epochs_s = [value for one in outcomes for value in one.epochs_s]
    inferred_s = [one.infer_s for one in outcomes if one.infer_s is not None]
    evaluated_s = [one.evaluate_s for one in outcomes]
    return {
        "train_s": Metric(
            value=sum(trained_s) if trained_s else None, unit="s", reason=untrained, samples=tuple(trained_s)
        ),
        "epoch_s": Metric(
            value=float(np.median(epochs_s)) if epochs_s else None,
            unit="s",
            reason=None if epochs_s else untrained or "the checkpoint does not tell",
            samples=tuple(epochs_s),
            method="median over the epochs",
        ),
        "infer_s": Metric(
            value=sum(inferred_s) if inferred_s else None,
            unit="s",
            reason=None if inferred_s else f"not inferred: begun with {entry.predictions}",
            samples=tuple(inferred_s),
        ),
        "evaluate_s": Metric(
            value=sum(evaluated_s), unit="s", samples=tuple(evaluated_s), method="without reading the files"
        ),
        **{
            name: _mean([ratio for one in outcomes for ratio in one.ratios_used.get(name, ())], untrained)
            for name in ("snippet_ratio_used", "proposal_ratio_used")
        },
    }


def _mean(ratios: Sequence[float], reason: str | None) -> Metric:
    return Metric(value=float(np.mean(ratios)) if ratios else None, unit="1", reason=reason, method="mean over steps")


def _counts(outcomes: Sequence[_Part]) -> Metrics:
    return {
        name: Metric(value=sum(one.counts[name] for one in outcomes), unit="1", exact=not name.startswith("detect"))
        for name in outcomes[0].counts
    }


def _data(checks: Sequence[DataCheck]) -> Metrics:
    """Return the metrics of the data checks; those of several folds are added up, ratios averaged."""
    by_fold = [check.metrics() for check in checks]
    result = {}
    for name in by_fold[0] if by_fold else ():
        values = [metrics[name].value for metrics in by_fold if name in metrics]
        numbers = [value for value in values if value is not None]
        total = sum(numbers)
        result[name] = Metric(value=total / len(numbers) if name.endswith("_ratio") else total, unit="1", exact=True)
    return result


def _over_folds(values: Sequence[float]) -> Metric:
    return Metric(value=float(np.mean(values)), unit="1", samples=tuple(values), method="ActivityNet protocol")


def _ratios_used(path: Path) -> dict[str, list[float]]:
    """Return the ratios of snippets and proposals that every training step really used."""
    header, rows = read_losses(path)
    places = {name: header.index(name) for name in ("snippet_ratio", "proposal_ratio") if name in header}
    return {f"{name}_used": [float(row[place]) for row in rows] for name, place in places.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
