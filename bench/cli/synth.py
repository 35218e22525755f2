"""``etad-bench synth``: make a set to train and test on: small videos, or features for real annotations."""

from pathlib import Path

import click
from click.core import ParameterSource

from bench.cli.options import config_option, note, set_option
from etad.config import load_config
from etad.data.synthetic import DIRECTIONS, SyntheticSpec, write_dataset
from etad.data.synthetic_features import FeatureSpec, write_features

_VIDEO = SyntheticSpec()
_FEATURE = FeatureSpec()
_VIDEO_ONLY = ("size", "fps", "classes", "single_class", "workers")
_FEATURES_ONLY = (
    *("annotations", "config", "assignments", "blocked"),
    *("noise", "correlation", "length", "classifier_top1"),
)


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--videos",
    type=click.IntRange(min=1),
    help=f"How many, every third for validation [default: {_VIDEO.videos}]. "
    "Features: how many of each subset [default: all].",
)
@click.option("--seed", default=_VIDEO.seed, show_default=True, help="Seed of every draw.")
@click.option("--size", default=_VIDEO.size, show_default=True, help="Height and width in pixels.")
@click.option("--fps", default=_VIDEO.fps, show_default=True, help="Frames per second.")
@click.option("--classes", default=",".join(DIRECTIONS), show_default=True, help="Motions, separated by commas.")
@click.option(
    "--single-class",
    default=_VIDEO.single_class,
    show_default=True,
    help="Part of the videos that show one class only.",
)
@click.option("--workers", default=2, show_default=True, help="Processes that render.")
@click.option("--features", is_flag=True, help="Draw features for --annotations instead of rendering videos.")
@click.option("--annotations", type=click.Path(path_type=Path), help="Real annotation file, plain or gzipped.")
@config_option(required=False)
@set_option
@click.option("--blocked", type=click.Path(path_type=Path), help="Real list of ids to leave out (JSON).")
@click.option("--noise", default=_FEATURE.noise, show_default=True, help="Of a channel, in prototypes.")
@click.option(
    "--correlation", default=_FEATURE.correlation_s, show_default=True, help="Memory of the noise, in seconds."
)
@click.option("--length", type=click.IntRange(min=1), help="Steps of every video. Default: one for 16/15 s.")
@click.option(
    "--classifier-top1",
    default=_FEATURE.classifier_top1,
    show_default=True,
    help="Part of the test videos that the class scores get right.",
)
@click.pass_context
def synth(
    context: click.Context,
    target: Path,
    videos: int | None,
    seed: int,
    size: int,
    fps: int,
    classes: str,
    single_class: float,
    workers: int,
    features: bool,
    annotations: Path | None,
    config: str | None,
    assignments: tuple[str, ...],
    blocked: Path | None,
    noise: float,
    correlation: float,
    length: int | None,
    classifier_top1: float,
) -> None:
    """Make a synthetic set in the folder TARGET, and print the path of its annotations.

    Without --features: untrimmed videos whose actions differ by motion only (TARGET/videos/*.mp4).

    With --features --annotations FILE: feature sequences and video-level class scores for a real annotation file, where
    --config (default anet_features) looks for them. Train on them with that config and --set data.root=TARGET.

    What is finished is kept, so an interrupted call can be repeated. TARGET/SYNTHETIC.json marks the set.
    """
    for name in _VIDEO_ONLY if features else _FEATURES_ONLY:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "--" + {"assignments": "set"}.get(name, name).replace("_", "-")
            raise click.UsageError(f"{option} {'does not go with' if features else 'needs'} --features.")
    if not features:
        names = tuple(name.strip() for name in classes.split(","))
        rendered = SyntheticSpec(_VIDEO.videos if videos is None else videos, seed, size, fps, names, single_class)
        path = write_dataset(target, rendered, workers)
        validation = sum(rendered.subset(number) == "validation" for number in range(rendered.videos))
        note(f"{rendered.videos} videos: {rendered.videos - validation} for training, {validation} for validation")
        click.echo(path)
        return
    if annotations is None:
        raise click.UsageError("--features needs --annotations FILE.")
    experiment = load_config(config or "anet_features", [*assignments, f"data.root={target}"])
    if blocked is None and isinstance(experiment.data.blocked, Path):
        note("no --blocked FILE: nothing will be left out of training and evaluation")
    drawn = FeatureSpec(
        seed=seed,
        noise=noise,
        correlation_s=correlation,
        length=length,
        classifier_top1=classifier_top1,
        videos=videos,
    )
    click.echo(write_features(experiment, annotations, blocked, drawn))
