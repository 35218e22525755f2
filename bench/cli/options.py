"""Options that several commands share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from bench.cells import KNOBS
from bench.machine.datasheets import HardwareProfile, find_profiles
from etad.config import Config, load_config
from etad.files import write_text
from etad.variants import VARIANTS, with_variant

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

device_option: Decorator = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="Where to compute."
)
gpus_option: Decorator = click.option(
    "--gpus", type=click.IntRange(min=1), default=1, show_default=True, help="Processes, one for each GPU."
)
seed_option: Decorator = click.option("--seed", type=int, help="Seed of every random draw. Default: the config's.")
set_option: Decorator = click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a setting, e.g. step.snippet_ratio=0.5."
)
variant_option: Decorator = click.option(
    "--variant", type=click.Choice(list(VARIANTS)), help="Form of the computation, instead of efficiency.*."
)
output_option: Decorator = click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="File instead of stdout."
)
store_option: Decorator = click.option(
    "--store", type=click.Path(path_type=Path, file_okay=False), help="Folder to keep the records in."
)
run_option: Decorator = click.option(
    "--run", type=click.Path(path_type=Path, file_okay=False), help="Folder that etad-bench train wrote."
)

weights_key_option: Decorator = click.option(
    "--weights-key", metavar="KEY", help="Where in the checkpoint the weights are. Default: its moving average, if any."
)
format_option: Decorator = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of the output.",
)


def cost_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that count a time in money, energy and CO2; see bench/machine/prices.py."""
    for option in reversed(
        (
            click.option("--price", metavar="1.19/h", help="Price of an hour on the GPU, such as 1.19/h or 1.19EUR/h."),
            click.option("--prices", metavar="FILE", help="Price list (YAML); the word example is the shipped one."),
            click.option("--kwh-price", type=click.FloatRange(min=0, min_open=True), help="Price of a kilowatt hour."),
            click.option("--carbon", type=click.FloatRange(min=0, min_open=True), help="Grams of CO2 a kilowatt hour."),
        )
    ):
        function = option(function)
    return function


KNOB_HELP = {
    "ratio": "Snippets that the gradient reaches, 0..1.",
    "proposal-ratio": "Proposals that train the detector, 0..1.",
    "batch": "Videos a step.",
    "chunk": "Snippets of a video that the encoder takes at once.",
    "strategy": "sequential, joint, checkpointed or frozen.",
    "precision": "fp32, bf16 or fp16.",
    "encoder": "Snippet encoder, e.g. r2plus1d_34_tsp or r2plus1d_18.",
    "frozen": "Frozen stages of the encoder.",
    "snippets": "Snippets a video (data.length).",
    "size": "Height and width of a frame, in pixels.",
    "variant": "Form of the computation: published, fast, lean or leanest.",
}


def knob_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every knob; each takes a comma list."""
    for option in reversed(KNOBS):
        function = click.option(f"--{option}", metavar="A[,B...]", help=KNOB_HELP[option])(function)
    return function


def config_option(required: bool) -> Decorator:
    """Return ``--config``; a command that can take its config from a run does not require it."""
    return click.option("--config", "-c", required=required, help="Config file, or the name of a shipped one.")


def with_seed(assignments: tuple[str, ...], seed: int | None) -> tuple[str, ...]:
    """Return the ``--set`` assignments with ``--seed`` among them."""
    return assignments if seed is None else (*assignments, f"train.seed={seed}")


def load_variant(config: str, assignments: Sequence[str], variant: str | None) -> Config:
    """Return an experiment with the ``--set`` assignments, in the form that ``--variant`` names if it does.

    Raises:
        ConfigError: as :func:`etad.config.load_config`.
    """
    experiment = load_config(config, assignments)
    return experiment if variant is None else with_variant(experiment, variant)


def known_profiles(*, with_memory: bool = False) -> list[HardwareProfile]:
    """Return every hardware profile; a file that cannot be read is named on stderr, and left out.

    Args:
        with_memory: only those that memory can be predicted for.
    """
    profiles, problems = find_profiles()
    for problem in problems:
        note(f"left out: {problem}")
    return [profile for profile in profiles if not with_memory or profile.no_memory_prediction is None]


def note(message: str) -> None:
    """Tell the user something, on stderr: stdout is for the artefact."""
    click.echo(f"etad-bench: {message}", err=True)


def emit(text: str, output: Path | None) -> None:
    """Give the artefact: on stdout, or in the file that ``--output`` names."""
    if output is None:
        click.echo(text)
    else:
        write_text(output, text + "\n")
