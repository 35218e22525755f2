"""The host's memory: how much of it this process has held, and keeping what it frees for the next tensor.

Keeping it makes a step on a CPU faster, and its time repeat. By default the C library returns every large tensor to the
system when it is freed. The next one then gets fresh pages, which the system has to find and to clear: thousands of
page faults a step, and how many depends on where the process's memory happens to lie. On two cores of an AMD EPYC that
was up to a third of a training step.
"""

import ctypes
import resource
import sys
from pathlib import Path

# Names and values of <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, from now on; its memory then stays at the largest it ever needed.

    Returns:
        Whether the C library can be told so; only glibc can.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # no C library of that kind: macOS, musl, Windows
        return False
    # No allocation is a mapping of its own, and the top of the heap is never given back.
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def host_rss_peak_bytes() -> int:
    """Return the largest resident size that this process has had so far.

    On Linux by VmHWM of ``/proc/self/status``: getrusage's peak passes through exec, so that a new process begins with
    what the process that started it had (findings/peak-memory-of-the-parent.sh).
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024  # in KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes, other systems in KiB.
    return peak if sys.platform == "darwin" else peak * 1024
