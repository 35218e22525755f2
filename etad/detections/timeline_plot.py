"""A picture of what was found: detections as bars on a time line, under thumbnails of the video."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from etad.data.video_reader import probe
from etad.data.videos import decode
from etad.detections.detections import Detections
from etad.files import replace_atomically

THUMBNAILS = 8
THUMBNAIL_HEIGHT = 120
BARS = 20
WORTH_DRAWING = 0.05
"""Detections below this part of the best score are noise to the eye."""


def plot_timeline(
    video: Path, duration_s: float, found: Detections, classes: Sequence[str], target: Path, bars: int = BARS
) -> None:
    """Draw the best detections of a video as a PNG file.

    Args:
        video: the file; thumbnails are taken at even distances.
        duration_s: length of the time axis.
        found: its detections.
        classes: names of the class numbers.
        target: the PNG file, written atomically.
        bars: detections drawn, best first.
    """
    info = probe(video)
    width = max(2, round(THUMBNAIL_HEIGHT * info.width / info.height / 2) * 2)
    middles_s = (np.arange(THUMBNAILS) + 0.5) / THUMBNAILS * duration_s
    thumbnails = (
        decode(video, THUMBNAIL_HEIGHT, width, map(info.times.picture_at, middles_s.tolist()))
        .permute(0, 2, 3, 1)
        .numpy()
    )
    best = np.argsort(-found.scores, kind="stable")[:bars]
    best = best[found.scores[best] >= WORTH_DRAWING * found.scores.max(initial=0.0)]
    colour_of = colormaps["tab10"]

    rows = max(len(best), 1)
    # A figure without pyplot needs no backend, opens no window and is nothing to close.
    figure = Figure(figsize=(12, 2 + 0.22 * rows), layout="constrained")
    strip, axis = figure.subplots(2, 1, height_ratios=(1.4, 0.22 * rows + 0.6))
    strip.imshow(np.concatenate(list(thumbnails), axis=1), extent=(0, duration_s, 0, 1), aspect="auto")
    strip.set(xlim=(0, duration_s), yticks=[], title=video.name)
    for place, number in enumerate(best):
        start, end = found.segments_s[number]
        label = int(found.labels[number])
        axis.barh(place, end - start, left=start, height=0.8, color=colour_of(label % 10))
        axis.text(end, place, f" {classes[label]} {found.scores[number]:.2f}", va="center", fontsize=7, clip_on=True)
    axis.set(xlim=(0, duration_s), ylim=(rows - 0.4, -0.6), yticks=[], xlabel="time (s)")
    if not len(best):
        axis.text(duration_s / 2, 0, "no detections", ha="center", va="center")
    with replace_atomically(target) as temporary:
        figure.savefig(temporary, dpi=110)
