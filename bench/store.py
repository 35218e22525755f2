"""The folder of result records, ``<root>/<device>/<suite>/<cell-id>.json``.

Records are told apart by what they hold, not by where they lie: folders of several machines can be copied together.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from bench.record import SCHEMA_VERSION, Metrics, Record, read_record, read_tree, write_record
from etad.errors import DataError, NothingToDoError

Key = tuple[str, str, str]
"""Device, suite and cell id: what a folder of records may hold once."""


@dataclass(frozen=True)
class ResultStore:
    """Records below a folder. The folder need not exist before the first record is written."""

    root: Path

    def path_of(self, record: Record) -> Path:
        """Return where ``record`` lies."""
        return self.root / record.device / record.suite / f"{record.cell_id}.json"

    def write(self, record: Record) -> Path:
        """Write ``record`` atomically, over an earlier one of the same cell; return its path.

        Raises:
            DataError: the record is physically impossible, or the folder cannot be written.
        """
        path = self.path_of(record)
        write_record(path, record)
        return path

    def find(self, cell_id: str, device: str | None = None) -> Record | None:
        """Return the record of a cell, or None: a sweep goes on where it stopped by asking this first.

        Args:
            cell_id: see :func:`bench.record.cell_id`.
            device: slug of the device. None: of whichever device has it.

        Raises:
            DataError: the record is damaged, or several devices have one and none was named.
        """
        paths = sorted(self.root.glob(f"{device or '*'}/*/{cell_id}.json"))
        if len(paths) > 1:
            raise DataError(f"cell {cell_id} is there more than once ({_names(paths)}); name the device")
        return read_record(paths[0]) if paths else None

    def paths(self) -> list[Path]:
        """Return every record file, sorted; hidden files (half-written ones) are left out."""
        return sorted(path for path in self.root.rglob("*.json") if not path.name.startswith("."))

    def scan(self) -> Iterator[tuple[Path, Record | DataError]]:
        """Yield every file with its record, or with what is wrong with it."""
        for path in self.paths():
            try:
                yield path, read_record(path)
            except DataError as error:
                yield path, error

    def records(self) -> list[Record]:
        """Return every record, sorted by path.

        Raises:
            DataError: a file is damaged, or a cell is there twice.
            NothingToDoError: there is no record.
        """
        found = {path: read_record(path) for path in self.paths()}
        if not found:
            raise NothingToDoError(f"{self.root}: no result records there")
        for key, paths in _by_key(found).items():
            if len(paths) > 1:
                raise DataError(
                    f"cell {'/'.join(key)} is there {len(paths)} times ({_names(paths)}); remove the others"
                )
        return list(found.values())

    def to_pandas(self) -> pd.DataFrame:
        """Return one row a record; see :func:`to_pandas`.

        Raises:
            DataError, NothingToDoError: as :meth:`records`.
        """
        return to_pandas(self.records())


def record_files(path: Path) -> list[Path]:
    """Return the record files at or below ``path``, sorted.

    Raises:
        NothingToDoError: there is none.
    """
    files = [path] if path.is_file() else ResultStore(path).paths()
    if not files:
        raise NothingToDoError(f"{path}: no result records there")
    return files


def load_records(path: Path) -> list[Record]:
    """Return the record in a file, or every record below a folder.

    Raises:
        DataError: a file is damaged, or a cell is there twice.
        NothingToDoError: the folder holds no record.
    """
    return [read_record(path)] if path.is_file() else ResultStore(path).records()


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


def to_pandas(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row a record, with flat columns.

    Columns: the record's own fields; ``config.*``, ``measurement.*``, ``findings.*`` and ``environment.*`` by their
    dotted keys; ``metrics.NAME`` and ``phases.PHASE.NAME`` with ``.low`` and ``.high`` where there is an interval. A
    value that is unknown is NaN, its reason is in the record. Raw samples stay in the record.
    """
    return pd.DataFrame.from_records([_row(record) for record in records])


def flat(prefix: str, value: Any) -> dict[str, Any]:
    """Return nested mappings as one, by dotted keys that begin with ``prefix``; a list becomes its text."""
    if isinstance(value, Mapping):
        return {key: item for name, below in value.items() for key, item in flat(f"{prefix}.{name}", below).items()}
    # A list in a cell cannot be grouped by; its text can.
    return {prefix: ", ".join(str(item) for item in value) if isinstance(value, list) else value}


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {
        "device": record.device,
        "suite": record.suite,
        "cell_id": record.cell_id,
        "status": record.status,
        "kind": record.kind,
        "started_at": record.started_at,
        "duration_s": record.duration_s,
        "command": record.command,
        "failure": record.failure.message if record.failure else None,
        "warnings": "; ".join(record.warnings),
    }
    row |= flat("config", record.config)
    row |= flat("measurement", record.measurement)
    _add_metrics("metrics", record.metrics, row)
    for phase, metrics in record.phases.items():
        _add_metrics(f"phases.{phase}", metrics, row)
    row |= flat("findings", record.findings)
    row |= flat("environment", record.environment)
    return row


def _add_metrics(prefix: str, metrics: Metrics, row: dict[str, Any]) -> None:
    for name, metric in metrics.items():
        row[f"{prefix}.{name}"] = metric.value
        for bound in ("low", "high"):
            value = getattr(metric, bound)
            if value is not None:
                row[f"{prefix}.{name}.{bound}"] = value


def _by_key(found: dict[Path, Record]) -> dict[Key, list[Path]]:
    keys: dict[Key, list[Path]] = defaultdict(list)
    for path, record in found.items():
        keys[record.device, record.suite, record.cell_id].append(path)
    return keys


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(str(path) for path in paths)


def _when(record: Record) -> str:
    moment: datetime = record.started_at
    return moment.isoformat(timespec="seconds")
