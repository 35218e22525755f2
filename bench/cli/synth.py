"""``etad-bench synth``: render a small set of videos to train and test on."""

from pathlib import Path

import click

from etad.data.synthetic import DIRECTIONS, SyntheticSpec, write_dataset

_DEFAULT = SyntheticSpec()


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--videos", default=_DEFAULT.videos, show_default=True, help="How many; every third is for validation.")
@click.option("--seed", default=_DEFAULT.seed, show_default=True, help="Seed of every draw.")
@click.option("--size", default=_DEFAULT.size, show_default=True, help="Height and width in pixels.")
@click.option("--fps", default=_DEFAULT.fps, show_default=True, help="Frames per second.")
@click.option("--classes", default=",".join(DIRECTIONS), show_default=True, help="Motions, separated by commas.")
@click.option(
    "--single-class",
    default=_DEFAULT.single_class,
    show_default=True,
    help="Part of the videos that show one class only.",
)
@click.option("--workers", default=2, show_default=True, help="Processes that render.")
def synth(
    target: Path, videos: int, seed: int, size: int, fps: int, classes: str, single_class: float, workers: int
) -> None:
    """Render untrimmed videos whose actions differ by motion only.

    Writes TARGET/videos/*.mp4 and TARGET/annotations.json, and prints the latter's path. Videos that are already there
    are kept if these options made them, so an interrupted call can be repeated.
    """
    names = tuple(name.strip() for name in classes.split(","))
    spec = SyntheticSpec(videos, seed, size, fps, names, single_class)
    annotations = write_dataset(target, spec, workers)
    validation = sum(spec.subset(number) == "validation" for number in range(videos))
    click.echo(f"{videos} videos: {videos - validation} for training, {validation} for validation", err=True)
    click.echo(annotations)
