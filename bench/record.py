"""The result record: one JSON file for one cell, typed, versioned, and checked for physical sense when it is written.

A cell is one thing that was asked for: a suite, a resolved config and a measurement's options. Its id is a hash of
these, so that the same question has the same id on every machine, and a sweep knows what it already has.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

import pydantic
from pydantic import AwareDatetime, Field, JsonValue, model_validator

from etad.errors import DataError
from etad.files import write_json

SCHEMA_VERSION = 2

Status = Literal["ok", "predicted", "oom", "error", "timeout", "skipped"]
Kind = Literal["measured", "predicted", "published"]
Number = int | Annotated[float, Field(allow_inf_nan=False)]
Tree = dict[str, Any]

MIGRATIONS: dict[int, Callable[[Tree], Tree]] = {
    1: lambda tree: {**tree, "findings": {}},
}
"""From a schema version to the function that lifts a record's plain mapping to the next one; the cell id follows."""

MEMORY_LEVELS = ("requested", "allocated", "active", "reserved", "process", "device")
"""Ways to count memory, from the inside out: each holds all that the one before it counts, so it is never smaller.

A memory metric has one of these words in its name, and two metrics that differ in this word only are compared:
``allocated_peak_bytes`` <= ``reserved_peak_bytes``. ``device_total_bytes``, the device's capacity, bounds them all.
"""

SIGNED_WORDS = frozenset({"error", "difference", "margin", "slope", "change"})
"""A metric with one of these words in its name may be negative; every other quantity is at least 0."""


class Part(pydantic.BaseModel):
    """Base of the record and its parts: frozen, no unknown keys."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Metric(Part):
    """One quantity, with what is needed to judge it. Unknown is a null value with a reason, never 0."""

    value: Number | None
    unit: str
    """"bytes", "s", "W", "J", "1/s", "FLOP", "FLOP/s", or "1" for a ratio or a count."""
    reason: str | None = None
    """Why the value is null."""
    samples: tuple[Number, ...] = ()
    """Raw samples in the order they were taken, in ``unit``."""
    method: str | None = None
    """How it was obtained: "torch allocator", "NVML per process", "device events", ..."""
    low: Number | None = None
    high: Number | None = None
    """Interval around the value: a confidence interval, or the bounds of what cannot be known."""
    exact: bool = False
    """The same in every run (predicted bytes, FLOPs, parameters): two of them compare by equality."""

    @model_validator(mode="after")
    def _null_has_a_reason(self) -> Self:
        if self.value is None and not self.reason:
            raise ValueError("a null value needs a reason")
        if self.value is not None and self.reason:
            raise ValueError(f"the value is {self.value}, so a reason why it is null makes no sense: {self.reason}")
        return self


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
    status: Status
    kind: Kind
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
    phases: dict[str, Metrics] = {}
    """Metrics of each phase of the step: encode, detect, backpropagate, ..."""
    findings: dict[str, str] = {}
    """What was concluded, in words: "stability.step_s" -> "stable", "bound" -> "compute: ...", "verdict" -> ..."""
    failure: Failure | None = None
    environment: dict[str, JsonValue]
    """What :func:`bench.environment.collect_environment` found."""
    command: str
    """The command line that repeats this cell."""
    started_at: AwareDatetime
    """ISO 8601, in UTC."""
    duration_s: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    warnings: tuple[str, ...] = ()

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


def check(record: Record) -> list[str]:
    """Return what is physically impossible in ``record``, one line each; empty when all is well.

    Checked in the whole and in every phase: the memory levels are in order, a peak is at least its static part, no
    quantity and none of its samples is negative, an interval holds its value, and a result has at least one metric.
    """
    problems = [] if record.metrics or not record.succeeded else ["there is no metric at all"]
    capacity = value_of(record.metrics, "device_total_bytes")
    for where, metrics in [("", record.metrics), *((f"{name}: ", record.phases[name]) for name in record.phases)]:
        findings = (*_signs(metrics), *_intervals(metrics), *_levels(metrics), *_peaks(metrics, capacity))
        problems += [where + finding for finding in findings]
    return problems


def write_record(path: Path, record: Record) -> None:
    """Write ``record`` to ``path`` as JSON, atomically.

    Raises:
        DataError: the record is physically impossible, or ``path`` cannot be written.
    """
    problems = check(record)
    if problems:
        raise DataError(f"{path}: not written, the record makes no physical sense: {'; '.join(problems)}")
    try:
        write_json(path, record.to_tree())
    except OSError as error:
        raise DataError(f"{path.parent}: cannot be written ({error.strerror or error})") from None
    except ValueError:
        raise DataError(f"{path}: not written, it holds NaN or infinity; unknown values are null") from None


def read_record(path: Path) -> Record:
    """Read a record, lifting it from an older schema version if there is a migration.

    Raises:
        DataError: unreadable, truncated, NaN inside, of another schema version, or not fitting the schema; one line.
    """
    try:
        return Record.model_validate(lift(read_tree(path), path))
    except pydantic.ValidationError as error:
        first, *others = violations(error)
        more = f" (and {len(others)} more)" if others else ""
        raise DataError(f"{path}: {first}{more}") from None


def read_tree(path: Path) -> Tree:
    """Read a record's file as a plain mapping, as it is.

    Raises:
        DataError: unreadable, truncated, NaN inside, or no record at all; one line.
    """
    try:
        tree = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: truncated or damaged JSON (line {error.lineno}: {error.msg})") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    if not isinstance(tree, dict) or "schema_version" not in tree:
        raise DataError(f"{path}: not a result record (no schema_version)")
    return tree


def lift(tree: Tree, path: Path) -> Tree:
    """Return a record's mapping in the present schema version.

    Raises:
        DataError: the version is newer than this code, or there is no way from it; ``path`` is named.
    """
    version = tree["schema_version"]
    if not isinstance(version, int) or isinstance(version, bool):
        raise DataError(f"{path}: schema_version must be a whole number, not {version!r}")
    if version > SCHEMA_VERSION:
        raise DataError(
            f"{path}: schema version {version} is newer than the {SCHEMA_VERSION} that is known here; update etad-bench"
        )
    while version < SCHEMA_VERSION:
        if version not in MIGRATIONS:
            raise DataError(f"{path}: schema version {version} has no migration to {SCHEMA_VERSION}; measure again")
        version += 1
        # The cell id counts the schema version in, so it is made anew.
        tree = {**MIGRATIONS[version - 1](tree), "schema_version": version, "cell_id": ""}
    return tree


def violations(error: pydantic.ValidationError) -> list[str]:
    """Return what does not fit the schema, one line each: the key, and what is wrong with it."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        lines.append(f"{f'{key}: ' if key else ''}{item['msg'].removeprefix('Value error, ')}")
    return lines


