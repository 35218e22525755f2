"""One video file: its frames in display order, and what decoding the whole of it gave.

Frames are counted by decoding: the count in a file's header is missing, or one or two too high, in many real files.
Frame numbers follow display order, whatever the timestamps say, so a variable frame rate does not change them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import av
import torch
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from etad.errors import DataError

DecoderName = Literal["auto", "pyav", "torchcodec"]
"""Values of ``data.frames.decoder``."""
# Many undamaged files promise one or two frames more than they hold, so that is not a problem to report.
_HEADER_SLACK = 2
# Titles in an unknown encoding are common in old files, and nobody reads them here. PyAV 19 takes them as they are.
_ANY_METADATA: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
# What FFmpeg assumes where a file states no rate.
_DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True)
class VideoInfo:
    """What decoding a whole video gave.

    Attributes:
        frames: frames that decode.
        fps: mean frame rate, ``frames / duration_s``.
        duration_s: seconds from the first frame's timestamp to the end of the last frame.
        width, height: pixels, after the rotation the file asks for.
        problem: None, or one line that says what is damaged although frames did decode.
    """

    frames: int
    fps: float
    duration_s: float
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
        self._frames = 0
        self._size = (0, 0)
        self._first_s: float | None = None
        self._last_s = 0.0
        self._last_duration_s = 0.0
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
        """Frame count in the header; 0 where the format has none. Often one or two too high."""
        return self._stream.frames

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

    def count_packets(self) -> int:
        """Return the number of packets that should give a frame, without decoding: quick, and seldom wrong."""
        return sum(packet.size > 0 and not packet.is_discard for packet in self._packets() if packet is not None)

    def __iter__(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
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
        self._frames += 1
        if self._frames == 1:
            turned = quarter_turns(frame) % 2 == 1
            self._size = (frame.height, frame.width) if turned else (frame.width, frame.height)
        if frame.pts is None or frame.time_base is None:
            return
        time_s = float(frame.pts * frame.time_base)
        self._first_s = time_s if self._first_s is None else min(self._first_s, time_s)
        if time_s >= self._last_s:
            self._last_s = time_s
            self._last_duration_s = float((frame.duration or 0) * frame.time_base)

    def info(self) -> VideoInfo:
        """Return what the frames iterated over amount to; call it after the last frame.

        Raises:
            DataError: there was no frame.
        """
        if self._frames == 0:
            lost = f"{self._lost_packets} damaged packets" if self._lost_packets else "the stream is empty"
            raise DataError(f"{self._path}: no frame of its video stream decodes ({self._broken_off or lost})")
        return VideoInfo(
            frames=self._frames,
            fps=self._frames / self._duration_s,
            duration_s=self._duration_s,
            width=self._size[0],
            height=self._size[1],
            problem=self._problem(),
        )

    @property
    def _duration_s(self) -> float:
        span_s = 0.0 if self._first_s is None else self._last_s - self._first_s
        if span_s <= 0.0:
            # A single frame, or no timestamps at all.
            return self._frames / float(self.rate)
        # Some formats do not store how long a frame lasts: then the last one lasts as long as the mean.
        return span_s + (self._last_duration_s or span_s / (self._frames - 1))

    def _problem(self) -> str | None:
        if self._broken_off is not None:
            return f"reading broke off after {self._frames} frames ({self._broken_off})"
        if self.promised_frames - self._frames > _HEADER_SLACK:
            return f"only {self._frames} of {self.promised_frames} frames decode"
        if self._lost_packets:
            return f"{self._lost_packets} packets are damaged and gave no frame; {self._frames} frames decode"
        return None


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


def _reason(error: Exception) -> str:
    """Return FFmpeg's or the system's words for an error, without number and file name."""
    return str(getattr(error, "strerror", None) or error)
