"""The result record: one JSON file for one cell, typed, versioned, and checked for physical sense when it is written.

A cell is one thing that was asked for: a suite, a resolved config and a measurement's options. Its id is a hash of
these, so that the same question has the same id on every machine, and a sweep knows what it already has.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import AwareDatetime, Field, JsonValue, model_validator

SCHEMA_VERSION = 3

Status = Literal["ok", "predicted", "oom", "error", "timeout", "skipped"]
Kind = Literal["measured", "predicted", "published"]
Number = int | Annotated[float, Field(allow_inf_nan=False)]
Tree = dict[str, Any]


class Part(pydantic.BaseModel):
    """Base of the record and its parts: frozen, no unknown keys."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Metric(Part):
    """One quantity, with what is needed to judge it. Unknown is a null value with a reason, never 0."""

    value: Number | None
    """The quantity, in ``unit``: a median of the samples, a count, a size. Null where it is not known."""
    unit: str
    """"bytes", "s", "W", "J", "1/s", "FLOP", "FLOP/s", or "1" for a ratio or a count."""
    reason: str | None = None
    """Why the value is null."""
    samples: tuple[Number, ...] = ()
    """Raw samples in the order they were taken, in ``unit``."""
    method: str | None = None
    """How it was obtained: "torch allocator", "NVML per process", "device events", ..."""
    low: Number | None = None
    """Lower end of an interval around the value."""
    high: Number | None = None
    """Its upper end. It is a confidence interval, or the bounds of what cannot be known."""
    exact: bool = False
    """The same in every run (predicted bytes, FLOPs, parameters): two of them compare by equality."""
    calls: Number | None = None
    """How often a step does what took the time, of an operator's time."""

    @model_validator(mode="after")
    def _null_has_a_reason(self) -> Self:
        if self.value is None and not self.reason:
            raise ValueError("a null value needs a reason")
        if self.value is not None and self.reason:
            raise ValueError(f"the value is {self.value}, so a reason why it is null makes no sense: {self.reason}")
        return self


class Finding(Part):
    """What was concluded, and why."""

    verdict: str
    """A word, or what was found: "stable", "compute", the name of a file."""
    why: str = ""
    """The evidence, in one line; empty where the verdict needs none."""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.why}" if self.why else self.verdict


class Failure(Part):
    """Why a cell has no result."""

    message: str
    """One line."""
    phase: str | None = None
    """Phase of the step it died in, if known."""
    requested_bytes: int | None = None
    """Size of the allocation that did not fit, if known."""


Metrics = dict[str, Metric]
"""From a name that ends in its unit (``allocated_peak_bytes``, ``step_s``) to the metric."""


class Record(Part):
    """The result of one cell."""

    schema_version: Annotated[int, Field(json_schema_extra={"const": SCHEMA_VERSION})] = SCHEMA_VERSION
    """Version of this schema; older files are lifted as they are read."""
    status: Status
    """ok: measured. predicted: worked out. oom, error, timeout, skipped: no result, and ``failure`` says why."""
    kind: Kind
    """Where the numbers come from."""
    suite: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """"memory", "throughput", "accuracy", ..."""
    device: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """Slug of the device the result is about: the one measured on, or the one predicted for."""
    cell_id: str = ""
    """Filled in on construction; see :func:`cell_id`."""
    config: dict[str, JsonValue]
    """The resolved experiment config."""
    measurement: dict[str, JsonValue]
    """What was asked: the options of the measuring command that are not in the config."""
    metrics: Metrics = {}
    """Name, which ends in the unit, -> metric of the whole cell."""
    phases: dict[str, Metrics] = {}
    """Metrics of each phase of the step: encode, detect, backpropagate, ..."""
    findings: dict[str, Finding] = {}
    """What was concluded: "stability.step_s" -> stable and why, "bound" -> compute and why, "verdict" -> ..."""
    failure: Failure | None = None
    """Why there is no result; null where there is one."""
    environment: dict[str, JsonValue]
    """What :func:`bench.machine.environment.collect_environment` found."""
    command: str
    """The command line that repeats this cell."""
    started_at: AwareDatetime
    """ISO 8601, in UTC."""
    duration_s: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    """How long the cell took in all, set-up included."""
    warnings: tuple[str, ...] = ()
    """What a reader of the numbers should know, one line each."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_cell_id(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or tree.get("cell_id"):
            return tree
        return tree | {"cell_id": _cell_id_of(tree)}

    @model_validator(mode="after")
    def _is_coherent(self) -> Self:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {self.schema_version}; records are written as {SCHEMA_VERSION}")
        expected = cell_id(self.suite, self.kind, self.config, self.measurement)
        if self.cell_id != expected:
            raise ValueError(f"cell_id is {self.cell_id}, but this config and measurement make it {expected}")
        if (self.status == "ok") == (self.kind == "predicted") and self.status in ("ok", "predicted"):
            raise ValueError(f"a {self.kind} record cannot have the status {self.status}")
        if self.succeeded and self.failure is not None:
            raise ValueError(f"the status is {self.status}, so there can be no failure: {self.failure.message}")
        if not self.succeeded and self.failure is None:
            raise ValueError(f"the status is {self.status}, so failure has to say why")
        return self

    @property
    def succeeded(self) -> bool:
        """Whether there is a result: status ok or predicted."""
        return self.status in ("ok", "predicted")

    def to_tree(self) -> Tree:
        """Return the record as plain JSON-able values."""
        return self.model_dump(mode="json")


def cell_id(suite: str, kind: str, config: Mapping[str, Any], measurement: Mapping[str, Any]) -> str:
    """Return the id of a cell: 16 hex digits of the SHA-256 of what was asked and of the schema version.

    The environment is not part of it: the same cell on two machines has one id in two device folders.

    Raises:
        ValueError: config or measurement holds NaN or infinity.
        TypeError: config or measurement holds something that JSON cannot.
    """
    asked = [SCHEMA_VERSION, suite, kind, config, measurement]
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cell_id_of(tree: Tree) -> str:
    try:
        return cell_id(tree["suite"], tree["kind"], tree["config"], tree["measurement"])
    except (KeyError, TypeError):
        return ""  # A field is missing or not JSON; validation says which one.


def value_of(metrics: Metrics, name: str) -> int | float | None:
    """Return the value of a metric; None where it is missing or not known."""
    return metrics[name].value if name in metrics else None
