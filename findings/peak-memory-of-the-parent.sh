#!/usr/bin/env bash
# A fresh process on Linux reports its parent's memory as its own peak, and asv's peakmem takes it for the benchmark's.
# asv-runner 0.3.2, whose `get_maxrss` reads ru_maxrss of getrusage, as most Python code that asks for a peak does.
# One would guess that a benchmark in a process of its own is measured from zero. On Linux the peak that getrusage tells
# goes through exec: it starts at the resident size of the process that started it, whether by subprocess or by
# multiprocessing's spawn. A child that does nothing reports more than 400 MiB under a parent that holds 400 MiB, and
# some 20 MiB under a small one. The kernel's other number, VmHWM of /proc/self/status, starts afresh.
# Why it matters: "peak memory of the step" then depends on what the program that runs the benchmarks has loaded or
# kept, and a leak in the runner looks like a regression of everything that it measures.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check asv-runner==0.3.2
cd "$folder"
cat > child.py <<'PYTHON'
import json
from pathlib import Path

from asv_runner.benchmarks._maxrss import get_maxrss

status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peaks = {"asv": get_maxrss(), "VmHWM": int(status["VmHWM"].split()[0]) * 1024}
print(json.dumps(peaks))
PYTHON
"$folder/venv/bin/python" - <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version

MIB = 2**20
print("asv-runner", version("asv-runner"))


def child():
    return json.loads(subprocess.run([sys.executable, "child.py"], capture_output=True, check=True).stdout)


small = child()
kept = bytearray(b"\1") * (400 * MIB)
large = child()
for name in ("asv", "VmHWM"):
    print(f"{name}: {small[name] / MIB:.0f} MiB under a small parent, {large[name] / MIB:.0f} MiB under a large one")
assert large["asv"] > 400 * MIB and small["asv"] < 200 * MIB
assert large["VmHWM"] < 200 * MIB
assert len(kept) == 400 * MIB
PYTHON
