"""The folder of result records, ``<root>/<device>/<suite>/<cell-id>.json``.

Records are told apart by what they hold, not by where they lie: folders of several machines can be copied together.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.records.files import read_record, write_record
from bench.records.frame import to_pandas
from bench.records.record import Record
from etad.errors import DataError, NothingToDoError

if TYPE_CHECKING:
    import pandas as pd

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
            cell_id: see :func:`bench.records.record.cell_id`.
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

    def to_pandas(self) -> "pd.DataFrame":
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
        DataError: there is no such file or folder, a file is damaged, or a cell is there twice.
        NothingToDoError: the folder holds no record.
    """
    if not path.exists():
        raise DataError(f"{path}: no such folder or file of results")
    return [read_record(path)] if path.is_file() else ResultStore(path).records()


def _by_key(found: dict[Path, Record]) -> dict[Key, list[Path]]:
    keys: dict[Key, list[Path]] = defaultdict(list)
    for path, record in found.items():
        keys[record.device, record.suite, record.cell_id].append(path)
    return keys


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(str(path) for path in paths)
