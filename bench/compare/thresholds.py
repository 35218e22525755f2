"""From a metric's name to what counts as better, and how much it takes to say that it changed."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from etad.errors import ConfigError, explained
from etad.files import read_yaml
from etad.resources import resource_folder

Share = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Gate(pydantic.BaseModel):
    """How one metric is judged; see configs/gates/default.yaml."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    better: Literal["lower", "higher"] | None = None
    """Whether a lower or a higher value is better. None: neither, a change is only told."""
    minimum_effect: Share = 0.0
    """Relative change below which nothing is said to have changed."""
    minimum_difference: Share = 0.0
    """The same in the metric's unit; the larger of the two counts."""
    significance: Annotated[float, Field(gt=0.0, lt=1.0)] | None = 0.01
    """p below which a change is one. None: values that repeat, without a test."""
    compare: bool = True
    """false: the metric is left out."""

    def margin(self, base: float) -> float:
        """Return the smallest change from ``base`` that counts, in the metric's unit."""
        return max(self.minimum_effect * abs(base), self.minimum_difference)


class _File(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    gates: dict[str, Gate]


class Gates:
    """Gates by pattern of the metric's name; the first that fits counts."""

    def __init__(self, patterns: Mapping[str, Gate]) -> None:
        self._patterns = patterns

    def of(self, name: str) -> Gate:
        """Return the gate of a metric, ``name`` or ``phase: name``; one without a direction if no pattern fits."""
        names = (name, name.rpartition(": ")[2])
        for pattern, gate in self._patterns.items():
            if any(fnmatchcase(each, pattern) for each in names):
                return gate
        return Gate()


def load_gates(path: Path | None = None) -> Gates:
    """Return the shipped gates, behind those of a file if there is one.

    Raises:
        ConfigError: the file cannot be read, or does not fit the schema; the key is named.
    """
    shipped = _read(resource_folder("configs") / "gates" / "default.yaml")
    own = {} if path is None else _read(path)
    return Gates(own | {pattern: gate for pattern, gate in shipped.items() if pattern not in own})


def _read(path: Path) -> dict[str, Gate]:
    try:
        return _File.model_validate(read_yaml(path)).gates
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {explained(error, _File)[0]}") from None
