"""From a sweep file to its cells: config, suite and options of each, and what its record will be called."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pydantic
from pydantic import JsonValue

from bench.cells import KNOBS, Cell, Task, lines_without_effect, overrides_of, why_without_effect
from bench.machine.environment import Environment
from bench.records.draft import Asked
from bench.suites.suite import SUITES, SuiteOptions
from bench.sweep.file import Choice, Part, SweepFile, combinations
from etad.config import Config, parse_config, read_config, with_assignments
from etad.errors import ConfigError, NothingToDoError, explained, nearest
from etad.files import yaml_value
from etad.variants import settings_without_effect

SEED = "train.seed"


@dataclass(frozen=True)
class SweepCell:
    """One cell of a sweep.

    Attributes:
        chosen: by part that asks for it, its axes and their values, the seed last if there are several. The first part
            runs it.
        suite: name of its suite.
        cell: experiment, command line and warnings.
        options: of the suite.
        asked: what is known of its record before it runs.
        timeout_s: time it may take.
        workers: cells of its part that may run at a time.
    """

    chosen: dict[str, dict[str, JsonValue]]
    suite: str
    cell: Cell
    options: SuiteOptions
    asked: Asked
    timeout_s: float
    workers: int

    @property
    def cell_id(self) -> str:
        """The id of its record."""
        return self.asked.cell_id(self.cell.config)

    @property
    def part(self) -> str:
        """The part that runs it."""
        return next(iter(self.chosen))

    @property
    def label(self) -> str:
        """The cell in a few words: "snippets: snippet_ratio 0.3, seed 2023"."""
        axes = ", ".join(f"{axis.rsplit('.', 1)[-1]} {value}" for axis, value in self.chosen[self.part].items())
        return f"{self.part}: {axes or self.cell.config.name}"


def sweep_cells(
    sweep: SweepFile, environment: Environment, assignments: Sequence[str] = (), parts: Sequence[str] = ()
) -> list[SweepCell]:
    """Return the cells of a sweep; what several parts ask for is there once.

    Args:
        sweep: the sweep.
        environment: of this machine, for which measured records are looked up.
        assignments: ``--set`` overrides; they win over the sweep's settings, not over its axes.
        parts: take these parts only; empty: all.

    Raises:
        ConfigError: an axis, option, suite or value that is not valid; the message names the part.
        NothingToDoError: no cell is left.
    """
    cells: dict[str, SweepCell] = {}
    for found in _all_cells(sweep, environment, assignments, parts):
        earlier = cells.get(found.cell_id)
        cells[found.cell_id] = found if earlier is None else replace(earlier, chosen={**earlier.chosen, **found.chosen})
    if not cells:
        raise NothingToDoError(f"{sweep.name}: no cell is left; every combination is excluded, or there is no part")
    return list(cells.values())


def shard(cells: Sequence[SweepCell], text: str) -> list[SweepCell]:
    """Return shard ``i/n`` of the cells: every n-th, from the i-th on.

    Raises:
        ConfigError: it is not written as 1/4 .. 4/4.
        NothingToDoError: there are fewer cells than shards.
    """
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--shard {text}: write it as 1/4, 2/4 .. 4/4")
    chosen = list(cells[int(number) - 1 :: int(count)])
    if not chosen:
        raise NothingToDoError(f"--shard {text}: there are {len(cells)} cells only, so this shard is empty")
    return chosen


def _all_cells(
    sweep: SweepFile, environment: Environment, assignments: Sequence[str], parts: Sequence[str]
) -> Iterator[SweepCell]:
    trees: dict[str, Mapping[str, Any]] = {}
    for combination in combinations(sweep, parts):
        part = sweep.parts[combination.part]
        assert part is not None
        where = f"{sweep.name}: parts.{combination.part}"
        if part.suite not in SUITES:
            raise ConfigError(f"{where}.suite: {part.suite} is no suite; choose one of {', '.join(SUITES)}")
        suite = SUITES[part.suite]
        options = _options(where, suite.options, part, combination.chosen)
        name = part.config or sweep.config
        fixed = [*_assignments({**sweep.settings, **part.settings}), *assignments]
        if name not in trees:
            trees[name] = read_config(name)
        tree = with_assignments(trees[name], fixed)
        base = parse_config(tree, name)
        settings = list(_settings(where, combination.chosen, base, suite.options))
        seeds = part.seeds or sweep.seeds
        for seed in _seeds(seeds, base):
            # A single seed of the experiment's own needs no mention.
            seeded = {} if seeds == 1 else {SEED: seed}
            own = [*settings, *_assignments(seeded)]
            config = _parsed(where, name, tree, own)
            yield SweepCell(
                chosen={combination.part: {**combination.chosen, **seeded}},
                suite=part.suite,
                cell=Cell(
                    config=config,
                    task=options.task,
                    chosen={},
                    command=_command(part.suite, suite.arguments(options), name, [*fixed, *own]),
                    warnings=(
                        *_without_effect(combination.chosen, config, options.task),
                        *settings_without_effect(config),
                    ),
                ),
                options=options,
                asked=suite.asked(options, environment),
                timeout_s=part.timeout_s or suite.timeout_s,
                workers=part.workers or sweep.workers,
            )


def _options(where: str, model: type[SuiteOptions], part: Part, chosen: Choice) -> SuiteOptions:
    for option in part.options:
        if option not in model.model_fields:
            raise ConfigError(f"{where}.options.{option}: unknown key; {nearest(option, model.model_fields)}")
    given = {axis: value for axis, value in chosen.items() if axis in model.model_fields}
    try:
        return model.model_validate({**part.options, **given})
    except pydantic.ValidationError as error:
        raise ConfigError(f"{where}: {explained(error, model)[0]}") from None


def _settings(where: str, chosen: Choice, base: Config, options: type[SuiteOptions]) -> Iterator[str]:
    for axis, value in chosen.items():
        if axis in KNOBS:
            yield from overrides_of(axis, _text(value), base)
        elif "." in axis:
            yield from _assignments({axis: value})
        elif axis not in options.model_fields:
            valid = (*KNOBS, *options.model_fields)
            hint = nearest(axis, valid, f"there are: {', '.join(valid)}, and settings such as step.snippet_ratio")
            raise ConfigError(f"{where}: {axis} is no axis; {hint}")


def _parsed(where: str, name: str, tree: Mapping[str, Any], assignments: Sequence[str]) -> Config:
    try:
        return parse_config(with_assignments(tree, assignments), name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _seeds(seeds: int | tuple[int, ...], base: Config) -> Iterable[int]:
    return range(base.train.seed, base.train.seed + seeds) if isinstance(seeds, int) else seeds


def _assignments(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={_text(value)}" for key, value in settings.items()]


def _text(value: Any) -> str:
    """Return a value as YAML reads it back; words stay bare, as one would type them."""
    try:
        bare = isinstance(value, str) and yaml_value(value, "") == value
    except ConfigError:
        bare = False
    return str(value) if bare else json.dumps(value)


def _command(suite: str, arguments: Sequence[str], name: str, assignments: Sequence[str]) -> str:
    line = ["etad-bench", suite, "--config", name, *arguments]
    return shlex.join([*line, *(word for assignment in assignments for word in ("--set", assignment))])


def _without_effect(chosen: Choice, config: Config, task: Task) -> Iterator[str]:
    by_setting = {setting: knob for knob, setting in KNOBS.items()}
    knobs = [by_setting.get(axis, axis) for axis in chosen]
    return lines_without_effect(why_without_effect(config.resolved(), task), knobs)
