"""What the videos of an experiment are, seen from their headers, and what of it a user should know.

Nothing is decoded, which would take hours; files whose format does not list its pictures in front are read through.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etad.config import Config, FramesConfig
from etad.data.annotations import Video
from etad.data.dataset import VideoDataset
from etad.data.prepare import FPS, SHORT_SIDE
from etad.data.time_line import TimeLine
from etad.data.video_reader import VideoReader
from etad.errors import DataError
from etad.progress import progress

TOLERANCE = 0.01
"""A picture ends where the annotation says when the two differ by at most this part of the duration,"""
TOLERANCE_S = 0.5
"""or by this: containers round, and sound is often a little longer."""
WORTH_PREPARING = 2.0
"""From this factor of decoded pixels on ``etad-bench prepare`` is worth a word."""
_FEWER = 0.99
"""A rate below this part of the wanted one repeats frames; 15000/1001 for 15 does not count."""


@dataclass(frozen=True)
class VideoLook:
    """One video: its id, when its pictures are shown, and their width and height in pixels."""

    id: str
    times: TimeLine
    size: tuple[int, int]

    @property
    def pixels(self) -> float:
        """Pixels that decoding the whole of it gives."""
        return float(len(self.times)) * self.size[0] * self.size[1]

    @property
    def prepared_pixels(self) -> float:
        """Pixels that it would have after ``etad-bench prepare``."""
        scale = SHORT_SIDE / max(min(self.size), 1)
        return self.times.duration_s * FPS * self.size[0] * self.size[1] * scale**2


def look_at(paths: Mapping[str, Path], ids: Iterable[str]) -> tuple[list[VideoLook], list[str]]:
    """Return what the videos are, and why others cannot be opened, a line each."""
    looks, unusable = list[VideoLook](), list[str]()
    for video_id in ids:
        try:
            with VideoReader(paths[video_id]) as reader:
                looks.append(VideoLook(video_id, reader.header_times(), reader.size))
        except DataError as error:
            unusable.append(str(error))
    return looks, unusable


def content(looks: Sequence[VideoLook], frames: FramesConfig) -> str:
    """Return the rates of the videos in words, and the rate at which their frames are taken."""
    rates = [look.times.rates for look in looks]
    steady = Counter(f"{low:.4g} frames/s" for low, high in rates if low == high)
    shown = [f"{count} at {rate}" for rate, count in steady.most_common(3)]
    variable = [(low, high) for low, high in rates if low != high]
    if variable:
        lowest, highest = min(low for low, _ in variable), max(high for _, high in variable)
        shown.append(f"{len(variable)} at a variable rate ({lowest:.3g} to {highest:.3g} frames/s)")
    if not shown:
        return "videos"
    return f"videos, {', '.join(shown)}; taken at {frames.fps:g} frames/s"


def lines(looks: Sequence[VideoLook], frames: FramesConfig, folder: Path, annotated: Iterable[Video] = ()) -> list[str]:
    """Return what a user should know of the videos, a line for each kind: how many, which is the first, how much.

    Args:
        looks: the videos.
        frames: how frames are taken from them.
        folder: of the files.
        annotated: their annotations, where there are any.
    """
    found = list[str]()
    if other := misfits(looks, annotated):
        most_s = max(abs(end_s - duration_s) for _, end_s, duration_s in other)
        first, end_s, duration_s = other[0]
        found.append(
            f"{len(other)} pictures do not end with their annotated duration, by up to {most_s:.1f} s "
            f"(first: {first}: {end_s:.1f} s, annotated {duration_s:.1f} s); positions follow the picture"
        )
    if late := [look for look in looks if look.times.start_s > TOLERANCE_S]:
        most_s = max(look.times.start_s for look in late)
        found.append(
            f"{len(late)} pictures start after their sound, by up to {most_s:.1f} s (first: {late[0].id}); "
            "times count from the start of the file"
        )
    if slow := [look for look in looks if look.times.mean_rate < _FEWER * frames.fps]:
        least = min(look.times.mean_rate for look in slow)
        found.append(
            f"{len(slow)} videos have fewer than {frames.fps:g} frames/s (data.frames.fps), down to {least:.3g}: "
            f"frames are repeated (first: {slow[0].id}, {slow[0].times.mean_rate:.3g})"
        )
    if hint := prepare_line(looks, folder):
        found.append(hint)
    return found


def video_lines(config: Config, dataset: VideoDataset) -> list[str]:
    """Return what a user should know of the videos of a data set; nothing where the input is features."""
    if config.data.input == "features":
        return []
    data = config.data
    looks, _ = look_at(dataset.paths, (video.id for video in progress(dataset.videos, "check", len(dataset), "file")))
    return lines(looks, data.frames, data.path(data.folder), dataset.videos)


def misfits(looks: Sequence[VideoLook], annotated: Iterable[Video]) -> list[tuple[str, float, float]]:
    """Return id, end of the picture and annotated duration (seconds) of the videos where the two differ."""
    durations_s = {video.id: video.duration_s for video in annotated}
    ends = [(look.id, look.times.end_s, durations_s.get(look.id, 0.0)) for look in looks]
    return [
        (id_, end_s, duration_s)
        for id_, end_s, duration_s in ends
        if duration_s > 0 and abs(end_s - duration_s) > max(TOLERANCE * duration_s, TOLERANCE_S)
    ]


def prepare_line(looks: Sequence[VideoLook], folder: Path) -> str | None:
    """Return the line that says how much less ``etad-bench prepare`` would leave to decode; None where it is little."""
    after = sum(look.prepared_pixels for look in looks)
    factor = sum(look.pixels for look in looks) / after if after else 0.0
    if factor < WORTH_PREPARING:
        return None
    return (
        f"decoding takes {factor:.2g} times the pixels that the files of 'etad-bench prepare {folder} TARGET' have "
        f"({FPS:g} frames/s, short side {SHORT_SIDE})"
    )
