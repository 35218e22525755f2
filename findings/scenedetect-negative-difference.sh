#!/usr/bin/env bash
# In PySceneDetect the time of a cut minus that of a later cut is zero.
# scenedetect 0.7.2, `FrameTimecode`.
# One would guess that the difference of two times has a sign, or raises: 0.4 s - 0.8 s is -0.4 s. Here times are never
# negative, and every result below zero is 0: the difference, and a sum with a negative number of seconds.
# Why it matters: the error of a boundary is the detected time minus the annotated one. With these objects all early
# boundaries have an error of exactly 0, so that a detector that always fires early looks perfect.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scenedetect==0.7.2
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from scenedetect import FrameTimecode

print("scenedetect", version("scenedetect"))
annotated = FrameTimecode(20, 25.0)
errors = {}
for number in (10, 15, 20, 25, 30):
    errors[number] = (FrameTimecode(number, 25.0) - annotated).seconds
print("annotated at frame 20, 25 frames a second; detected minus annotated, in seconds:", errors)
assert errors == {10: 0.0, 15: 0.0, 20: 0.0, 25: 0.2, 30: 0.4}
moved = (FrameTimecode(10, 25.0) + -1.0).seconds
print("0.4 s moved by -1 s:", moved)
assert moved == 0.0
PYTHON
