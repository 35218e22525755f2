"""From a command's options to its cells: one config for every combination of what the comma lists name."""

import itertools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from etad.config import Config, parse_config, read_config, with_assignments
from etad.errors import ConfigError
from etad.variants import settings_without_effect, with_variant

Task = Literal["train", "infer", "data", "post"]
"""What a cell does: a training step, the detection of a batch, reading a batch, post-processing a batch."""

KNOBS = {
    "strategy": "step.strategy",
    "precision": "step.precision",
    "batch": "train.batch",
    "chunk": "step.chunk",
    "ratio": "step.snippet_ratio",
    "proposal-ratio": "step.proposal_ratio",
    "encoder": "model.encoder.name",
    "frozen": "model.encoder.frozen_stages",
    "snippets": "data.length",
    "size": "data.frames.crop",
    "variant": "efficiency",
}
"""Options that take a comma list, and the setting (or section) that each one is short for."""

ENCODER_KNOBS = ("strategy", "chunk", "ratio", "encoder", "frozen", "size")
"""Without effect when the input is features."""
TRAINING_KNOBS = ("strategy", "ratio", "proposal-ratio")
"""Without effect in inference."""
HOST_KNOBS = {"data": ("batch", "snippets", "size"), "post": ("batch", "snippets")}
"""The only ones that matter to reading a batch, and to post-processing one: no network runs."""


@dataclass(frozen=True)
class Cell:
    """One thing to measure or to predict.

    Attributes:
        config: the experiment, with the cell's settings.
        task: what is measured or predicted.
        chosen: the options given, with this cell's value of each.
        command: the command line for this cell alone.
        warnings: what in it has no effect, one line each.
        without_effect: the knobs that change nothing in it, chosen or not.
    """

    config: Config
    task: Task
    chosen: dict[str, str]
    command: str
    warnings: tuple[str, ...]
    without_effect: frozenset[str] = frozenset()


def make_cells(
    command: Sequence[str],
    name: str,
    knobs: Mapping[str, str | None],
    assignments: Sequence[str] = (),
    task: Task = "train",
) -> list[Cell]:
    """Return the cells of all combinations, the last of several lists changing fastest.

    Args:
        command: how the command line begins and ends, without config and knobs: ``("etad-bench", "memory")``.
        name: of the config.
        knobs: option of :data:`KNOBS` -> its comma list; None where it was not given.
        assignments: ``--set`` overrides; the knobs come after them.
        task: see :class:`Cell`.

    Raises:
        ConfigError: a value that is not allowed, or that contradicts another; the message names the option.
    """
    tree = with_assignments(read_config(name), assignments)
    base = parse_config(tree, name)
    lists = {option: split(option, text) for option, text in knobs.items() if text is not None}
    for option, values in lists.items():
        for value in values:
            _check(option, value, name, tree, base)
    cells = []
    for combination in itertools.product(*lists.values()):
        chosen = dict(zip(lists, combination, strict=True))
        overrides = [text for option, value in chosen.items() for text in overrides_of(option, value, base)]
        config = parse_config(with_assignments(tree, overrides), name)
        _check_chunk(config, chosen)
        line = [*command, "--config", name, *(part for item in chosen.items() for part in (f"--{item[0]}", item[1]))]
        line += [part for assignment in assignments for part in ("--set", assignment)]
        reasons = why_without_effect(config.resolved(), task)
        warnings = (*lines_without_effect(reasons, chosen), *settings_without_effect(config))
        cells.append(Cell(config, task, chosen, shlex.join(line), warnings, frozenset(reasons)))
    return cells


def split(option: str, text: str) -> list[str]:
    """Return the values of a comma list, without repetitions.

    Raises:
        ConfigError: a value is empty.
    """
    values = [value.strip() for value in text.split(",")]
    if not all(values):
        raise ConfigError(f"--{option} {text!r}: a value is empty; write it as in --{option} A,B")
    return list(dict.fromkeys(values))


def overrides_of(option: str, value: str, base: Config) -> list[str]:
    """Return the ``--set`` assignments that a knob's value stands for; what depends on it changes with it.

    Raises:
        ConfigError: there is no such variant.
    """
    if option == "variant":
        return [f"efficiency={with_variant(base, value).efficiency.model_dump_json()}"]
    overrides = [f"{KNOBS[option]}={value}"]
    if option == "encoder" and value != base.model.encoder.name:
        # The weights of one network do not fit another.
        overrides.append("model.encoder.weights=null")
    if option == "size" and value.isdigit():
        # The frame that the crop is cut from keeps its proportions to it.
        frames = base.data.frames
        for side in ("height", "width"):
            pixels = round(int(value) * getattr(frames, f"resize_{side}") / frames.crop)
            overrides.append(f"data.frames.resize_{side}={pixels}")
    return overrides


def _check(option: str, value: str, name: str, tree: Mapping[str, Any], base: Config) -> None:
    try:
        parse_config(with_assignments(tree, overrides_of(option, value, base)), name)
    except ConfigError as error:
        problem = error.problems[0].removeprefix(f"{KNOBS[option]}: ") if error.problems else str(error)
        raise ConfigError(f"--{option} {value}: {problem}") from None


def _check_chunk(config: Config, chosen: Mapping[str, str]) -> None:
    chunk, snippets = config.step.chunk, config.data.length
    if config.data.input == "frames" and chunk > snippets:
        name = "--chunk" if "chunk" in chosen else "step.chunk"
        raise ConfigError(f"{name} {chunk}: a video has {snippets} snippets only; take at most so many at once")


def why_without_effect(config: Mapping[str, Any], task: str) -> dict[str, str]:
    """Return the knobs that change nothing in a resolved config, each with the reason."""
    reason = {}
    strategy = config["step"]["strategy"]
    if strategy in ("frozen", "checkpointed"):
        reason["ratio"] = f"the strategy is {strategy}"
    if task == "infer":
        reason |= dict.fromkeys(TRAINING_KNOBS, "detection judges all proposals and trains nothing")
    if config["data"]["input"] == "features":
        reason |= dict.fromkeys(ENCODER_KNOBS, f"the input of {config['name']} is features, no encoder runs")
    return reason


def lines_without_effect(reasons: Mapping[str, str], chosen: Iterable[str]) -> Iterator[str]:
    """Yield a line for each of the knobs ``chosen`` that has a reason to be without effect."""
    yield from (f"--{option} has no effect: {reasons[option]}" for option in chosen if option in reasons)
