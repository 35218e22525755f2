"""Running a cell in a process of its own: it starts clean, disturbs nobody, and its crash is a result, not an end."""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any, Generic, Literal, Protocol, TypeVar

from etad.errors import UserError
from etad.signals import end_with_parent

EXIT_PATIENCE_S = 10.0
"""How long a child may take to end once it has answered."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one call.

    Attributes:
        status: "ok", "oom" (the GPU's memory ran out), "error" (it raised, or its process died) or "timeout".
        value: what the function returned; None unless the status is "ok".
        message: why there is none, in one line; empty if the status is "ok". The traceback is on stderr.
        started_at: when the process was started, UTC.
        duration_s: from then until it answered or was given up, its start included.
    """

    status: Literal["ok", "oom", "error", "timeout"]
    value: Result | None
    message: str
    started_at: datetime
    duration_s: float


def run_isolated(function: Callable[..., Result], *arguments: Any, timeout_s: float) -> Outcome[Result]:
    """Call ``function`` in a new process.

    Args:
        function: of a module's top level, because the new process imports it.
        arguments: picklable.
        timeout_s: after this time the process is ended.

    Raises:
        UserError: the function raised it; the user's mistake is the same in this process.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    # Not a daemon, since those may not have children of their own, such as workers that load data.
    child = context.Process(target=_answer, args=(sender, function, arguments), daemon=False)
    started_at, begun = datetime.now(UTC), time.perf_counter()
    child.start()
    # With our copy of the sending end closed, the end of the child ends the waiting.
    sender.close()
    try:
        answer = _wait(receiver, timeout_s)
        duration_s = time.perf_counter() - begun
        if answer != "timeout":
            child.join(EXIT_PATIENCE_S)
    finally:
        if child.is_alive():
            child.kill()
        child.join()
        receiver.close()
    if answer == "timeout":
        message = f"gave no result within {timeout_s:g} s, and was ended"
        return Outcome("timeout", None, message, started_at, duration_s)
    if answer is None:
        return Outcome("error", None, _how_it_ended(child.exitcode), started_at, duration_s)
    kind, content = answer
    if kind == "mistake":
        raise content
    if kind in ("oom", "error"):
        return Outcome(kind, None, content, started_at, duration_s)
    return Outcome("ok", content, "", started_at, duration_s)


def run_all(
    function: Callable[..., Result], calls: Sequence[tuple[Any, ...]], timeout_s: float, workers: int = 1
) -> Iterator[Outcome[Result]]:
    """Yield the outcome of every call, in the order of ``calls``.

    Args:
        function, timeout_s: see :func:`run_isolated`.
        calls: the arguments of each call.
        workers: processes at a time. Whoever measures takes 1.
    """
    with waiting_threads(workers) as pool:
        futures = [pool.submit(run_isolated, function, *arguments, timeout_s=timeout_s) for arguments in calls]
        for future in futures:
            yield future.result()


class Runner(Protocol):
    """Calls a function with several arguments in turn: :func:`run_all`, or :func:`run_here`."""

    def __call__(
        self, function: Callable[..., Result], calls: Sequence[tuple[Any, ...]], timeout_s: float, workers: int = 1
    ) -> Iterator[Outcome[Result]]:
        """Yield the outcome of every call, in the order of ``calls``."""


def run_here(
    function: Callable[..., Result], calls: Sequence[tuple[Any, ...]], timeout_s: float, workers: int = 1
) -> Iterator[Outcome[Result]]:
    """Do as :func:`run_all`, but in this process, which is a cell's own already: what a call raises is raised."""
    for arguments in calls:
        started_at, begun = datetime.now(UTC), time.perf_counter()
        value = function(*arguments)
        yield Outcome("ok", value, "", started_at, time.perf_counter() - begun)


@contextmanager
def waiting_threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of threads that only wait, each for its process; an exception ends all processes."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.kill()
        raise
    finally:
        pool.shutdown()


def use_threads(count: int) -> None:
    """Let this process, and those it starts from now on, compute with so many threads."""
    import torch  # not everything that runs isolated needs it

    os.environ["OMP_NUM_THREADS"] = str(count)
    torch.set_num_threads(count)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _wait(receiver: Connection, timeout_s: float) -> Any:
    """Return the answer, "timeout", or None if the child died."""
    if not receiver.poll(timeout_s):
        return "timeout"
    try:
        return receiver.recv()
    except EOFError:
        return None


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """In the child: call, and send what came of it."""
    # Ctrl-C is the parent's to handle; it ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        sender.send(("value", function(*arguments)))
    except UserError as error:
        sender.send(("mistake", error))
    except Exception as error:
        text = str(error).strip().splitlines()
        name = type(error).__name__
        # By its name, since not everything that runs isolated needs torch.
        is_out_of_memory = name == "OutOfMemoryError"
        if not is_out_of_memory:
            traceback.print_exc()
        sender.send(("oom" if is_out_of_memory else "error", ": ".join([name, *text[:1]])))


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"its process ended with exit code {exit_code} and no result"
    name = signal.Signals(-exit_code).name
    hint = "; the system ends processes that way when memory runs out" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"
