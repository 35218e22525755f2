"""A process for each cell: what it returns, how it fails, and that nothing of it is left."""

import multiprocessing
import os
import signal
import time

import pytest
import torch

from bench.machine.processes import run_all, run_isolated
from etad.errors import ConfigError


def double(number: int) -> int:
    return 2 * number


def process_id() -> int:
    return os.getpid()


def raise_a_bug() -> None:
    raise ZeroDivisionError("first line\nsecond line")


def run_out_of_memory() -> None:
    raise torch.OutOfMemoryError("tried to allocate 2 MiB")


def raise_a_mistake() -> None:
    raise ConfigError("chunk: must be at least 1")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    os._exit(7)


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def run_a_child() -> int | None:
    child = multiprocessing.get_context("spawn").Process(target=leave)
    child.start()
    child.join()
    return child.exitcode


def test_the_process_may_have_children() -> None:
    # Workers that load data are such children.
    assert run_isolated(run_a_child, timeout_s=60).value == 7


def test_a_result_comes_back_from_another_process() -> None:
    outcome = run_isolated(process_id, timeout_s=60)
    assert (outcome.status, outcome.message) == ("ok", "")
    assert outcome.value != os.getpid()
    assert outcome.duration_s > 0


def test_a_bug_is_an_outcome_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    outcome = run_isolated(raise_a_bug, timeout_s=60)
    assert (outcome.status, outcome.value) == ("error", None)
    assert outcome.message == "ZeroDivisionError: first line"
    assert "Traceback" in capfd.readouterr().err


def test_lack_of_memory_is_an_outcome_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    outcome = run_isolated(run_out_of_memory, timeout_s=60)
    assert (outcome.status, outcome.message) == ("oom", "OutOfMemoryError: tried to allocate 2 MiB")
    assert "Traceback" not in capfd.readouterr().err


def test_a_mistake_of_the_user_stays_one() -> None:
    with pytest.raises(ConfigError, match="chunk: must be at least 1"):
        run_isolated(raise_a_mistake, timeout_s=60)


def test_a_death_is_named() -> None:
    killed = run_isolated(die, timeout_s=60)
    assert killed.status == "error"
    assert "SIGKILL" in killed.message
    assert "memory runs out" in killed.message
    assert "exit code 7" in run_isolated(leave, timeout_s=60).message


def test_who_takes_too_long_is_ended() -> None:
    outcome = run_isolated(sleep, 600.0, timeout_s=0.2)
    assert outcome.status == "timeout"
    assert "0.2 s" in outcome.message
    assert not multiprocessing.active_children()


def test_outcomes_come_in_the_order_of_the_calls() -> None:
    outcomes = list(run_all(double, [(number,) for number in range(3)], timeout_s=60, workers=2))
    assert [outcome.value for outcome in outcomes] == [0, 2, 4]


def test_who_stops_listening_ends_the_processes() -> None:
    outcomes = run_all(sleep, [(0.0,), (600.0,)], timeout_s=600, workers=2)
    assert next(outcomes).value == 0.0
    outcomes.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
