#!/usr/bin/env bash
# BANOS gives a mean F1 of 1.0 to a detector that never finds one of two behaviours.
# banos 1.0.0, the Behavior ANnOtation Score.
# One would guess that a behaviour with no detection at all has F1 = 0, so that the mean over two behaviours is 0.5. Its
# precision is 0 / 0 and so NaN, its F1 too, and means leave NaN out: overall F1 1.0, segment overlap 1.0, precision
# 1.0; only recall (0.5) tells. If the predictions have no column for the behaviour it is dropped from the truth without
# a word, and recall is 1.0 too. In the same way the segment overlap of a detector that finds one bout of ten is 1.0:
# only pairs that overlap are averaged.
# Why it matters: a model that gives up on the rare classes ranks above one that tries them.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check banos==1.0.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import banos
import pandas

print("banos", version("banos"))
frequent = [1, 1, 1, 0, 0, 0] * 10
rare = [0, 0, 0, 1, 1, 0] * 10
truth = pandas.DataFrame({"walk": frequent, "jump": rare})
never = pandas.DataFrame({"walk": frequent, "jump": [0] * 60})
tries = pandas.DataFrame({"walk": frequent, "jump": [0, 0, 0, 1, 1, 0] * 5 + [0] * 30})


def overall(found):
    """The mean over behaviours, of one video."""
    return banos.score({"video": (found, truth)})[1]


without_column, never_found, half_found = overall(never[["walk"]]), overall(never), overall(tries)
print("jump never found:", never_found)
print("no column for jump:", without_column)
print("half of the jumps found:", half_found)
assert never_found["f1_score"] == 1.0 and never_found["precision"] == 1.0 and never_found["recall"] == 0.5
assert set(without_column.values()) == {1.0}
assert half_found["f1_score"] < 0.84

one_of_ten = pandas.DataFrame({"walk": [1, 1, 1] + [0] * 57})
single = banos.score(one_of_ten, truth[["walk"]])["walk"]
print("one bout of ten found:", single)
assert single["so"] == 1.0 and single["recall"] == 0.1
PYTHON
