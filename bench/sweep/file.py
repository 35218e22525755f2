"""The sweep file: which experiments to measure how, as a grid, inclusions and exclusions. YAML, typed, strict.

A sweep consists of parts, each with a suite (what is measured) and axes (what varies). A file may name a parent with
``extends:``; mappings merge, so a child can change a part, add one, or remove one by setting it to null.

An axis is one of

- a setting of the experiment: ``step.snippet_sampler``,
- a knob, short for a setting and what hangs on it: ``ratio`` (:data:`bench.cells.KNOBS`),
- an option of the suite: ``hardware``.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field, JsonValue

from etad.config import Positive, PositiveFloat, Section, find_shipped, read_chain
from etad.errors import ConfigError, explained, nearest
from etad.resources import resource_folder

Seeds = Annotated[int, Field(ge=1)] | Annotated[tuple[int, ...], Field(min_length=1)]
AxisValues = Annotated[tuple[JsonValue, ...], Field(min_length=1)]
Choice = Mapping[str, JsonValue]
"""From an axis to the value taken."""


class Part(Section):
    """Cells of one suite. What is not given here is taken from the sweep."""

    suite: str
    """What is measured: memory, throughput or accuracy."""
    config: str | None = None
    """Config file, or a shipped one's name."""
    settings: dict[str, JsonValue] = Field(default={})
    """Settings of the experiment that do not vary, by dotted key; they come after the sweep's own."""
    grid: dict[str, AxisValues] = Field(default={})
    """Axis -> its values; a cell for every combination, the last axis changing fastest."""
    include: tuple[dict[str, JsonValue], ...] = ()
    """Single combinations, after those of the grid. Alone, without a grid, they are all there is."""
    exclude: tuple[dict[str, JsonValue], ...] = ()
    """Combinations to leave out: a cell that agrees in every axis named. A list of values means any of them."""
    seeds: Seeds | None = None
    """How many, counted up from the experiment's own, or which."""
    options: dict[str, JsonValue] = Field(default={})
    """Options of the suite that do not vary."""
    workers: Positive | None = None
    """Processes at a time."""
    timeout_s: PositiveFloat | None = None
    """Time for one cell. None: the suite's own."""


class SweepFile(Section):
    """A whole sweep."""

    name: str
    """Name of the sweep. Default: that of its file."""
    description: str = ""
    """What it is for, in a line."""
    config: str
    """Config file, or a shipped one's name."""
    settings: dict[str, JsonValue] = Field(default={})
    """Settings of the experiment for all parts, by dotted key."""
    seeds: Seeds = 1
    """How many, counted up from the experiment's own, or which."""
    workers: Positive = 1
    """Processes at a time."""
    parts: dict[str, Part | None]
    """They run one after the other. null: a parent's part that is left out."""


@dataclass(frozen=True)
class Combination:
    """One choice on every axis.

    Attributes:
        part: name of the part.
        chosen: axis -> value.
    """

    part: str
    chosen: Choice


def load_sweep(name: str | Path) -> SweepFile:
    """Load a sweep file with its ``extends:`` chain.

    Args:
        name: path of a YAML file, or the name of a shipped sweep such as "sampling_study".

    Raises:
        ConfigError: file missing, not YAML, an unknown key (the nearest valid one is named), a value that does not fit.
    """
    path = find_sweep(name)
    tree = read_chain(path, find_sweep)
    tree.setdefault("name", path.stem)
    try:
        return SweepFile.model_validate(tree)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{name}: {explained(error, SweepFile)[0]}") from None


def find_sweep(name: str | Path) -> Path:
    """Return the file of sweep ``name``: that path if it exists, otherwise the shipped sweep of that name.

    Raises:
        ConfigError: there is neither; the message names the nearest shipped one, or all of them.
    """
    return find_shipped(name, resource_folder("configs") / "sweeps", "sweep")


def combinations(sweep: SweepFile, parts: Sequence[str] = ()) -> Iterator[Combination]:
    """Yield the combinations of a sweep, part by part, without what is excluded; seeds are not among the axes.

    Args:
        sweep: the sweep.
        parts: take these parts only; empty: all.

    Raises:
        ConfigError: there is no such part, or an exclusion names something that is no axis of its part.
    """
    present = {name: part for name, part in sweep.parts.items() if part is not None}
    for name in parts:
        if name not in present:
            raise ConfigError(f"--part {name}: {sweep.name} has no such part; {nearest(name, present)}")
    for name, part in present.items():
        if parts and name not in parts:
            continue
        axes = set(part.grid).union(*part.include)
        for excluded in part.exclude:
            for axis in excluded:
                if axis not in axes:
                    where = f"{sweep.name}: parts.{name}.exclude"
                    raise ConfigError(f"{where}: {axis} is no axis of this part; {nearest(axis, sorted(axes))}")
        for chosen in (*_product(part), *part.include):
            if not any(_agrees(chosen, excluded) for excluded in part.exclude):
                yield Combination(name, chosen)


def _product(part: Part) -> Iterator[Choice]:
    if part.grid or not part.include:
        for values in itertools.product(*part.grid.values()):
            yield dict(zip(part.grid, values, strict=True))


def _agrees(chosen: Choice, excluded: Mapping[str, Any]) -> bool:
    return all(
        axis in chosen and chosen[axis] in (value if isinstance(value, list) else [value])
        for axis, value in excluded.items()
    )
