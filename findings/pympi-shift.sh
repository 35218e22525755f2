#!/usr/bin/env bash
# Shifting ELAN annotations to the left with pympi leaves the end of an annotation that meets time 0 where it was.
# pympi-ling 1.71, `Eaf.shift_annotations`.
# One would guess that after a shift by -3 s an action from 1 to 5 s lasts from 0 to 2 s: moved, and cut off at 0, as
# the documentation's "squashed" says. It lasts from 0 to 5 s: its start is set to 0 and its end is not moved, so that
# it grows by a second and lies over the next action, which was moved. The return value lists it as squashed, with its
# old times, and nothing else tells.
# Why it matters: shifting is how annotations follow a video whose beginning was cut off, and one action in each file,
# the one on the cut, silently gets a wrong end.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pympi-ling==1.71
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from pympi.Elan import Eaf

print("pympi-ling", version("pympi-ling"))
document = Eaf()
document.add_tier("action")
document.add_annotation("action", 1000, 5000, "walk")
document.add_annotation("action", 5000, 9000, "run")
print("before", document.get_annotation_data_for_tier("action"))
squashed, removed = document.shift_annotations(-3000)
after = sorted(document.get_annotation_data_for_tier("action"))
print("after a shift by -3000 ms", after, "squashed", squashed, "removed", removed)
assert after == [(0, 5000, "walk"), (2000, 6000, "run")]
assert not removed
PYTHON
