"""Running the cells of a sweep as jobs of Slurm, through submitit (extra ``slurm``): one job a cell, in arrays.

The jobs write the records themselves, into a store on a file system that all nodes share; so what is done is kept even
when the process that waits for them is gone. A job that Slurm itself ends is noticed where its accounting (sacct) runs.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.machine.environment import Environment, collect_environment
from bench.machine.processes import Outcome
from bench.records.record import Record
from bench.records.store import ResultStore
from bench.sweep.cells import SweepCell
from bench.sweep.run import CellListener, Done, failed, run_one
from etad.errors import ConfigError, nearest
from etad.files import yaml_value

SPARE_MIN = 5
"""Minutes that a job gets on top of its cell's timeout, to start and to write its record."""
POLL_S = 1.0


class SlurmJobs:
    """The jobs of a sweep, not submitted yet."""

    def __init__(self, folder: Path, parameters: Sequence[str] = (), cluster: str = "slurm") -> None:
        """Find out whether jobs could be submitted.

        Args:
            folder: for the jobs' logs; on a file system that all nodes share.
            parameters: ``KEY=VALUE`` for sbatch, such as ``partition=gpu`` or ``gpus_per_node=1``.
            cluster: submitit's executor; others than "slurm" are for trying things out without one.

        Raises:
            ConfigError: submitit or Slurm is not installed, or a parameter is not known.
        """
        try:
            import submitit
        except ImportError:
            raise ConfigError("--launcher slurm: needs submitit; pip install 'etad-bench[slurm]'") from None
        try:
            self._executor = submitit.AutoExecutor(folder / "%j", cluster=cluster)
        except RuntimeError as error:
            raise ConfigError(f"--launcher slurm: {error}") from None
        given = _parsed(parameters)
        valid = [*self._executor._typed_parameters(), *submitit.SlurmExecutor._valid_parameters()]
        for key in given:
            if key not in valid:
                raise ConfigError(f"--slurm {key}: unknown; {nearest(key, sorted(valid))}")
        self._executor.update_parameters(name="etad-bench", **{f"slurm_{key}": value for key, value in given.items()})
        self._own_time = "time" in given or "timeout_min" in given

    def run(
        self, cells: Sequence[SweepCell], store: ResultStore, folder: Path, listener: CellListener
    ) -> Iterator[Done]:
        """Submit the cells and yield each with its record, as they end; the records are written first.

        Cells with the same timeout make an array. Whoever stops iterating cancels the jobs that have not ended.

        Args:
            cells: what to run.
            store: where the records go.
            folder: for what cells leave behind.
            listener: hears of beginnings and ends.
        """
        # A job may start elsewhere, so paths have to be absolute.
        places = (ResultStore(store.root.resolve()), folder.resolve())
        waiting: dict[str, tuple[SweepCell, Any]] = {}
        try:
            for timeout_s, group in groupby(sorted(cells, key=lambda cell: cell.timeout_s), lambda c: c.timeout_s):
                if not self._own_time:
                    self._executor.update_parameters(timeout_min=math.ceil(timeout_s / 60) + SPARE_MIN)
                array = list(group)
                jobs = self._executor.map_array(_job, array, [places] * len(array))
                waiting |= {cell.cell_id: (cell, job) for cell, job in zip(array, jobs, strict=True)}
            begun: set[str] = set()
            while waiting:
                for identity, (cell, job) in list(waiting.items()):
                    done = job.done()
                    if identity not in begun and (done or job.state == "RUNNING"):
                        begun.add(identity)
                        listener.begin(cell)
                    if done:
                        del waiting[identity]
                        record = _record_of(cell, job, store)
                        listener.end(cell, record)
                        yield cell, record
                if waiting:
                    time.sleep(POLL_S)
        finally:
            for _, job in waiting.values():
                job.cancel(check=False)


def _job(cell: SweepCell, places: tuple[ResultStore, Path]) -> Record:
    """In the job: run the cell and keep its record."""
    store, folder = places
    record = run_one(cell, folder, collect_environment())
    store.write(record)
    return record


def _record_of(cell: SweepCell, job: Any, store: ResultStore) -> Record:
    """Return what the job returned; if it died, a record that says so, which is written here."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        record: Record = job.result()
    except (FailedJobError, UncompletedJobError) as error:
        environment: Environment = collect_environment()
        message = f"job {job.job_id} ended without a result ({job.state}); its log: {job.paths.stderr}"
        dead = Outcome[Record]("timeout" if job.state == "TIMEOUT" else "error", None, message, datetime.now(UTC), 0.0)
        record = failed(cell, dead, environment)
        record = record.model_copy(update={"warnings": (*record.warnings, _last_line(str(error)))})
        store.write(record)
    return record


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _parsed(parameters: Sequence[str]) -> Mapping[str, Any]:
    parsed = {}
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        if not (key and equals):
            raise ConfigError(f"--slurm {parameter}: write it as KEY=VALUE, e.g. partition=gpu")
        parsed[key.replace("-", "_")] = yaml_value(value, f"--slurm {parameter}")
    return parsed
