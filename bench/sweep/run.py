"""Running the cells of a sweep: what is there already stays, each cell has its own process, every end is a record."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from bench.machine.environment import Environment, collect_environment
from bench.machine.processes import Outcome, run_here, run_isolated, usable_cores, waiting_threads
from bench.records.draft import draft
from bench.records.files import read_record
from bench.records.inputs import why_stale
from bench.records.record import Record, Status
from bench.records.store import ResultStore
from bench.suites.suite import SUITES
from bench.sweep.cells import SweepCell
from etad.errors import DataError, UserError
from etad.inputs import Inputs

Rerun = Literal["failed", "stale", "all"]
Done = tuple[SweepCell, Record]
LOG = "log.txt"
"""In a cell's folder: what it printed, tracebacks included."""


class CellListener(Protocol):
    """Hears of cells as they begin and end; called from one thread at a time."""

    def begin(self, cell: SweepCell) -> None:
        """A process starts on ``cell``."""

    def end(self, cell: SweepCell, record: Record) -> None:
        """The record of ``cell`` is written."""


@dataclass(frozen=True)
class Plan:
    """What of a sweep is there, and what is to do.

    Attributes:
        kept: cells with the record that stays.
        todo: cells to run.
        stale: of these, the cells with a record that is of other data than is there now, each with why.
    """

    kept: list[Done]
    todo: list[SweepCell]
    stale: list[tuple[SweepCell, str]]


def make_plan(
    cells: Sequence[SweepCell],
    store: ResultStore,
    environment: Environment,
    rerun: Rerun | None = None,
    anywhere: bool = False,
) -> Plan:
    """Look up what the store has of the cells.

    A record stays whatever its status is, except where ``rerun`` says otherwise or its data changed since; one of
    status "skipped" is no attempt and never stays. An older schema version makes another cell id, so such records do
    not count.

    Args:
        cells: of the sweep.
        store: the records so far.
        environment: of this machine.
        rerun: "failed": run again what ended as error, timeout or oom. "stale": what was made by another commit of this
            project or another version of torch than the present ones. "all": everything.
        anywhere: count records of any machine, because it is not known yet where the cells will run.

    Raises:
        DataError: a record, or an annotation file, is damaged.
    """
    plan, data = Plan([], [], []), _Data()
    for cell in cells:
        record = _anywhere(cell, store) if anywhere else store.find(cell.cell_id, cell.asked.device)
        if record is None or record.status == "skipped" or _again(record, environment, rerun):
            plan.todo.append(cell)
        elif why := why_stale(record, data.inputs(cell)):
            plan.todo.append(cell)
            plan.stale.append((cell, why))
        else:
            plan.kept.append((cell, record))
    return plan


def run_cells(
    cells: Sequence[SweepCell], store: ResultStore, folder: Path, environment: Environment, listener: CellListener
) -> Iterator[Done]:
    """Run cells on this machine and yield each with its record, as they end; the records are written first.

    The cells of a part run ``workers`` at a time, the parts one after the other. Whoever stops iterating ends the
    processes.

    Args:
        cells: what to run.
        store: where the records go.
        folder: for what cells leave behind, one folder a cell; a training that is there goes on.
        environment: of this machine.
        listener: hears of beginnings and ends.

    Raises:
        DataError: a record cannot be written.
    """
    for (_, workers), group in groupby(cells, lambda cell: (cell.part, cell.workers)):
        with _threads_for(workers):
            yield from _run_group(list(group), workers, store, folder, environment, listener)


def run_one(cell: SweepCell, folder: Path, environment: Environment) -> Record:
    """Run one cell in a process of its own and return its record, whatever became of it."""
    # What the profiler's library tells on stderr is for its own developers; it reads this when it is loaded.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    started_at = datetime.now(UTC)
    try:
        outcome = run_isolated(_in_child, cell, folder / cell.cell_id, timeout_s=cell.timeout_s)
    except UserError as error:
        # A cell that cannot be done does not end the others.
        outcome = Outcome("error", None, str(error), started_at, (datetime.now(UTC) - started_at).total_seconds())
    if outcome.value is not None:
        return outcome.value
    log = folder / cell.cell_id / LOG
    if log.is_file():
        outcome = replace(outcome, message=f"{outcome.message} (its log: {log})")
    return failed(cell, outcome, environment)


