"""Checking a folder of records: the schema, physical sense, provenance, and whether each lies where it belongs."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pydantic

from bench.machine.environment import slug
from bench.records.files import lift, read_tree
from bench.records.record import SCHEMA_VERSION, Record, Tree
from bench.records.sanity import check
from etad.errors import DataError, explained

SECTIONS = ("host", "cpu", "memory", "gpus", "torch", "variables", "code", "packages")
"""What an environment has at least."""
FACTS = (("host", "name"), ("torch", "version"), ("code", "git_sha"), ("code", "git_dirty"))
"""What the environment must tell, or say why it cannot."""
PREDICTING_WORDS = ("predicted", "simulated")
"""In the method of a metric: nothing was measured."""
CLOCK_ERROR = timedelta(days=1)
"""How far two machines' clocks may be apart."""


@dataclass(frozen=True)
class Finding:
    """One thing about a file.

    Attributes:
        path: the file.
        severity: "problem": not to be relied on. "note": worth knowing.
        message: one line.
    """

    path: Path
    severity: Literal["problem", "note"]
    message: str


def check_files(files: Iterable[Path]) -> Iterator[list[Finding]]:
    """Yield what is to say of each record file; an empty list of a sound one."""
    places: dict[tuple[Path, Path], list[Path]] = defaultdict(list)
    for file in files:
        findings = []
        try:
            tree = read_tree(file)
            record = Record.model_validate(lift(tree, file))
        except DataError as error:
            findings = [Finding(file, "problem", str(error).removeprefix(f"{file}: "))]
        except pydantic.ValidationError as error:
            findings = [Finding(file, "problem", line) for line in explained(error, Record)]
        else:
            findings = [Finding(file, "problem", line) for line in _problems(file, tree, record)]
            findings += [Finding(file, "note", line) for line in _notes(record)]
            # The same cell may lie in several stores below one folder: measured/ and baselines/ for example.
            twins = places[file.resolve().parent.parent.parent, _place(record)]
            twins.append(file)
            if len(twins) > 1:
                findings.append(Finding(file, "problem", f"the same cell as {twins[0]}; remove one"))
        yield findings


def _place(record: Record) -> Path:
    return Path(record.device, record.suite, f"{record.cell_id}.json")


def _problems(path: Path, tree: Tree, record: Record) -> Iterator[str]:
    if tree["schema_version"] != SCHEMA_VERSION:
        yield f"schema version {tree['schema_version']} is older than {SCHEMA_VERSION}; etad-bench migrate rewrites it"
    elif path.resolve().parts[-3:] != _place(record).parts:
        yield f"should lie at {_place(record)}, by what it holds"
    yield from check(record)
    if not record.command.strip():
        yield "command is empty; nobody can repeat the cell"
    elif not _can_be_split(record.command):
        yield f"command is no command line: {record.command}"
    if record.started_at > datetime.now(UTC) + CLOCK_ERROR:
        yield f"started_at lies in the future ({record.started_at.isoformat()})"
    if record.kind != "published":
        yield from _environment_problems(record)
    if record.kind == "measured":
        yield from _measured_problems(record)


def _environment_problems(record: Record) -> Iterator[str]:
    environment = record.environment
    for name in SECTIONS:
        if name not in environment:
            yield f"environment.{name} is missing"
    for section, key in FACTS:
        facts = environment.get(section)
        if isinstance(facts, Mapping) and facts.get(key) is None and key not in _mapping(facts.get("unknown")):
            yield f"environment.{section}.{key} is not told, and no reason given"


def _measured_problems(record: Record) -> Iterator[str]:
    for where, metrics in [("", record.metrics), *((f"{name}: ", record.phases[name]) for name in record.phases)]:
        for name, metric in metrics.items():
            # A metric that calls itself predicted says what it is, beside measured ones, too.
            named = name.startswith("predicted_")
            if not named and any(word in (metric.method or "") for word in PREDICTING_WORDS):
                yield f"{where}{name} was not measured ({metric.method}), but the record says so"
    devices = list(_devices(record.environment))
    if devices and not any(device in record.device for device in devices):
        yield f"device is {record.device}, but its environment has {', '.join(devices)} only"


def _devices(environment: Mapping[str, Any]) -> Iterator[str]:
    if "cpu" in environment:
        yield f"cpu-{slug(_mapping(environment['cpu']).get('model') or 'unknown')}"
    for gpu in _mapping(environment.get("gpus")).get("found", ()):
        yield slug(gpu["name"])


def _notes(record: Record) -> Iterator[str]:
    if _mapping(record.environment.get("code")).get("git_dirty"):
        yield "made by code that differs from its commit (git_dirty), so the commit alone does not repeat it"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _can_be_split(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True
