"""``etad-bench train``: train one experiment, or all folds of a cross-validation."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.launch import is_launched, launch
from bench.cli.options import (
    config_option,
    device_option,
    gpus_option,
    load_variant,
    note,
    seed_option,
    set_option,
    variant_option,
    with_seed,
)
from etad.config import Config
from etad.data.annotations import Annotations, annotations_of
from etad.errors import ConfigError
from etad.variants import settings_without_effect

if TYPE_CHECKING:
    from etad.distributed import World


@click.command()
@config_option(required=True)
@set_option
@click.option("--out", "-o", type=click.Path(path_type=Path, file_okay=False), help="Run folder. Default: runs/NAME.")
@variant_option
@device_option
@seed_option
@gpus_option
def train(
    config: str,
    assignments: tuple[str, ...],
    out: Path | None,
    variant: str | None,
    device: str,
    seed: int | None,
    gpus: int,
) -> None:
    """Train a detector. Started again, a run goes on where it stopped.

    Prints the checkpoint's path. A config with data.folds and no data.fold trains every fold, each in its own folder.
    Several processes: --gpus N, or start this command with torchrun.
    """
    # torch is slow to import, and --help does not need it.
    from etad.distributed import join_world
    from etad.runs import parts

    experiment = load_variant(config, with_seed(assignments, seed), variant)
    folder = out or Path("runs") / experiment.name
    if gpus > 1 and not is_launched():
        _check(experiment, device, gpus)
        sys.exit(launch(gpus))
    with join_world(device) as world:
        annotations = annotations_of(experiment.data)
        for part, part_folder in parts(experiment, folder):
            _train_one(part, part_folder, world, annotations)


def _train_one(experiment: Config, folder: Path, world: "World", annotations: Annotations) -> None:
    from bench.measure.video_check import video_lines
    from etad.data.dataset import train_dataset
    from etad.train import CHECKPOINT
    from etad.train import train as train_model

    dataset = train_dataset(experiment, annotations)
    if world.is_main:
        for problem in (*dataset.problems, *settings_without_effect(experiment, world.device.type)):
            note(problem)
        if dataset.missing:
            note(f"{len(dataset.missing)} videos have no file and are left out (listed in {folder / 'missing.json'})")
        for line in video_lines(experiment, dataset):
            note(line)
        subsets = ", ".join(experiment.data.train_selection)
        note(
            f"{experiment.name}: {len(dataset)} samples of {len(dataset.videos)} videos ({subsets}), on {world.device}"
        )
    train_model(experiment, dataset, folder, world)
    if world.is_main:
        click.echo(folder / CHECKPOINT)


def _check(experiment: Config, device: str, processes: int) -> None:
    """Find a user's mistake before several processes each report it."""
    from etad.data.dataset import train_dataset
    from etad.distributed import choose_device
    from etad.runs import parts

    chosen = choose_device(device)
    if chosen.type == "cuda":
        choose_device("cuda", local_rank=processes - 1)
    if experiment.train.batch % processes:
        raise ConfigError(f"--gpus {processes}: train.batch is {experiment.train.batch}, which does not divide by it")
    train_dataset(parts(experiment, Path())[0][0])
