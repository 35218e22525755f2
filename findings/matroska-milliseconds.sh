#!/usr/bin/env bash
# In a Matroska file at 30000/1001 frames a second, floor(time * rate) is a wrong frame number for half of the frames.
# av 18.1.0 (FFmpeg 8), Matroska and WebM with the millisecond timestamps that nearly every writer uses.
# One would guess that a file of constant rate gives back the times k / rate, so that floor(time * rate) is k: it is the
# usual way from an annotation's seconds to a frame number. Matroska rounds every time to a whole millisecond; where
# that rounds down, floor falls to the frame before. Of 60 frames 29 are wrong and 22 numbers are never given. Even in
# MP4, whose times are exact, 6 of 60 are wrong, since PyAV's `frame.time` is a float. round() is right in both, always.
# Why it matters: with floor a third of a clip's frames is lost and others come twice, in some containers only.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from fractions import Fraction
from importlib.metadata import version
from math import floor

import av
import numpy as np

print("av", version("av"), "libavformat", av.library_versions["libavformat"])
rate = Fraction(30000, 1001)
expected = {"mkv": (29, 22), "webm": (29, 22), "mp4": (6, 6)}
for suffix, (wrong_expected, missing_expected) in expected.items():
    with av.open(f"a.{suffix}", "w") as sink:
        codec = "libvpx" if suffix == "webm" else "libx264"
        stream = sink.add_stream(codec, rate=rate)
        stream.width = stream.height = 64
        for number in range(60):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 4 * number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, 1 / rate
            sink.mux(stream.encode(picture))
        sink.mux(stream.encode(None))
    with av.open(f"a.{suffix}") as source:
        assert source.streams.video[0].average_rate == rate
        times = [picture.time for picture in source.decode(video=0)]
    assert len(times) == 60
    by_floor = [floor(time * float(rate)) for time in times]
    by_round = [round(time * float(rate)) for time in times]
    wrong = sum(given != number for number, given in enumerate(by_floor))
    missing = len(set(range(60)) - set(by_floor))
    print(f"{suffix}: first times {times[:5]}, by floor {by_floor[:10]}")
    print(f"{suffix}: floor gives {wrong} of 60 wrong, and {missing} numbers never")
    assert (wrong, missing) == (wrong_expected, missing_expected)
    assert by_round == list(range(60))
PYTHON
