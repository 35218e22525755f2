"""One video file: its frames in display order, when they are shown, and what decoding the whole of it gave.

Frames are counted by decoding: the count in a file's header is missing, or one or two too high, in many real files.
Frame numbers follow display order, whatever the timestamps say; what time they mean is the time line's business.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import av
import numpy as np
import torch
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from etad.data.time_line import TimeLine
from etad.errors import DataError

DecoderName = Literal["auto", "pyav", "torchcodec"]
"""Values of ``data.frames.decoder``."""
# Many undamaged files promise one or two frames more than they hold, so that is not a problem to report.
_HEADER_SLACK = 2
# Titles in an unknown encoding are common in old files, and nobody reads them here. PyAV 19 takes them as they are.
_ANY_METADATA: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
# What FFmpeg assumes where a file states no rate.
_DEFAULT_RATE = Fraction(25)
# It stores no times, only the order of storage, so that FFmpeg's presentation times are guesses (findings/
# avi-timestamps.sh). A place in that order is a time: a skipped frame is stored as nothing, and counts.
_COUNTED = "avi"
# These list all that they hold in front, or in an index that is read on opening.
_INDEXED = frozenset({"avi", "mov"})


@dataclass(frozen=True)
class VideoInfo:
    """What decoding a whole video gave.

    Attributes:
        frames: frames that decode.
        fps: mean frame rate, ``frames / duration_s``.
        duration_s: seconds from the first frame's appearance to the end of the last frame.
        times: when each frame is shown.
        width, height: pixels, after the rotation the file asks for.
        problem: None, or one line that says what is damaged although frames did decode.
    """

    frames: int
    fps: float
    duration_s: float
    times: TimeLine
    width: int
    height: int
    problem: str | None = None


class VideoReader:
    """The frames of a file's best video stream, in display order. A context manager; iterate over it once.

    Packets that do not decode are passed over, so a damaged file gives the frames that are left; ``info`` tells.

    Raises:
        DataError: on construction, when the file cannot be opened, has no video stream, or needs an unknown decoder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lost_packets = 0
        self._broken_off: str | None = None
        self._hidden_packets = 0
        self._times_at: dict[int, list[int]] = {}
        self._last_place = -1
        self._shown: list[int | None] = []
        self._durations: list[int] = []
        self._size = (0, 0)
        try:
            self._container = av.open(str(path), **_ANY_METADATA)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be opened as a video ({_reason(error)})") from None
        try:
            self._stream = self._best_stream()
        except DataError:
            self._container.close()
            raise
        self._stream.thread_type = "AUTO"

    def _best_stream(self) -> VideoStream:
        stream = self._container.streams.best("video")
        # The cover picture of a music file is stored as a video stream too.
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise DataError(f"{self._path}: holds no video stream; is it a sound file, or cut off?")
        if getattr(stream, "codec_context", None) is None:
            raise DataError(f"{self._path}: its codec has no decoder in this FFmpeg; re-encode it, e.g. to H.264")
        return stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    @property
    def comment(self) -> str:
        """The file's comment tag; empty where there is none."""
        return self._container.metadata.get("comment", "")

    @property
    def promised_frames(self) -> int:
        """Frame count in the header; 0 where the format has none. Often one or two too high.

        An MP4 that was cut without re-encoding counts all that is stored; its index lists what can be reached.
        """
        listed = len(getattr(self._stream, "index_entries", ())) if "mov" in self._container.format.name else 0
        return min(self._stream.frames, listed or self._stream.frames)

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec, e.g. "h264"."""
        return str(self._stream.codec_context.codec.canonical_name)

    @property
    def stream_index(self) -> int:
        """Number of the video stream among all streams of the file."""
        return self._stream.index

    @property
    def rate(self) -> Fraction:
        """Frames per second that the header states."""
        return self._stream.average_rate or self._stream.guessed_rate or _DEFAULT_RATE

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels that the header states, before any rotation."""
        return self._stream.codec_context.width, self._stream.codec_context.height

    def packet_times(self) -> TimeLine:
        """Return when the frames are shown, as the packets say, without decoding: quick, and seldom wrong.

        Raises:
            DataError: there is no packet, or its times are absurd.
        """
        packets = [packet for packet in self._packets() if packet is not None and _gives_frame(packet)]
        return self._time_line([self._time_of(one) for one in packets], [one.duration or 0 for one in packets])

    def header_times(self) -> TimeLine:
        """Return what ``packet_times`` returns, without reading the pictures where the format lists them in front.

        The list has times of storage, which are those of display but for a shift where the rate is constant; a file of
        variable rate is read through.

        Raises:
            DataError: as ``packet_times``.
        """
        entries, length = getattr(self._stream, "index_entries", ()), self._stream.duration
        indexed = not _INDEXED.isdisjoint(self._container.format.name.split(","))
        stored = sorted(entry.timestamp for entry in entries if not entry.is_discard) if indexed else []
        if not stored or not length or len(entries) != self.promised_frames:
            return self.packet_times()
        start = self._stream.start_time or 0
        times = [place - stored[0] + start for place in stored]
        found = self._time_line(times, [max(start + length - times[-1], 0)] * len(times))
        return found if found.rates[0] == found.rates[1] else self.packet_times()

    def times(self) -> TimeLine:
        """Return when the frames iterated over are shown; call it after the last frame.

        Raises:
            DataError: there was no frame, or their times are absurd.
        """
        return self._time_line(self._shown, self._durations)

    def _time_line(self, times: Sequence[int | None], durations: Sequence[int]) -> TimeLine:
        if not times:
            lost = f"{self._lost_packets} damaged packets" if self._lost_packets else "the stream is empty"
            raise DataError(f"{self._path}: no frame of its video stream decodes ({self._broken_off or lost})")
        tick_s = self._stream.time_base or 1 / self.rate
        # Sound may begin before 0, with what a decoder needs to get going; nobody shows that.
        start = max(Fraction(self._container.start_time or 0, av.time_base), Fraction(0))
        try:
            return TimeLine.of_pictures(times, durations, tick_s, self.rate, start)
        except ValueError as error:
            raise DataError(f"{self._path}: {error}; they are damaged, re-encode it") from None

    def _time_of(self, packet: "Packet[VideoStream]") -> int | None:
        if self._container.format.name == _COUNTED and packet.dts is not None:
            return packet.dts
        return packet.pts

    def __iter__(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            if packet is not None and packet.dts is not None:
                if not packet.size:
                    continue  # A decoder would take it for the end.
                self._hidden_packets += packet.is_discard
            if packet is not None and packet.pts is not None:
                place = self._time_of(packet) or 0
                self._times_at.setdefault(packet.pts, []).append(place)
                self._last_place = max(self._last_place, place)
            try:
                frames = self._stream.decode(packet)
            except av.error.FFmpegError:
                self._lost_packets += 1
                continue
            for frame in frames:
                self._note(frame)
                yield frame

    def _packets(self) -> "Iterator[Packet[VideoStream] | None]":
        """Yield every packet; the last one is empty (or None) and makes the decoder hand out what it still holds."""
        try:
            yield from self._container.demux(self._stream)
        except av.error.FFmpegError as error:
            self._broken_off = _reason(error)
            yield None

    def _note(self, frame: VideoFrame) -> None:
        if not self._shown:
            turned = quarter_turns(frame) % 2 == 1
            self._size = (frame.height, frame.width) if turned else (frame.width, frame.height)
        waiting = None if frame.pts is None else self._times_at.get(frame.pts)
        self._shown.append(waiting.pop(0) if waiting else frame.pts)
        self._durations.append(frame.duration or 0)

    def info(self) -> VideoInfo:
        """Return what the frames iterated over amount to; call it after the last frame.

        Raises:
            DataError: there was no frame, or their times are absurd.
        """
        times = self.times()
        return VideoInfo(
            frames=len(times),
            fps=times.mean_rate,
            duration_s=times.duration_s,
            times=times,
            width=self._size[0],
            height=self._size[1],
            problem=self._problem(times),
        )

    def _problem(self, times: TimeLine) -> str | None:
        frames = len(times)
        if self._broken_off is not None:
            return f"reading broke off after {frames} frames ({self._broken_off})"
        if self._promised_and_missing(times) > _HEADER_SLACK:
            return f"only {frames} of {self.promised_frames} frames decode"
        if self._lost_packets:
            return f"{self._lost_packets} packets are damaged and gave no frame; {frames} frames decode"
        return None

    def _promised_and_missing(self, times: TimeLine) -> float:
        """Return how many frames of those that the header counts are neither there, nor hidden, nor skipped."""
        missing = self.promised_frames - self._hidden_packets - len(times)
        if missing > 0 and self._container.format.name == _COUNTED and self._last_place >= 0:
            # The header counts places, and a slow picture takes several.
            taken = np.median(np.diff(times.ticks)) if len(times) > 1 else 1
            return min(missing, float((self.promised_frames - 1 - self._last_place) / max(taken, 1)))
        return missing


def probe(path: Path) -> VideoInfo:
    """Decode the whole video, keep nothing, and return what it holds.

    Raises:
        DataError: nothing decodes. A file of which only a part decodes is described by ``VideoInfo.problem``.
    """
    with VideoReader(path) as reader:
        for _ in reader:
            pass
        return reader.info()


# A frame that is made only when it is wanted. Use it before the next one: they may share memory.
Picture = Callable[[], VideoFrame]


def resized(rescaler: VideoReformatter, frame: VideoFrame, height: int, width: int) -> Tensor:
    turns = quarter_turns(frame)
    if turns % 2 == 1:
        height, width = width, height
    small = rescaler.reformat(frame, width, height, "rgb24", interpolation="BILINEAR")
    image = torch.from_numpy(small.to_ndarray()).permute(2, 0, 1)
    return torch.rot90(image, turns, dims=(1, 2)).contiguous()


def quarter_turns(frame: VideoFrame) -> int:
    """Return by how many quarter turns counter-clockwise (0-3) the frame must be turned to stand upright."""
    return round(frame.rotation / 90) % 4


def _gives_frame(packet: "Packet[VideoStream]") -> bool:
    return packet.size > 0 and not packet.is_discard


def _reason(error: Exception) -> str:
    """Return FFmpeg's or the system's words for an error, without number and file name."""
    return str(getattr(error, "strerror", None) or error)
