"""Record files: writing them atomically, reading them strictly, lifting those of older schema versions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pydantic

from bench.records.flat import dig
from bench.records.record import SCHEMA_VERSION, Record, Tree
from bench.records.sanity import check
from etad.errors import DataError, explained
from etad.files import parse_json, read_text, write_json

JUDGED = ("stability.", "bound", "target", "verdict")
"""How the findings begin that were a word and the evidence, joined by ": ", before schema version 3."""


def _with_findings_and_task(tree: Tree) -> Tree:
    """Lift from schema version 2: findings are a verdict and why, one key says what a cell does, a baseline's torch."""
    # What does not have the form of a record stays as it is: validation names it.
    lifted, measurement, findings = dict(tree), tree.get("measurement"), tree.get("findings")
    if isinstance(measurement, dict):
        measurement = lifted["measurement"] = dict(measurement)
        if "inference" in measurement:
            measurement["task"] = "infer" if measurement.pop("inference") else "train"
        elif "what" in measurement:
            measurement["task"] = measurement.pop("what")
        version = dig(tree, "environment.torch.version")
        if tree.get("suite") == "baseline" and isinstance(version, str):
            measurement["torch_release"] = ".".join(version.split(".")[:2])
    if isinstance(findings, dict):
        lifted["findings"] = {name: _with_why(name, text) for name, text in findings.items()}
    return lifted


def _with_why(name: str, text: Any) -> Any:
    if not isinstance(text, str):
        return text
    verdict, _, why = text.partition(": ") if name.startswith(JUDGED) else (text, "", "")
    return {"verdict": verdict, "why": why}


MIGRATIONS: dict[int, Callable[[Tree], Tree]] = {
    1: lambda tree: {**tree, "findings": {}},
    2: _with_findings_and_task,
}
"""From a schema version to the function that lifts a record's plain mapping to the next one; the cell id follows."""


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
        first, *others = explained(error, Record)
        more = f" (and {len(others)} more)" if others else ""
        raise DataError(f"{path}: {first}{more}") from None


def read_tree(path: Path) -> Tree:
    """Read a record's file as a plain mapping, as it is.

    Raises:
        DataError: unreadable, truncated, NaN inside, or no record at all; one line.
    """

    def refuse(constant: str) -> NoReturn:
        raise DataError(f"{path}: holds {constant}, which is not a result; unknown values are null with a reason")

    tree = parse_json(path, read_text(path), constant_hook=refuse)
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


def json_schema() -> Tree:
    """Return the JSON Schema of a record file; the same is in ``bench/record.schema.json``, for other languages."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Record.model_json_schema()}
