"""``etad-bench infer``: detections for a run's test set, or for plain videos."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.launch import is_launched, launch
from bench.cli.options import (
    config_option,
    device_option,
    gpus_option,
    note,
    run_option,
    set_option,
    weights_key_option,
)
from etad.classes import check_classes
from etad.config import Config, load_config
from etad.data.annotations import Annotations, annotations_of
from etad.data.video_files import list_videos
from etad.errors import NothingToDoError
from etad.files import write_json

if TYPE_CHECKING:
    from etad.distributed import World
    from etad.models.etad import Etad

    Loaded = tuple[Path, Config, Sequence[str], Etad]


@click.command()
@click.argument("source", required=False, type=click.Path(path_type=Path), metavar="[VIDEO_OR_FOLDER]")
@run_option
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights instead of a run; needs --config.")
@weights_key_option
@config_option(required=False)
@set_option
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Where the detections go (JSON).")
@click.option("--plot", type=click.Path(path_type=Path, file_okay=False), help="Folder for a timeline of each video.")
@device_option
@gpus_option
def infer(
    source: Path | None,
    run: Path | None,
    checkpoint: Path | None,
    weights_key: str | None,
    config: str | None,
    assignments: tuple[str, ...],
    output: Path | None,
    plot: Path | None,
    device: str,
    gpus: int,
) -> None:
    """Detect actions in a video, in a folder of videos, or, without either, in the test set of a run.

    The test set's detections go to predictions.json in the run's folder, whose path is printed; those of plain videos
    are printed. Both have the form of an ActivityNet submission.
    """
    if gpus > 1 and not is_launched():
        sys.exit(launch(gpus))
    # torch is slow to import, and --help does not need it.
    from etad.distributed import join_world
    from etad.runs import PREDICTIONS
    from etad.train import CHECKPOINT

    with join_world(device) as world:
        models, annotations = _models(run, checkpoint, weights_key, config, assignments, plain=source is not None)
        if source is None:
            if plot is not None:
                raise click.UsageError("--plot draws plain videos: name a video or a folder.")
            # The folds of a cross-validation share it.
            annotations = annotations or annotations_of(models[0][1].data)
            for folder, experiment, classes, model in models:
                if run is not None:
                    annotated = annotations.trained_classes(experiment.data)
                    check_classes(classes, annotated, folder / CHECKPOINT, annotations.path)
                _infer_test_set(output or folder / PREDICTIONS, experiment, classes, model, world, annotations)
            return
        folder, experiment, classes, model = models[0]
        if len(models) > 1:
            note(f"{run} is a cross-validation; using {folder.name}")
        _infer_plain(source, output, plot, experiment, classes, model, world)


def _models(
    run: Path | None,
    checkpoint: Path | None,
    weights_key: str | None,
    config: str | None,
    assignments: tuple[str, ...],
    plain: bool,
) -> tuple[list["Loaded"], Annotations | None]:
    """Return the models to detect with, and the annotations if those were needed for the names of the classes."""
    from etad.models.checkpoints import read_checkpoint
    from etad.runs import fold_folders, load_weights, open_run, trained_classes

    if run is not None and weights_key is not None:
        raise click.UsageError("--weights-key goes with --checkpoint: a run holds one set of weights.")
    if run is not None and checkpoint is None and config is None:
        opened = [open_run(folder, assignments) for folder in fold_folders(run)]
        for one in opened:
            if not one.complete:
                note(f"{one.folder}: training is not complete")
        return [(one.folder, one.config, one.classes, one.model) for one in opened], None
    if checkpoint is not None and config is not None and run is None:
        experiment = load_config(config, assignments)
        content = read_checkpoint(checkpoint)
        # Plain videos have no annotations; only weights without names, as published ones, need those of the data set.
        needed = not plain or (experiment.model.classifier is not None and trained_classes(content) is None)
        annotations = annotations_of(experiment.data) if needed else None
        model, classes = load_weights(checkpoint, content, experiment, annotations, weights_key)
        return [(Path(), experiment, classes, model)], annotations
    raise click.UsageError("Give either --run FOLDER, or --checkpoint FILE with --config NAME.")


def _infer_test_set(
    target: Path, experiment: Config, classes: Sequence[str], model: "Etad", world: "World", annotations: Annotations
) -> None:
    from bench.measure.video_check import video_lines
    from etad.data.dataset import evaluation_dataset
    from etad.infer import infer_test_set

    if world.is_main and experiment.data.input == "frames":
        for line in video_lines(experiment, evaluation_dataset(experiment, annotations)):
            note(line)
    result = infer_test_set(model, experiment, classes, world, annotations=annotations)
    if not world.is_main:
        return
    if result.missing:
        note(f"{len(result.missing)} test videos have no file and get no detection (first: {result.missing[0]})")
    write_json(target, result.submission())
    click.echo(target)


def _infer_plain(
    source: Path,
    output: Path | None,
    plot: Path | None,
    experiment: Config,
    classes: Sequence[str],
    model: "Etad",
    world: "World",
) -> None:
    from bench.measure.video_check import lines, look_at
    from etad.detections.detections import AGNOSTIC_CLASSES
    from etad.detections.submissions import submission
    from etad.infer import PlainVideos
    from etad.infer import infer as infer_videos

    if experiment.postprocess.classes == "external":
        # There is no video-level score for a video that nobody has classified.
        post = experiment.postprocess.model_copy(update={"classes": "agnostic"})
        experiment = experiment.model_copy(update={"postprocess": post})
        note("postprocess.classes is external, which plain videos have no scores for: detections are class-agnostic")
    dataset = PlainVideos(list_videos(source), experiment)
    for reason in dataset.unreadable.values():
        note(reason)
    if not dataset.videos:
        raise NothingToDoError(f"{source}: none of its {len(dataset.unreadable)} files can be decoded")
    if world.is_main:
        looks, _ = look_at({video.id: video.path for video in dataset.videos}, dataset.video_ids)
        for line in lines(looks, experiment.data.frames, source):
            note(line)
    found = infer_videos(model.to(world.device), dataset, experiment, world)
    if not world.is_main:
        return
    names = AGNOSTIC_CLASSES if experiment.postprocess.classes == "agnostic" else classes
    result: dict[str, Any] = submission(found, names, {"used": False, "details": ""})
    result["missing"] = dataset.unreadable
    if output is None:
        click.echo(json.dumps(result, indent=1))
    else:
        write_json(output, result)
        click.echo(output)
    if plot is not None:
        from etad.detections.timeline_plot import plot_timeline  # matplotlib is slow to import

        for video in dataset.videos:
            target = plot / f"{video.id}.png"
            plot_timeline(video.path, video.duration_s, found[video.id], names, target)
            note(f"timeline: {target}")
