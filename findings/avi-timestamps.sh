#!/usr/bin/env bash
# An AVI's pictures arrive in the right order, but their timestamps jump back and forth.
# av 18.1.0 (FFmpeg 8), AVI with H.264 and B-frames, as surveillance recorders and old re-encodings have it.
# One would guess that a decoder that hands out pictures in display order hands out rising times with them, as it does
# for MP4. AVI stores no display times, only the order of storage, so FFmpeg counts packets: the pictures are right,
# their `pts` are 1, 4, 3, 5, 2, ... . Picture 4 says that it is earlier than picture 1, none is at time 0, and mean
# rate and duration look sane.
# Why it matters: cutting an action by `frame.time` drops and repeats pictures, sorting by it shuffles them, and a check
# of "time < end" stops early. In AVI only the position in the decoded sequence means something.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from fractions import Fraction
from importlib.metadata import version

import av
import numpy as np

print("av", version("av"), "libavformat", av.library_versions["libavformat"])


def write(path):
    with av.open(path, "w") as sink:
        options = {"crf": "10", "g": "12", "bf": "3", "b-adapt": "0", "sc_threshold": "0"}
        stream = sink.add_stream("libx264", rate=25, options=options)
        stream.width = stream.height = 64
        for number in range(50):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 + 4 * number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            sink.mux(stream.encode(picture))
        sink.mux(stream.encode(None))


def read(path):
    with av.open(path) as source:
        pictures = list(source.decode(video=0))
        rate = source.streams.video[0].average_rate
    numbers = [round((float(picture.to_ndarray(format="rgb24").mean()) - 10) / 4) for picture in pictures]
    return numbers, [round(picture.time * rate) for picture in pictures]


for path in ("a.mp4", "a.avi"):
    write(path)
    numbers, places = read(path)
    print(path, "pictures", numbers[:10], "their times, in pictures", places[:10])
    assert numbers == list(range(50))
    backwards = sum(later < earlier for earlier, later in zip(places, places[1:]))
    print(path, "times that go back:", backwards, "of", len(places) - 1)
    if path.endswith("mp4"):
        assert places == numbers
    else:
        assert backwards >= 10 and min(places) >= 1
PYTHON
