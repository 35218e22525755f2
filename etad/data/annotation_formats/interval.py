"""What every annotation format comes down to: labelled stretches of videos, and what is known of each video."""

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

from etad.data.video_files import SUFFIXES

_AGREE = 0.01
_AGREE_S = 0.5
_MEDIA_SUFFIXES = (*SUFFIXES, ".wav", ".mp3", ".m4a", ".flac", ".ogg", ".mp2", ".vob", ".mts", ".seq", ".h264")


@dataclass(frozen=True)
class Interval:
    """One labelled stretch of a video.

    Attributes:
        video_id: the video's name without folder and ending.
        start_s, end_s: seconds from the video's beginning, ``start_s <= end_s``.
        label: the class.
        subject: who did it, where the tool records that; else empty.
        tier: the track, channel, observation or annotator that it comes from; else empty.
        score: of a detection; None for an annotation.
        place: file and row, for messages.
    """

    video_id: str
    start_s: float
    end_s: float
    label: str
    subject: str = ""
    tier: str = ""
    score: float | None = None
    place: str = field(default="", compare=False)


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video besides its actions; None where nothing is.

    Attributes:
        id: as in :class:`Interval`.
        file: the media file as the annotations name it, folder included.
        duration_s, fps: length in seconds and frames per second.
        subset: the part of the data set that it belongs to.
    """

    id: str
    file: str | None = None
    duration_s: float | None = None
    fps: float | None = None
    subset: str | None = None

    def merged(self, other: "VideoFacts") -> "VideoFacts":
        """Return these facts, with what is missing taken from ``other``."""
        return replace(
            self,
            file=self.file or other.file,
            duration_s=other.duration_s if self.duration_s is None else self.duration_s,
            fps=other.fps if self.fps is None else self.fps,
            subset=self.subset if self.subset is not None else other.subset,
        )


def differs(stated_s: float, measured_s: float) -> bool:
    """Whether two lengths of a video are further apart than rounding and a last frame explain."""
    return abs(stated_s - measured_s) > max(_AGREE_S, _AGREE * measured_s)


def media_id(name: str) -> str:
    """Return the id of the video that a path or address names: its last part without the ending of a media file.

    Only the endings of media files are cut off, since a bare id may hold a dot.
    """
    name = name.strip()
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", name):
        address = urlsplit(name)
        # Label Studio names files of its storage by a query: /data/local-files/?d=folder/a.mp4.
        name = unquote(address.path.rstrip("/") or address.netloc)
    elif "?d=" in name:
        name = unquote(name.split("?d=", 1)[1].split("&", 1)[0])
    last = (PureWindowsPath(name) if "\\" in name else PurePosixPath(name)).name or name
    stem, dot, ending = last.rpartition(".")
    return stem if stem and f"{dot}{ending}".lower() in _MEDIA_SUFFIXES else last


def seconds(text: object) -> float | None:
    """Return a time in seconds: a number, or ``[hh:]mm:ss[.f]`` with a point or a comma; None for anything else."""
    if isinstance(text, bool) or text is None:
        return None
    if isinstance(text, int | float):
        try:
            return float(text) if math.isfinite(text) else None
        except OverflowError:
            return None
    parts = str(text).strip().replace(",", ".").split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    if len(numbers) > 3 or not all(map(math.isfinite, numbers)) or any(number < 0 for number in numbers[1:]):
        return None
    total = 0.0
    for number in numbers:
        total = 60 * total + abs(number)
    return -total if parts[0].startswith("-") else total
