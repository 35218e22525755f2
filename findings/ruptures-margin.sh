#!/usr/bin/env bash
# A change point found exactly `margin` samples away counts as missed in ruptures.
# ruptures 1.1.10, `ruptures.metrics.precision_recall`.
# One would guess that a margin of 10, "allowed error in points", allows an error of 10. The comparison is strict, so
# that a margin of 1, the tightest that is accepted, demands the exact sample, and a margin of 10 allows 9.
# Why it matters: boundary detectors on features of one stride are wrong by whole multiples of it. With the margin set
# to that stride, "one feature off is right", every boundary that is one feature off is a false positive and a miss at
# once.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ruptures==1.1.10
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from ruptures.metrics import precision_recall

print("ruptures", version("ruptures"))
# The last number is the length of the signal.
truth = [100, 200, 300]
for error, margin, expected in ((9, 10, 1.0), (10, 10, 0.0), (0, 1, 1.0), (1, 1, 0.0)):
    found = [100 + error, 200 - error, 300]
    precision, recall = precision_recall(truth, found, margin=margin)
    print(f"error {error}, margin {margin}: precision {precision}, recall {recall}")
    assert precision == recall == expected
PYTHON
