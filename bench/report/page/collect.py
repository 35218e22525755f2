"""The records that a report is about: from folders and files, each cell once, with a line for whatever was left out."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from bench.records.files import read_record
from bench.records.record import Record
from bench.records.store import Key, ResultStore
from bench.report.page.settings import DEVICE, Settings, differing, label, settings_of
from bench.report.reading import experiment, task_name
from etad.errors import DataError, NothingToDoError
from etad.progress import progress

Item = TypeVar("Item")

MOST_LINES = 50
"""Of what was left out; a folder of other files would fill pages."""


@dataclass(frozen=True)
class Entry:
    """A record and the file it came from."""

    path: Path
    record: Record

    @cached_property
    def settings(self) -> Settings:
        """What the cell was set to, in words for a person."""
        return settings_of(self.record)


def telling_names(entries: Iterable[Entry], most: int = 8) -> dict[str, list[str]]:
    """Return, for each experiment, the settings that tell its entries apart; the device is told otherwise."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[experiment(entry.record)].append(entry)
    return {
        name: [setting for setting in differing(entry.settings for entry in group) if setting != DEVICE][:most]
        for name, group in groups.items()
    }


def spread_out(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most so many of ordered items: the first, the last, and evenly many between."""
    if len(items) <= most:
        return list(items)
    step = (len(items) - 1) / (most - 1)
    return [items[round(number * step)] for number in range(most)]


def title(entry: Entry, names: dict[str, list[str]]) -> str:
    """Return experiment, task and telling settings of an entry: "anet_e2e, joint, snippet ratio 0.3"."""
    name, what = experiment(entry.record), task_name(entry.record)
    parts = [name, "" if what.startswith("training") else what, label(entry.settings, names[name])]
    return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Collected:
    """What was found.

    Attributes:
        entries: one for each cell and device, sorted by device, suite and start.
        unreadable: one line for each file that is not a record, or is a damaged one.
        duplicates: one line for each cell that several files hold; the newest counts.
    """

    entries: tuple[Entry, ...]
    unreadable: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What was left out, one line each; of many, the first ones."""
        lines = (*self.unreadable, *self.duplicates)
        more = len(lines) - MOST_LINES
        return (*lines[:MOST_LINES], f"and {more} more") if more > 0 else lines


def collect(sources: Sequence[Path]) -> Collected:
    """Read the records of folders and files. What cannot be read is told, not raised.

    Raises:
        DataError: a source does not exist.
        NothingToDoError: there is no readable record.
    """
    paths = list(dict.fromkeys(path for source in sources for path in _files(source)))
    unreadable: list[str] = []
    cells: dict[Key, list[Entry]] = {}
    for path in progress(paths, "records", total=len(paths), unit="record"):
        try:
            record = read_record(path)
        except DataError as error:
            unreadable.append(str(error))
            continue
        cells.setdefault((record.device, record.suite, record.cell_id), []).append(Entry(path, record))
    if not cells:
        where = ", ".join(map(str, sources))
        damaged = (
            f"; {len(unreadable)} files are not readable records, the first: {unreadable[0]}" if unreadable else ""
        )
        raise NothingToDoError(f"{where}: no result records there{damaged}")
    entries, duplicates = [], []
    for key, found in cells.items():
        newest = max(found, key=lambda entry: entry.record.started_at)
        entries.append(newest)
        if len(found) > 1:
            names = ", ".join(str(entry.path) for entry in found)
            duplicates.append(f"cell {'/'.join(key)} is there {len(found)} times ({names}); {newest.path} counts")
    entries.sort(key=lambda entry: (entry.record.device, entry.record.suite, entry.record.started_at))
    return Collected(tuple(entries), tuple(unreadable), tuple(duplicates))


def _files(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield from ResultStore(source).paths()
    elif source.exists():
        yield source
    else:
        raise DataError(f"{source}: no such folder or file of results")
