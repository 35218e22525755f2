"""What a reader of a format is given, and where it puts what it finds: intervals, facts of videos, faults."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from etad.data.annotation_formats.faults import Faults
from etad.data.annotation_formats.interval import Interval, VideoFacts, differs, media_id
from etad.errors import DataError

TimeUnit = Literal["s", "ms", "frames"]


@dataclass(frozen=True)
class ReadOptions:
    """What the user said of files that do not say it themselves.

    Attributes:
        fps: frames per second, where frames are counted; wins over the file's own.
        label: the field that names the class, where a format has several.
        time_unit: of tables whose header names no unit.
        first_frame: the number of a video's first frame, where that is disputed (Label Studio).
        primary_only: take only what Ego4D marks as primary.
        facts_of: what is known of a video from elsewhere: its file.
    """

    fps: float | None = None
    label: str | None = None
    time_unit: TimeUnit | None = None
    first_frame: int = 1
    primary_only: bool = False
    facts_of: Callable[[str], VideoFacts | None] = lambda _: None


class Reading:
    """Gathers what is read of one file or several.

    Attributes:
        intervals: what was taken, in the order of the files.
        videos: id -> what the files say of it.
        files: id -> the media files that it was named by -> where.
        faults: what was left out, and what is odd.
    """

    def __init__(self, options: ReadOptions | None = None) -> None:
        self.options = options or ReadOptions()
        self.faults = Faults()
        self.intervals: list[Interval] = []
        self.videos: dict[str, VideoFacts] = {}
        self.files: dict[str, dict[str, str]] = {}
        self._fps_told: set[str] = set()

    def video(
        self,
        name: str,
        place: str,
        duration_s: float | None = None,
        fps: float | None = None,
        subset: str | None = None,
        is_id: bool = False,
    ) -> str:
        """Note a video and return its id.

        Args:
            name: media file, address or id.
            place: where it is named.
            duration_s, fps, subset: what the file says of it.
            is_id: the name is an id already, and kept as it is.
        """
        video_id = name if is_id else media_id(name)
        if not video_id:
            raise DataError(f"{place}: no video is named; give it a name")
        facts = VideoFacts(video_id, None if is_id else name, _usable(duration_s), _usable(fps), subset)
        known = self.videos.get(video_id)
        if known is not None and known.duration_s and facts.duration_s and differs(facts.duration_s, known.duration_s):
            self.faults.add(
                "durations differ between entries of one video: the first counts",
                f"{place}: {facts.duration_s:g} s, before {known.duration_s:g} s",
                "--videos FOLDER measures them",
            )
        self.videos[video_id] = facts if known is None else known.merged(facts)
        if not is_id and name != video_id:
            self.files.setdefault(video_id, {}).setdefault(name, place)
        return video_id

    def fps_of(self, video_id: str, place: str) -> float:
        """Return the frame rate to count a video's frames in: the user's, the file's own, or the video's.

        Raises:
            DataError: nobody knows it.
        """
        known = self.videos.get(video_id)
        from_file = self.options.facts_of(video_id)
        own = known.fps if known is not None else None
        found = self.options.fps or own or (from_file.fps if from_file is not None else None)
        if self.options.fps and own and abs(self.options.fps / own - 1) > 1e-3 and video_id not in self._fps_told:
            self._fps_told.add(video_id)
            self.faults.add(
                "frame rates in the files differ from --fps, which was used", place, "leave --fps out to use the file's"
            )
        if not found:
            raise DataError(
                f"{place}: counts frames, and the frame rate of {video_id} is not known; "
                "give --fps N, or --videos FOLDER with the video in it"
            )
        return found

    def duration_of(self, video_id: str) -> float | None:
        """Return a video's length in seconds, if the files or the video tell it."""
        known = self.videos.get(video_id)
        if known is not None and known.duration_s is not None:
            return known.duration_s
        from_file = self.options.facts_of(video_id)
        return from_file.duration_s if from_file is not None else None

    def add(
        self,
        video_id: str,
        start_s: float | None,
        end_s: float | None,
        label: object,
        place: str,
        *,
        subject: str = "",
        tier: str = "",
        score: float | None = None,
    ) -> None:
        """Take an interval, or count why it cannot be taken."""
        text = label.strip() if isinstance(label, str) else str(label) if _is_number(label) else ""
        if not text:
            self.faults.add("actions have no label: left out", place, "name their class in the tool")
        elif start_s is None or end_s is None or not math.isfinite(start_s) or not math.isfinite(end_s):
            self.faults.add("actions have a time that is no number: left out", place, "correct the row")
        elif end_s < start_s:
            self.faults.add("actions stop before they start: left out", place, "exchange start and stop")
        else:
            self.intervals.append(Interval(video_id, start_s, end_s, text, subject.strip(), tier.strip(), score, place))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _usable(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None
