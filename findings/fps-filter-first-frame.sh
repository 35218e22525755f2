#!/usr/bin/env bash
# FFmpeg's fps filter at a quarter of the rate starts with the second frame: every picture is one from the future.
# av 18.1.0 (FFmpeg 8), filter `fps`: the `-vf fps=15` of the recipes that make a data set's frames.
# One would guess that 60 to 15 frames a second keeps frames 0, 4, 8, ..., the picture on the screen at each output
# time. The filter rounds every source time to the nearest output time and keeps the last one that rounds there: 1, 5,
# 9, ... . From 30 to 10 it is 1, 4, 7, ...; from 30 to 15 it is 0, 2, 4, ...; from 25 to 15 three of the first five are
# one ahead.
# Why it matters: a picture at output time t may show t plus half an output period. Against frames taken by number, or
# by a seek to t, everything shifts by up to half a frame of the slow rate, and by how much depends on the source's
# rate. `fps=15:round=up` gives 0, 4, 8, ... .
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
from av.filter import Graph

print("av", version("av"), "libavfilter", av.library_versions["libavfilter"])


def resample(source_rate, options, frames=24):
    """The numbers of the source frames that come out."""
    graph = Graph()
    source = graph.add_buffer(width=16, height=16, format="gray", time_base=Fraction(1, source_rate))
    filter_, sink = graph.add("fps", options), graph.add("buffersink")
    source.link_to(filter_)
    filter_.link_to(sink)
    graph.configure()
    given = []

    def take():
        try:
            while True:
                given.append(int(graph.pull().to_ndarray()[0, 0]))
        except (av.error.BlockingIOError, av.error.EOFError):
            pass

    for number in range(frames):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16), number, np.uint8), format="gray")
        frame.pts, frame.time_base = number, Fraction(1, source_rate)
        graph.push(frame)
        take()
    graph.push(None)
    take()
    return given


for source_rate, options, expected in (
    (60, "fps=15", [1, 5, 9, 13, 17]),
    (30, "fps=10", [1, 4, 7, 10, 13]),
    (30, "fps=15", [0, 2, 4, 6, 8]),
    (25, "fps=15", [0, 2, 4, 5, 7]),
    (60, "fps=15:round=up", [0, 4, 8, 12, 16]),
):
    given = resample(source_rate, options)
    on_screen = [number * source_rate // int(options[4:6]) for number in range(5)]
    print(f"{source_rate} to {options}: source frames {given[:5]}; on the screen at those times {on_screen}")
    assert given[:5] == expected
PYTHON
