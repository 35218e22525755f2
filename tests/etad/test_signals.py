"""SIGTERM ends as Ctrl-C does, and a child does not outlive its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

TIDIES = """
import time
from pathlib import Path
from etad.files import replace_atomically
from etad.signals import terminate_as_interrupt
terminate_as_interrupt()
try:
    with replace_atomically(Path("target")):
        print("ready", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    raise SystemExit(130)
"""

PARENT = """
import multiprocessing, time
from etad.signals import end_with_parent

def child():
    end_with_parent()
    time.sleep(60)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    print(process.pid, flush=True)
    process.join()
"""


def _start(folder: Path, program: str) -> "subprocess.Popen[bytes]":
    (folder / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "program.py"], cwd=folder, env=environment, stdout=subprocess.PIPE)


def test_sigterm_tidies_up(tmp_path: Path) -> None:
    process = _start(tmp_path, TIDIES)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def test_a_child_ends_with_a_killed_parent(tmp_path: Path) -> None:
    process = _start(tmp_path, PARENT)
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait()
    until = time.monotonic() + 30
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
        time.sleep(0.05)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
