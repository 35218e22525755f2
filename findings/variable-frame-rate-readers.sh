#!/usr/bin/env bash
# Picture 30 of a video with a variable frame rate is another picture in imageio, in OpenCV and in MoviePy.
# av 18.1.0, imageio 2.38.1, imageio-ffmpeg 0.8.1, opencv-python-headless 5.0.0.93, moviepy 2.2.1, decord2 3.4.0.
# One would guess that asking a reader for picture 30 gives the 31st picture of the file, or an error where it cannot.
# The file has 30 pictures at 25 a second, then 20 at 10 a second, as phones and screen recorders write them. imageio's
# PyAV plugin gives picture 18 (it seeks to 30 / guessed rate), OpenCV gives 34 (it seeks to 30 / mean rate) and then
# reports position 31, and MoviePy, which reads a stream resampled to one rate at another rate, shows the first half as
# a slow motion and never reaches the second. Only counting while decoding, or an index of timestamps as in decord2, is
# right.
# Why it matters: snippets cut by frame number then show other moments than the annotation means, without any warning.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 imageio==2.38.1 imageio-ffmpeg==0.8.1 \
    opencv-python-headless==5.0.0.93 moviepy==2.2.1 decord2==3.4.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from fractions import Fraction
from importlib.metadata import version

import av
import cv2
import decord
import imageio.v3 as imageio
import numpy as np
from moviepy import VideoFileClip

for package in ("av", "imageio", "opencv-python-headless", "moviepy", "decord2"):
    print(package, version(package))

times_ms = [40 * n for n in range(30)] + [1160 + 100 * n for n in range(1, 21)]
with av.open("a.mp4", "w") as sink:
    stream = sink.add_stream("libx264", rate=30, options={"crf": "10", "g": "12"})
    stream.width = stream.height = 64
    stream.codec_context.time_base = Fraction(1, 1000)
    for number, time_ms in enumerate(times_ms):
        picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 + 4 * number, np.uint8), format="rgb24")
        picture.pts, picture.time_base = time_ms, Fraction(1, 1000)
        sink.mux(stream.encode(picture))
    sink.mux(stream.encode(None))


def number_of(pixels):
    """The grey of a picture tells its number."""
    return round((float(np.mean(pixels)) - 10) / 4)


with av.open("a.mp4") as source:
    decoded = [number_of(picture.to_ndarray(format="rgb24")) for picture in source.decode(video=0)]
print("decoded one after the other:", decoded[0], "to", decoded[-1])
assert decoded == list(range(50))

by_imageio = number_of(imageio.imread("a.mp4", plugin="pyav", index=30))
capture = cv2.VideoCapture("a.mp4")
capture.set(cv2.CAP_PROP_POS_FRAMES, 30)
by_opencv = number_of(capture.read()[1])
position = int(capture.get(cv2.CAP_PROP_POS_FRAMES))
by_decord = number_of(decord.VideoReader("a.mp4")[30].asnumpy())
with VideoFileClip("a.mp4") as clip:
    by_moviepy = [number_of(pixels) for pixels in clip.iter_frames()]
print(f"asked for picture 30: imageio {by_imageio}, OpenCV {by_opencv} (and now at {position}), decord2 {by_decord}")
print(f"MoviePy gives {len(by_moviepy)} pictures: {by_moviepy}")
assert by_imageio == 18
assert by_opencv == 34 and position == 31
assert by_decord == 30
assert max(by_moviepy) < 30 and by_moviepy[30] < 20
PYTHON
