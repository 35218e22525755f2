"""What is freed stays with the process, so that the next tensor finds its pages."""

import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from etad import host_memory
from etad.host_memory import host_rss_peak_bytes, keep_freed_memory

PROGRAM = """
import ctypes, resource, sys
from etad.host_memory import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
size = 64 * 2**20
for turn in range(4):
    if turn == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    address = libc.malloc(size)
    ctypes.memset(address, 1, size)
    libc.free(address)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> tuple[bool, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept == "True", int(count)


def test_a_tensor_gets_the_pages_of_the_one_before() -> None:
    kept, count = faults("keep")
    if not kept:
        pytest.skip("the C library cannot be told")
    three_times_its_pages = 3 * 64 * 2**20 // resource.getpagesize()
    assert count < three_times_its_pages // 100
    # Otherwise every one is new, unless the system backs it with huge pages.
    assert faults("as usual")[1] > count


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()


@pytest.mark.parametrize(("platform", "unit_bytes"), [("linux", 1024), ("darwin", 1)])
def test_the_peak_of_resident_memory_is_in_bytes_on_every_system(
    platform: str, unit_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(host_memory, "Path", lambda _: Path("/nowhere"))  # a system without /proc
    monkeypatch.setattr(host_memory.resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=3000))
    assert host_rss_peak_bytes() == 3000 * unit_bytes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc")
def test_a_new_process_does_not_report_the_peak_of_its_parent() -> None:
    """getrusage does: Linux 6, Python 3.11; see findings/peak-memory-of-the-parent.sh."""
    held = b"1" * (300 * 2**20)
    code = "from etad.host_memory import host_rss_peak_bytes; print(host_rss_peak_bytes())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**20 < int(child.stdout) < len(held) < host_rss_peak_bytes()
