"""Two revisions of a project on one machine: their benchmarks in turns, and their deterministic quantities.

A machine is faster in one minute than in the next, and one process faster than the next that runs the same code. So
the revisions take turns, each time in a new process, and a process gives one sample of each benchmark: its fastest
round, which whatever else the machine did has delayed least. Which revision goes first alternates.

Both run the benchmarks of HEAD, so that only what they measure differs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine.environment import Code, collect_environment, device_slug
from bench.records.record import Metric, Record
from bench.records.store import ResultStore
from bench.timing_statistics import bootstrap_interval, median
from etad.errors import ConfigError, NothingToDoError, UserError

SUITE = "benchmarks"
BASELINE_PLACES = ("compare/baseline.py", "baseline.py")
"""Where a revision has its exact quantities: now, and before the rooms of version 0.2."""
TIMEOUT_S = 900.0

Turn = tuple[int, dict[str, float]]
"""Which side a process measured, 0 or 1, and its sample of each benchmark, in seconds."""
Samples = dict[str, list[float]]
"""All samples of a side, by benchmark."""


class BenchmarkError(UserError):
    """The benchmarks of HEAD fail."""

    exit_code = 3


@dataclass(frozen=True)
class Checkout:
    """A revision's files.

    Attributes:
        folder: where they are.
        name: the revision, for the reader.
        commit: its full SHA; the commit that the working tree is based on.
        dirty: whether tracked files differ from it.
    """

    folder: Path
    name: str
    commit: str
    dirty: bool


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes:
        base, head: revisions; head None: the working tree.
        benchmarks: folder of pytest-benchmark tests, relative to a checkout.
        rounds: processes a side; 0: no times.
        exact: whether to compare the deterministic quantities.
        command: command line for the records.
    """

    base: str
    head: str | None
    benchmarks: Path
    rounds: int
    exact: bool
    command: str


@dataclass(frozen=True)
class Found:
    """The records of both revisions, and what could not be had, one line each."""

    base: list[Record]
    head: list[Record]
    notes: list[str]


def run_gate(plan: Plan, repository: Path, shown: Callable[[Iterator[Turn]], Iterable[Turn]] = iter) -> Found:
    """Measure both revisions.

    Args:
        plan: what to compare.
        repository: any folder of the git repository.
        shown: wraps the turns, in a progress bar for example.

    Raises:
        ConfigError: no repository, or no such revision.
        NothingToDoError: HEAD has no benchmarks.
        BenchmarkError: HEAD's benchmarks fail.
    """
    found = Found([], [], [])
    with checkouts(repository, plan.base, plan.head) as pair:
        if plan.exact:
            exact = [exact_records(checkout) for checkout in pair]
            if all(exact):
                found.base.extend(exact[0])
                found.head.extend(exact[1])
            else:
                found.notes.append("no deterministic quantities: a revision does not have etad-bench baseline")
        if plan.rounds:
            started_at = datetime.now(UTC)
            samples: tuple[Samples, Samples] = ({}, {})
            for side, taken in shown(take_turns(pair, plan.benchmarks, plan.rounds, found.notes)):
                for name, seconds in taken.items():
                    samples[side].setdefault(name, []).append(seconds)
            for checkout, taken_by, records in zip(pair, samples, (found.base, found.head), strict=True):
                records.extend(benchmark_records(checkout, taken_by, plan.command, started_at))
    return found


@contextmanager
def checkouts(repository: Path, base: str, head: str | None) -> Iterator[tuple[Checkout, Checkout]]:
    """Check out two revisions beside the working tree, and remove them afterwards.

    Args:
        repository: any folder of the git repository.
        base, head: revisions; head None: the working tree as it is.

    Raises:
        ConfigError: no repository, or no such revision.
    """
    root = Path(_git(repository, "rev-parse", "--show-toplevel"))
    with ExitStack() as stack:
        found = [stack.enter_context(_worktree(root, revision)) for revision in (base, head) if revision is not None]
        if head is None:
            dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
            found.append(Checkout(root, "working tree", _commit(root, "HEAD"), dirty))
        yield found[0], found[1]


@contextmanager
def _worktree(root: Path, revision: str) -> Iterator[Checkout]:
    commit = _commit(root, revision)
    with tempfile.TemporaryDirectory(prefix="etad-bench-gate-") as temporary:
        folder = Path(temporary) / "checkout"
        _git(root, "worktree", "add", "--detach", "--quiet", str(folder), commit)
        try:
            yield Checkout(folder, f"{revision} ({commit[:9]})", commit, dirty=False)
        finally:
            _git(root, "worktree", "remove", "--force", str(folder))