def json_schema() -> Tree:
    """Return the JSON Schema of a record file; the same is in ``bench/record.schema.json``, for other languages."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Record.model_json_schema()}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is not a result; unknown values are null with a reason")


def _cell_id_of(tree: Tree) -> str:
    try:
        return cell_id(tree["suite"], tree["kind"], tree["config"], tree["measurement"])
    except (KeyError, TypeError):
        return ""  # A field is missing or not JSON; validation says which one.


def value_of(metrics: Metrics, name: str) -> int | float | None:
    """Return the value of a metric; None where it is missing or not known."""
    return metrics[name].value if name in metrics else None


def _signs(metrics: Metrics) -> Iterator[str]:
    for name, metric in metrics.items():
        if SIGNED_WORDS.isdisjoint(name.split("_")):
            negative = [number for number in (metric.value, metric.low, *metric.samples) if _below_zero(number)]
            if negative:
                yield f"{name} is negative ({negative[0]} {metric.unit})"


def _below_zero(number: int | float | None) -> bool:
    return number is not None and number < 0


def _intervals(metrics: Metrics) -> Iterator[str]:
    for name, metric in metrics.items():
        value = metric.value if metric.value is not None else metric.low
        low = -math.inf if metric.low is None else metric.low
        high = math.inf if metric.high is None else metric.high
        if low > high or (value is not None and not low <= value <= high):
            yield f"{name} is {metric.value} {metric.unit}, outside its own interval {metric.low} to {metric.high}"


def _levels(metrics: Metrics) -> Iterator[str]:
    families: dict[str, list[tuple[int, str, int | float]]] = {}
    for name, metric in metrics.items():
        words = name.split("_")
        level = next((word for word in words if word in MEMORY_LEVELS), None)
        if level is None or metric.unit != "bytes" or metric.value is None or not SIGNED_WORDS.isdisjoint(words):
            continue
        family = "_".join(word for word in words if word != level)
        families.setdefault(family, []).append((MEMORY_LEVELS.index(level), name, metric.value))
    for members in families.values():
        members.sort()
        for (_, inner, fewer), (_, outer, more) in itertools.pairwise(members):
            if fewer > more:
                yield f"{inner} {fewer} exceeds {outer} {more}"


def _peaks(metrics: Metrics, capacity: int | float | None) -> Iterator[str]:
    for name, metric in metrics.items():
        words = name.split("_")
        if "peak" not in words or metric.unit != "bytes" or metric.value is None:
            continue
        static_name = "_".join("static" if word == "peak" else word for word in words)
        static = value_of(metrics, static_name)
        if static is not None and metric.value < static:
            yield f"{name} {metric.value} is below {static_name} {static}"
        on_device = not {"allocated", "active", "reserved", "process"}.isdisjoint(words)
        if capacity is not None and on_device and metric.value > capacity:
            yield f"{name} {metric.value} exceeds device_total_bytes {capacity}"
