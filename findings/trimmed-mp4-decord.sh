#!/usr/bin/env bash
# In an MP4 whose start was trimmed, decord gives the same picture for numbers 20 and 30.
# decord2 3.4.0 (decord 0.6.0 does the same), av 18.1.0, opencv-python-headless 5.0.0.93.
# One would guess that the numbers of a reader made for random access each mean one picture, and that its length is
# theirs. A cut without re-encoding keeps the pictures from the key frame before it, and an edit list hides them from
# the player. Of 50 stored pictures 10 are hidden here. decord has length 50; before the second key frame number n is
# stored picture n + 10, from there on it is stored picture n, so that ten pictures come twice and ten never. Read one
# after the other they are right. The header, and so OpenCV's frame count and PyAV's `stream.frames`, promises 50 too,
# while both decode 40.
# Why it matters: clips cut around an action jump back by up to one key frame distance, and the last pictures do not
# exist.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 decord2==3.4.0 \
    opencv-python-headless==5.0.0.93
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from fractions import Fraction
from importlib.metadata import version

import av
import cv2
import decord
import numpy as np

for package in ("av", "decord2", "opencv-python-headless"):
    print(package, version(package))

hidden, stored = 10, 50
with av.open("a.mp4", "w", options={"avoid_negative_ts": "disabled"}) as sink:
    stream = sink.add_stream("libx264", rate=25, options={"crf": "10", "g": "25", "bf": "2", "sc_threshold": "0"})
    stream.width = stream.height = 64
    for number in range(stored):
        picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 + 4 * number, np.uint8), format="rgb24")
        # What lies before time 0 is written into the file, and hidden by an edit list.
        picture.pts, picture.time_base = number - hidden, Fraction(1, 25)
        sink.mux(stream.encode(picture))
    sink.mux(stream.encode(None))


def number_of(pixels):
    """The grey of a picture tells its number among the stored ones."""
    return round((float(np.mean(pixels)) - 10) / 4)


with av.open("a.mp4") as source:
    promised = source.streams.video[0].frames
    decoded = [number_of(picture.to_ndarray(format="rgb24")) for picture in source.decode(video=0)]
capture = cv2.VideoCapture("a.mp4")
count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
readable = 0
while capture.read()[0]:
    readable += 1
print(f"PyAV: {promised} promised, {len(decoded)} decoded, stored pictures {decoded[0]} to {decoded[-1]}")
print(f"OpenCV: count {count}, {readable} can be read")
assert promised == count == stored and len(decoded) == readable == stored - hidden
assert decoded == list(range(hidden, stored))

length = len(decord.VideoReader("a.mp4"))
by_number = [number_of(decord.VideoReader("a.mp4")[number].asnumpy()) for number in range(stored - hidden)]
reader = decord.VideoReader("a.mp4")
in_turn = [number_of(reader.next().asnumpy()) for _ in range(stored - hidden)]
print(f"decord: length {length}; by number {by_number}; one after the other {in_turn[0]} to {in_turn[-1]}")
assert length == stored
assert in_turn == decoded
assert by_number[:25] == list(range(10, 35)) and by_number[25:] == list(range(25, 40))
assert by_number[20] == by_number[30] == 30
PYTHON
