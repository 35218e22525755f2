#!/usr/bin/env bash
# ETA, under FiftyOne, puts a video's last frame at the video's end, so half of all frame times round to a wrong frame.
# voxel51-eta 0.17.0, `eta.core.frameutils`, which converts between frame numbers and seconds of temporal detections.
# One would guess that frame k of a 10 s video at 10 frames a second starts at (k - 1) / 10 s. Here the frames are
# spread over the whole duration: frame 100 is at 10.0 s, where the video is over, and frame 51 at 5.05 s, as if the
# rate were (frames - 1) / duration. The way back has the same scale, so round trips agree and hide it. Given the true
# start of each frame, 49 of 100 come back as another frame.
# Why it matters: annotations made in seconds elsewhere and evaluated as frame supports are off by a growing part of a
# frame, and with few frames a second (features, thumbnails) by much time.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check voxel51-eta==0.17.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from eta.core.frameutils import frame_number_to_timestamp, timestamp_to_frame_number

print("voxel51-eta", version("voxel51-eta"))
frames, duration_s, rate = 100, 10.0, 10.0
times = {number: frame_number_to_timestamp(number, frames, duration_s) for number in range(1, frames + 1)}
for number in (1, 2, 51, 100):
    print(f"frame {number} starts at {(number - 1) / rate:.3f} s; ETA says {times[number]:.3f} s")
assert times[1] == 0.0 and times[100] == 10.0 and abs(times[51] - 5.0505) < 1e-4
back = [timestamp_to_frame_number(times[number], duration_s, frames) for number in times]
assert back == list(times)
wrong = sum(timestamp_to_frame_number((number - 1) / rate, duration_s, frames) != number for number in times)
print("true starts that come back as another frame:", wrong, "of", frames)
assert wrong == 49
PYTHON