def take_turns(checkouts: Sequence[Checkout], benchmarks: Path, rounds: int, notes: list[str]) -> Iterator[Turn]:
    """Run HEAD's benchmarks in both checkouts by turns; yield which it was and its sample of each benchmark.

    Args:
        checkouts: BASE and HEAD.
        benchmarks: folder of pytest-benchmark tests, relative to a checkout.
        rounds: processes a side.
        notes: gets a line for what BASE cannot run.

    Raises:
        NothingToDoError: HEAD has no such folder, or nothing in it is a benchmark.
        BenchmarkError: a benchmark of HEAD fails, or a process measures another checkout than it should.
    """
    source = checkouts[1].folder / benchmarks
    if not source.is_dir():
        raise NothingToDoError(f"{benchmarks}: no such folder in {checkouts[1].name}")
    with tempfile.TemporaryDirectory(prefix="etad-bench-gate-") as temporary:
        # As part of a package they would be imported from the checkout they lie in, and it along with them.
        folder = Path(temporary) / "benchmarks"
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__init__.py", "__pycache__"))
        for number in range(rounds):
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                samples, failure = run_benchmarks(checkouts[side], folder)
                if failure and side == 1:
                    raise BenchmarkError(f"HEAD, {checkouts[1].name}: {failure}")
                if failure and f"BASE: {failure}" not in notes:
                    notes.append(f"BASE: {failure}")
                if side == 1 and not samples:
                    raise NothingToDoError(f"{benchmarks}: not one benchmark ran in {checkouts[1].name}")
                yield side, samples


def run_benchmarks(checkout: Checkout, folder: Path) -> tuple[dict[str, float], str]:
    """Run a folder of benchmarks once, in a process that imports from ``checkout``.

    Returns:
        One sample of each benchmark that ran; and what failed, in one line, or "".

    Raises:
        BenchmarkError: the process measured another checkout, or gave no result in time.
    """
    output = folder.parent / "benchmarks.json"
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", str(folder), "--rootdir", str(folder), "-c", os.devnull, "-q"]
    command += ["--tb=line", "-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin", f"--benchmark-json={output}"]
    try:
        done = subprocess.run(
            command, env=_environment_of(checkout), cwd=folder.parent, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{checkout.name}: the benchmarks took more than {TIMEOUT_S:g} s") from None
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    failure = failures[0].replace(str(folder) + os.sep, "") if failures else ""
    if not output.is_file() or not output.stat().st_size:
        lines = (done.stdout + done.stderr).strip().splitlines()
        return {}, failure or f"no benchmark ran: {lines[-1] if lines else 'no output'}"
    tree: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    measured = tree.get("etad_folder")
    if measured is not None and not Path(measured).is_relative_to(checkout.folder.resolve()):
        raise BenchmarkError(f"{checkout.name}: the benchmarks measured {measured} instead")
    return {item["name"]: item["stats"]["min"] for item in tree["benchmarks"]}, failure


def benchmark_records(
    checkout: Checkout, samples: Mapping[str, Sequence[float]], command: str, started_at: datetime
) -> list[Record]:
    """Return a record a benchmark: ``round_s``, with one sample of each process."""
    code = Code(git_sha=checkout.commit, git_dirty=checkout.dirty)
    environment = collect_environment().model_copy(update={"code": code})
    return [
        Record(
            status="ok",
            kind="measured",
            suite=SUITE,
            device=device_slug(environment),
            config={"name": name},
            measurement={},
            metrics={"round_s": _seconds(values)},
            environment=environment.model_dump(mode="json"),
            command=command,
            started_at=started_at,
            duration_s=(datetime.now(UTC) - started_at).total_seconds(),
        )
        for name, values in samples.items()
    ]


def exact_records(checkout: Checkout) -> list[Record]:
    """Return the deterministic quantities of a checkout of this project; of one that has none, an empty list.

    Raises:
        BenchmarkError: they cannot be computed.
    """
    if not any((checkout.folder / "bench" / place).is_file() for place in BASELINE_PLACES):
        return []
    with tempfile.TemporaryDirectory(prefix="etad-bench-gate-") as temporary:
        command = [sys.executable, "-m", "bench.cli", "baseline", "save", "--folder", temporary]
        done = subprocess.run(
            command, env=_environment_of(checkout), cwd=checkout.folder, capture_output=True, text=True
        )
        if done.returncode:
            raise BenchmarkError(f"{checkout.name}: baseline: {done.stderr.strip().splitlines()[-1]}")
        return ResultStore(Path(temporary)).records()


def _seconds(values: Sequence[float]) -> Metric:
    low, high = bootstrap_interval(values) or (None, None)
    method = "one sample a process: its fastest round"
    return Metric(value=median(values), unit="s", samples=tuple(values), low=low, high=high, method=method)


def _environment_of(checkout: Checkout) -> dict[str, str]:
    return os.environ | {
        # Before whatever is installed; with both usual layouts of a project.
        "PYTHONPATH": os.pathsep.join([str(checkout.folder), str(checkout.folder / "src")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        # As keep_freed_memory of etad/host_memory.py, which a revision or another project may not have.
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "-1",
        # Plugins take longer to load than benchmarks to run, and xdist would switch the benchmarks off.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }


def _commit(root: Path, revision: str) -> str:
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except ConfigError:
        raise ConfigError(f"{revision}: no such revision in {root}") from None


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except OSError as error:
        raise ConfigError(f"git cannot be run ({error.strerror})") from None
    if done.returncode:
        raise ConfigError(f"git {arguments[0]}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    return done.stdout.strip()
