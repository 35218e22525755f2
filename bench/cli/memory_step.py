"""``etad-bench memory --step``: how much memory somebody's own training step needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.cli.options import emit
from etad.errors import ConfigError, NothingToDoError


def predict_steps(
    text: str,
    arguments: tuple[str, ...],
    batches: str | None,
    hardware: str | None,
    torch_release: str | None,
    max_batch: bool,
    form: str,
    output: Path | None,
) -> None:
    """Predict the step that ``FILE.py:FUNCTION`` makes, at each batch size, and print it.

    Raises:
        ConfigError: an option does not fit, or the step cannot be predicted; the message names the line at fault.
        NothingToDoError: no batch fits.
    """
    # torch is slow to import, and --help does not need it.
    from bench.predict.largest_batch import largest_batch
    from bench.predict.step import Step, known_release, predict, step_name, target_of
    from bench.predict.step_files import load_make_step, parsed_arguments
    from bench.report.terminal.step import format_steps

    if form not in ("table", "json"):
        raise ConfigError(f"--format {form}: with --step it is table or json")
    if max_batch and hardware is None:
        raise ConfigError("--max-batch: needs --hardware, the GPU that the batch is to fit")
    if max_batch and batches is not None:
        raise ConfigError("--max-batch: finds the batch; leave --batch out")
    target = None if hardware is None else target_of(hardware)
    release = None if torch_release is None else known_release(torch_release)
    make_step = load_make_step(text)
    step = Step(make_step, parsed_arguments(arguments), torch_release=release)
    if batches is not None:
        found = [predict(step.with_batch(batch), target) for batch in _numbers(batches)]
    elif max_batch:
        assert target is not None
        largest = largest_batch(step, target)
        if largest is None:
            raise NothingToDoError(f"--max-batch: not even a batch of 1 is sure to fit {target.name}")
        found = [largest]
    else:
        found = [predict(step, target)]
    rows = [(one, None if target is None else one.fits()) for one in found]
    emit(format_steps(step_name(make_step), rows, "json" if form == "json" else "table"), output)


def refuse_others(given: Mapping[str, Any]) -> None:
    """Refuse options that belong to an experiment.

    Raises:
        ConfigError: naming the first.
    """
    for option, value in given.items():
        if value:
            raise ConfigError(f"--{option}: belongs to an experiment; what a --step takes is given by --arg")


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--batch {text}: write whole numbers above 0, with commas")
    return [int(part) for part in parts]
