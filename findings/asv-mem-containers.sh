#!/usr/bin/env bash
# asv's mem_ benchmark says 184 bytes for a dict that holds an 8 MB array.
# asv-runner 0.3.2 with Pympler 1.1 and numpy 2.4.6.
# One would guess that a benchmark documented to give the memory of the returned object gives its deep size: for a bare
# array it does. It takes the size of [object, copy.copy(object)] less that of [object, object], and copy.copy of a
# container is shallow: the copy shares the arrays, so that what is counted is the shell. A dict of features, a list of
# ten arrays, a dataclass: a few hundred bytes; a tuple, which copies to itself: 0.
# Why it matters: batches, model states and results are containers, and a mem_ benchmark of one stays flat whatever they
# hold: it cannot catch a regression.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check asv-runner==0.3.2 Pympler==1.1 numpy==2.4.6
cd "$folder"
# asv reads the source of a benchmark, so it has to be in a file.
cat >sizes.py <<'PYTHON'
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from asv_runner.benchmarks.mem import MemBenchmark

print("asv-runner", version("asv-runner"), "Pympler", version("Pympler"), "numpy", version("numpy"))


@dataclass
class Batch:
    features: np.ndarray


def measured(make):
    return MemBenchmark("mem_features", make, []).run()


def array(size=1_000_000):
    return np.zeros(size)


sizes = {
    "an array": measured(array),
    "a dict with it": measured(lambda: {"features": array()}),
    "a list of ten tenths": measured(lambda: [array(100_000) for _ in range(10)]),
    "a dataclass with it": measured(lambda: Batch(array())),
    "a tuple with it": measured(lambda: (array(),)),
    "a dict with ten times it": measured(lambda: {"features": array(10_000_000)}),
}
for name, size in sizes.items():
    print(f"{name}: {size} B")
assert sizes["an array"] > 8_000_000
assert all(size < 1000 for name, size in sizes.items() if name != "an array")
assert sizes["a tuple with it"] == 0
assert sizes["a dict with it"] == sizes["a dict with ten times it"]
PYTHON
"$folder/venv/bin/python" sizes.py
