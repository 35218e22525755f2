"""Start this same command once per process, as torchrun would: one line on failure instead of its report."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from etad.first_failure import MARK
from etad.signals import Terminated, end_with_pipe

POLL_S = 0.1
PATIENCE_S = 10.0
"""How long the others may take to notice that one has failed, and the first to say why."""
LAUNCHER = "ETAD_BENCH_LAUNCHER"
"""Variable that gives a started process its end of a pipe to this one."""
FAILED = 3


def is_launched() -> bool:
    """Whether this process is one of several already, started by us or by torchrun."""
    return "RANK" in os.environ


def end_with_launcher() -> None:
    """Where :func:`launch` started this process, end with it, even if it is killed."""
    if handle := os.environ.pop(LAUNCHER, None):
        end_with_pipe(int(handle))


def launch(processes: int) -> int:
    """Run the present command line in ``processes`` processes on this machine and return the exit code.

    When one fails, the others are ended and its code is returned.
    """
    # The threads of all processes together should not outnumber the cores.
    threads = max(1, (os.cpu_count() or 1) // processes)
    ours, theirs = os.pipe()
    with tempfile.TemporaryDirectory(prefix="etad-bench-launch-") as temporary:
        common = {
            **os.environ,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "WORLD_SIZE": str(processes),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
            MARK: str(Path(temporary) / "failed"),
            LAUNCHER: str(ours),
        }
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.cli", *sys.argv[1:]],
                env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                pass_fds=[ours],
            )
            for rank in range(processes)
        ]
        os.close(ours)
        try:
            return _exit_code(children)
        except Terminated:
            # Nobody has told the children; the terminal tells them of Ctrl-C.
            for child in children:
                child.terminate()
            _wait(children)
            raise
        except KeyboardInterrupt:
            _wait(children)
            raise
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()
                child.wait()
            os.close(theirs)


def _exit_code(children: "list[subprocess.Popen[bytes]]") -> int:
    while any(child.poll() is None for child in children):
        if any(child.returncode for child in children):
            _wait(children, PATIENCE_S)
            break
        time.sleep(POLL_S)
    codes = [child.returncode for child in children if child.returncode]
    # Those that ended because another failed say no more than that.
    return next((code for code in codes if code != FAILED), FAILED) if codes else 0


def _wait(children: "list[subprocess.Popen[bytes]]", patience_s: float | None = None) -> None:
    """Wait for all, but no longer than ``patience_s`` together."""
    until = None if patience_s is None else time.monotonic() + patience_s
    for child in children:
        try:
            child.wait(None if until is None else max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
