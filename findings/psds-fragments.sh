#!/usr/bin/env bash
# psds_eval counts ten fragments of one action as one perfect detection, and two overlapping guesses as an error.
# psds-eval 0.5.3, the polyphonic sound detection score, whose inputs (file, onset, offset, label) are those of action
# detection.
# One would guess that an action of 10 s cut into ten detections of 1 s gets a bad score: at a temporal IoU of 0.5 it is
# ten false positives and one miss. Here a detection is right if it lies inside the action by the tolerance, whatever
# its length, and an action is found if such detections together cover it: F is 1.0, as for the exact answer. Half of
# the action (5.1 of 10 s) scores 1.0 too. What detectors do give, overlapping detections of one class, is refused with
# an error. A class without a right detection has F = 0 / 0 and is left out of the macro mean.
# Why it matters: the score does not tell a detector of whole actions from a classifier of single seconds, so it cannot
# be put beside a mAP over temporal IoU.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check psds-eval==0.5.3 numpy==2.2.6 pandas==2.3.3
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import pandas
from psds_eval import PSDSEval
from psds_eval.psds import PSDSEvalError

print("psds-eval", version("psds-eval"))
truth = pandas.DataFrame([{"filename": "v", "onset": 0.0, "offset": 10.0, "event_label": "jump"}])
lengths = pandas.DataFrame([{"filename": "v", "duration": 20.0}])


def f_score(segments):
    rows = [{"filename": "v", "onset": float(a), "offset": float(b), "event_label": "jump"} for a, b in segments]
    score = PSDSEval(dtc_threshold=0.5, gtc_threshold=0.5, cttc_threshold=0.3, ground_truth=truth, metadata=lengths)
    return float(score.compute_macro_f_score(pandas.DataFrame(rows))[0])


exact = f_score([(0, 10)])
fragments = f_score([(n, n + 1) for n in range(10)])
half = f_score([(0, 5.1)])
late = f_score([(12, 18)])
print(f"exact {exact}, ten fragments {fragments}, half of it {half}, somewhere else {late} (0 / 0)")
assert exact == fragments == half == 1.0
assert late != late
try:
    f_score([(0, 10), (2, 8)])
except PSDSEvalError as error:
    print("two overlapping detections:", error)
else:
    raise AssertionError("overlapping detections are taken")
PYTHON