def failed(cell: SweepCell, outcome: Outcome[Record], environment: Environment, status: Status | None = None) -> Record:
    """Return the record of a cell that has no result: of its outcome's status, unless another one is given."""
    return draft(cell.cell, outcome, cell.asked, environment).failed(status or outcome.status, outcome.message)


def forget(cells: Sequence[SweepCell], folder: Path) -> None:
    """Remove what earlier runs of the cells left behind, so that they begin anew."""
    for cell in cells:
        shutil.rmtree(folder / cell.cell_id, ignore_errors=True)


def check_data(cells: Sequence[SweepCell]) -> None:
    """Find out before hours are spent that a cell's data cannot be used.

    Raises:
        UserError: of the first such cell.
    """
    checked: set[tuple[str, str, str]] = set()
    for cell in cells:
        key = _reads(cell)
        if key not in checked:
            SUITES[cell.suite].check(cell.cell.config, cell.options)
            checked.add(key)


class _Data:
    """What cells read, looked up once for all that read the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Inputs] = {}

    def inputs(self, cell: SweepCell) -> Inputs:
        config = cell.cell.config
        key = (*_reads(cell), config.postprocess.model_dump_json(), str(config.model.encoder.weights))
        if key not in self._known:
            self._known[key] = SUITES[cell.suite].inputs(config, cell.options)
        return self._known[key]


def _reads(cell: SweepCell) -> tuple[str, str, str]:
    """Return what tells the data of a cell from that of others."""
    return cell.suite, cell.cell.config.data.model_dump_json(), cell.options.model_dump_json()


def check_writable(folder: Path) -> None:
    """Find out before hours are spent that results cannot be kept.

    Raises:
        DataError: nothing can be written below ``folder``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from None


def _run_group(
    cells: Sequence[SweepCell],
    workers: int,
    store: ResultStore,
    folder: Path,
    environment: Environment,
    listener: CellListener,
) -> Iterator[Done]:
    speaking = threading.Lock()

    def run(cell: SweepCell) -> Done:
        with speaking:
            listener.begin(cell)
        record = run_one(cell, folder, environment)
        return cell, record

    with waiting_threads(workers) as pool:
        for future in as_completed([pool.submit(run, cell) for cell in cells]):
            cell, record = future.result()
            store.write(record)
            with speaking:
                listener.end(cell, record)
            yield cell, record


def _in_child(cell: SweepCell, folder: Path) -> Record:
    """Measure a cell; what is printed on the way goes to its log, as several cells would write over each other."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    return measure(cell, folder)


def measure(cell: SweepCell, folder: Path) -> Record:
    """Measure a cell in this process and return its record; a GPU whose memory is full is a result, too."""
    started_at = datetime.now(UTC)
    try:
        [record] = SUITES[cell.suite].run([cell.cell], cell.options, folder, run_here)
    except torch.OutOfMemoryError as error:
        duration_s = (datetime.now(UTC) - started_at).total_seconds()
        ran_out = Outcome[Record]("oom", None, str(error).splitlines()[0], started_at, duration_s)
        return failed(cell, ran_out, collect_environment())
    return record


def _again(record: Record, environment: Environment, rerun: Rerun | None) -> bool:
    if rerun == "failed":
        return record.status in ("error", "timeout", "oom")
    if rerun == "stale":
        return _made_by(record.environment) != _made_by(environment.model_dump(mode="json"))
    return rerun == "all"


def _made_by(environment: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the commit of this project and the version of torch."""
    return environment["code"]["git_sha"], environment["torch"]["version"]


def _anywhere(cell: SweepCell, store: ResultStore) -> Record | None:
    """Return the newest record of a cell on any device."""
    records = [read_record(path) for path in store.root.glob(f"*/{cell.suite}/{cell.cell_id}.json")]
    return max(records, key=lambda record: record.started_at, default=None)


@contextmanager
def _threads_for(workers: int) -> Iterator[None]:
    """Share the cores among the processes started inside: their threads together should not outnumber them."""
    name = "OMP_NUM_THREADS"
    if workers == 1 or name in os.environ:
        yield
        return
    os.environ[name] = str(max(1, usable_cores() // workers))
    try:
        yield
    finally:
        del os.environ[name]
