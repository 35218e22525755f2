#!/usr/bin/env bash
# In the package timecode a start at 1.0 s is 00:00:00:24, and 1 s plus 1 s is 00:00:02:01.
# timecode 1.5.1, the SMPTE timecode library of the registry, at 25 frames a second.
# One would guess that one second is 00:00:01:00 and that timecodes add like times. Here a timecode is a count of frames
# that starts at 1: `frames` of 00:00:00:00 is 1, `start_seconds=1.0` means the 25th frame, which is number 24, and a
# sum adds the counts, so that it is one frame too far; a difference is one short. `start_seconds=0` is refused.
# `frame_number` counts from 0.
# Why it matters: boundaries that go from seconds to timecode and back move by a frame each way, always to the same
# side, and the length of an action (end minus start) is one frame short.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check timecode==1.5.1
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from timecode import Timecode

print("timecode", version("timecode"))
zero, second = Timecode("25", "00:00:00:00"), Timecode("25", "00:00:01:00")
from_seconds = Timecode("25", start_seconds=1.0)
total, difference = second + second, Timecode("25", "00:00:02:00") - second
print("00:00:00:00 has frames", zero.frames, "and frame_number", zero.frame_number)
print("start_seconds=1.0 is", from_seconds)
print("1 s + 1 s is", total, "and 2 s - 1 s is", difference)
assert (zero.frames, zero.frame_number) == (1, 0)
assert str(from_seconds) == "00:00:00:24"
assert str(total) == "00:00:02:01"
assert str(difference) == "00:00:00:24"
try:
    Timecode("25", start_seconds=0)
except ValueError as error:
    print("start_seconds=0:", error)
else:
    raise AssertionError("start_seconds=0 is accepted")
PYTHON
