"""Start this same command once per process, as torchrun would: one line on failure instead of its report."""

import os
import socket
import subprocess
import sys
import time

POLL_S = 0.1


def is_launched() -> bool:
    """Whether this process is one of several already, started by us or by torchrun."""
    return "RANK" in os.environ


def launch(processes: int) -> int:
    """Run the present command line in ``processes`` processes on this machine and return the exit code.

    When one fails, the others are ended and its code is returned.
    """
    # The threads of all processes together should not outnumber the cores.
    threads = max(1, (os.cpu_count() or 1) // processes)
    common = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(processes),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.cli", *sys.argv[1:]],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(processes)
    ]
    try:
        while any(child.poll() is None for child in children):
            if failed := next((child.returncode for child in children if child.returncode), None):
                return failed
            time.sleep(POLL_S)
        return next((child.returncode for child in children if child.returncode), 0)
    except KeyboardInterrupt:
        # The terminal has told the children, too; they end in their own time.
        for child in children:
            child.wait()
        raise
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
            child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
