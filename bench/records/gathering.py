"""Rewriting a folder of records to the present schema, and gathering the folders of several machines."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from bench.records.files import read_record, read_tree, write_record
from bench.records.record import SCHEMA_VERSION, Record
from bench.records.store import ResultStore, record_files
from etad.errors import DataError


def migrate(root: Path) -> list[tuple[Path, Path]]:
    """Rewrite the records of older schema versions below ``root``; nothing is written if one of them cannot be.

    A file that was named by its cell gets the cell's new id.

    Returns:
        Old and new path of each record rewritten, in order.

    Raises:
        DataError: a damaged record, one of a version without a migration, two files of one cell, or a folder that
            cannot be written.
        NothingToDoError: there is no record.
    """
    moves: dict[Path, tuple[Path, Record]] = {}
    for old in record_files(root):
        tree = read_tree(old)
        if tree["schema_version"] == SCHEMA_VERSION:
            continue
        record = read_record(old)
        new = old.with_name(f"{record.cell_id}.json") if old.stem == tree.get("cell_id") else old
        there = moves[new][0] if new in moves else new
        if there != old and there.exists() and read_record(there) != record:
            raise DataError(f"{old} and {there} are the same cell with different results; remove one")
        moves[new] = old, record
    for new, (old, record) in moves.items():
        write_record(new, record)
        if new != old:
            old.unlink()
    return [(old, new) for new, (old, _) in moves.items()]


@dataclass
class Merged:
    """What :func:`merge` did, as paths in the target."""

    copied: list[Path] = field(default_factory=list)
    identical: list[Path] = field(default_factory=list)
    """The target had the same record already."""
    replaced: list[Path] = field(default_factory=list)
    """The target's record gave way to a newer one."""
    kept: list[Path] = field(default_factory=list)
    """The target's record was the newer one."""


def merge(sources: Iterable[Path], target: Path, conflicts: Literal["error", "newest"] = "error") -> Merged:
    """Copy the records of ``sources`` into ``target``; a cell that differs between them is a conflict.

    Args:
        sources: folders of records, of several machines for example.
        target: folder to gather them in; what it holds already takes part.
        conflicts: refuse them before anything is written, or keep the record that started last.

    Raises:
        DataError: a damaged record, a conflict under "error", or a target that cannot be written.
        NothingToDoError: a source holds no record.
    """
    store = ResultStore(target)
    present = {store.path_of(record): record for record in (store.records() if store.paths() else [])}
    result = Merged()
    incoming: dict[Path, Record] = {}
    for source in sources:
        for record in ResultStore(source).records():
            path = store.path_of(record)
            other = incoming.get(path) or present.get(path)
            if other is None:
                result.copied.append(path)
            elif other == record:
                result.identical.append(path)
                continue
            elif conflicts == "error":
                raise DataError(
                    f"cell {record.cell_id} differs: {source} has it of {_when(record)}, "
                    f"another folder of {_when(other)}; take the newest, or remove one"
                )
            elif record.started_at <= other.started_at:
                result.kept.append(path)
                continue
            elif path in present:
                result.replaced.append(path)
            incoming[path] = record
    for record in incoming.values():
        store.write(record)
    return result


def _when(record: Record) -> str:
    moment: datetime = record.started_at
    return moment.isoformat(timespec="seconds")
