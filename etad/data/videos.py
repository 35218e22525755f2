"""Reading videos: which frames the snippets need, and those frames, resized while they are decoded.

Frames are counted by decoding: the count in a file's header is missing, or one or two too high, in many real files.
Frame numbers follow display order, whatever the timestamps say, so a variable frame rate does not change them.

Two decoders, one result. PyAV brings its own FFmpeg and reads every file. torchcodec, where it is installed and finds
an FFmpeg, decodes the same packets in the same order; its raw pictures go through the same rescaler, so that frame
numbers and pixels do not depend on what is installed. torchcodec's own ``Resize`` is not used: it converts to RGB
before it shrinks, which changes pixels by about 1 of 255 on average, and single ones by up to 56. Nor are frames
looked up by number: torchcodec numbers packets, and a packet that does not decode would shift all that follow.
Files of codecs whose pixels depend on FFmpeg's version, whose first frame differs from PyAV's, or with a packet that
gives no frame, are refused, and PyAV decodes them.

What FFmpeg paints over damage inside a frame is a guess that its threads race for: such pixels, not their number,
differ from run to run with either decoder.
"""

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

import av
import numpy as np
import numpy.typing as npt
import torch
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from etad.config import FramesConfig
from etad.errors import ConfigError, DataError, NothingToDoError

DecoderName = Literal["auto", "pyav", "torchcodec"]
"""Values of ``data.frames.decoder``."""

SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg"),
    *(".flv", ".wmv", ".ts", ".3gp", ".ogv"),
)
"""File name endings that count as video; upper case counts too."""

# Many undamaged files promise one or two frames more than they hold, so that is not a problem to report.
_HEADER_SLACK = 2
# Their standards fix every pixel. Elsewhere (MPEG-4 Part 2, MPEG-2, ...) FFmpeg versions differ by rounding, and
# torchcodec's FFmpeg need not be PyAV's.
_EXACT_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1"})
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
            # Titles in an unknown encoding are common in old files, and nobody reads them here.
            self._container = av.open(str(path), metadata_errors="ignore")
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


def snippet_indices(frame_count: int, snippets: int, clip_frames: int) -> npt.NDArray[np.int64]:
    """Return the frame numbers of evenly spread snippets (etad-spec section 1).

    The first snippet starts at frame 0 and the last one ends with the video; a video shorter than a clip loops.

    Args:
        frame_count: frames of the video, at least 1.
        snippets: number of snippets, at least 1; a single one starts at frame 0.
        clip_frames: consecutive frames in a snippet, at least 1.

    Returns:
        int64 ``[snippets, clip_frames]``, values in ``0..frame_count - 1``.
    """
    last_start = max(frame_count - clip_frames, 0)
    starts = np.round(np.arange(snippets) * last_start / max(snippets - 1, 1)).astype(np.int64)
    result: npt.NDArray[np.int64] = (starts[:, None] + np.arange(clip_frames)) % frame_count
    return result


def probe(path: Path) -> VideoInfo:
    """Decode the whole video, keep nothing, and return what it holds.

    Raises:
        DataError: nothing decodes. A file of which only a part decodes is described by ``VideoInfo.problem``.
    """
    with VideoReader(path) as reader:
        for _ in reader:
            pass
        return reader.info()


def decode(
    path: Path, height: int, width: int, indices: Iterable[int] | None = None, decoder: DecoderName = "auto"
) -> Tensor:
    """Decode frames, resized to ``height`` x ``width`` pixels without keeping the aspect.

    Resizing is FFmpeg's bilinear filter, which averages over the source pixels when it shrinks. A rotation that the
    file asks for is carried out, rounded to a multiple of 90 degrees; mirroring is not.

    Args:
        path: video file.
        height, width: size of the result, pixels.
        indices: frame numbers, in any order, repeats allowed. None: every frame.
        decoder: as ``data.frames.decoder``; it does not change the frames.

    Returns:
        uint8 RGB ``[F, 3, height, width]``, F the number of indices or of frames. Only frames asked for are kept.

    Raises:
        DataError: nothing decodes, a frame asked for does not exist, or torchcodec was asked for and refuses the file.
        ConfigError: torchcodec was asked for and is not there.
    """
    if indices is None:
        return _decode_distinct(path, height, width, None, decoder)[0]
    distinct, where = np.unique(np.fromiter(indices, np.int64), return_inverse=True)
    frames, count = _decode_distinct(path, height, width, distinct, decoder)
    if len(distinct) and (distinct[0] < 0 or distinct[-1] >= count):
        outside = distinct[0] if distinct[0] < 0 else distinct[-1]
        raise DataError(f"{path}: frame {outside} was asked for, but the frames that decode are 0..{count - 1}")
    return frames[torch.from_numpy(where)]


def read_snippets(path: Path, snippets: int, config: FramesConfig) -> tuple[Tensor, Tensor]:
    """Decode the frames that evenly spread snippets need, each once.

    Returns:
        ``frames`` uint8 RGB ``[F, 3, config.resize_height, config.resize_width]``, the F distinct frames in order, and
        ``index`` int64 ``[snippets, config.clip_frames]``: ``frames[index]`` are the snippets, ``[N, T, 3, H, W]``.

    Raises:
        DataError: nothing decodes, or ``config.decoder`` is "torchcodec" and it refuses the file.
        ConfigError: ``config.decoder`` is "torchcodec" and it is not there.
    """
    with VideoReader(path) as reader:
        expected = max(reader.count_packets(), 1)
    # The packet count is right for nearly every file, and then one pass is enough; the first pass gives the true count.
    for _ in range(2):
        numbers = snippet_indices(expected, snippets, config.clip_frames)
        distinct, where = np.unique(numbers, return_inverse=True)
        frames, count = _decode_distinct(path, config.resize_height, config.resize_width, distinct, config.decoder)
        if count == expected:
            return frames, torch.from_numpy(where.reshape(numbers.shape))
        expected = count
    raise DataError(f"{path}: gave a different number of frames each time it was read; is it still being written?")


def torchcodec_decoders(name: DecoderName = "auto") -> ModuleType | None:
    """Return ``torchcodec.decoders`` where decoder ``name`` should be tried with it, or None for PyAV.

    Call it before a long run: a wish that cannot be met comes out at once.

    Raises:
        ConfigError: ``name`` is "torchcodec", and it is not there.
    """
    found = None if name == "pyav" else _import_torchcodec()
    if name == "torchcodec" and found is None:
        raise ConfigError(
            "data.frames.decoder: torchcodec 0.17 or newer is not installed, or finds no FFmpeg libraries; "
            "pip install 'etad-bench[torchcodec]' and FFmpeg, or set it to auto"
        )
    return found


@functools.cache
def _import_torchcodec() -> ModuleType | None:
    try:
        package = importlib.import_module("torchcodec")
        decoders = importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError):
        # Without FFmpeg older versions fail so; 0.17 imports, and says that it found none.
        return None
    usable = getattr(package, "ffmpeg_major_version", None) is not None and hasattr(decoders, "Demuxer")
    return decoders if usable else None


class _RefusedError(Exception):
    """torchcodec does not decode this file, or not to what PyAV would give."""


# A frame that is made only when it is wanted. Use it before the next one: they may share memory.
_Picture = Callable[[], VideoFrame]


def _decode_distinct(
    path: Path, height: int, width: int, wanted: npt.NDArray[np.int64] | None, decoder: DecoderName
) -> tuple[Tensor, int]:
    """Return the frames numbered in ``wanted`` (None: all) in order, and how many frames the video has."""
    library = torchcodec_decoders(decoder)
    if library is not None:
        try:
            return _collect(_torchcodec_pictures(path, library, height, width), height, width, wanted)
        except _RefusedError as refusal:
            if decoder == "torchcodec":
                raise DataError(
                    f"{path}: torchcodec does not decode it as PyAV does ({refusal}); set data.frames.decoder to auto"
                ) from None
    return _collect(_pyav_pictures(path), height, width, wanted)


def _collect(
    pictures: Iterable[_Picture], height: int, width: int, wanted: npt.NDArray[np.int64] | None
) -> tuple[Tensor, int]:
    keep = None if wanted is None else set(wanted.tolist())
    kept: list[Tensor] = []
    count = 0
    # One rescaler for all frames: `frame.reformat` sets up a new one every time, which takes ten times as long.
    rescaler = VideoReformatter()
    for picture in pictures:
        if keep is None or count in keep:
            kept.append(_resized(rescaler, picture(), height, width))
        count += 1
    return torch.stack(kept) if kept else torch.empty(0, 3, height, width, dtype=torch.uint8), count


def _pyav_pictures(path: Path) -> Iterator[_Picture]:
    with VideoReader(path) as reader:
        for frame in reader:
            yield functools.partial(_itself, frame)
        reader.info()  # raises where there was no frame


def _itself(frame: VideoFrame) -> VideoFrame:
    return frame


def _torchcodec_pictures(path: Path, library: ModuleType, height: int, width: int) -> Iterator[_Picture]:
    """Yield the frames that torchcodec decodes.

    Raises:
        DataError: PyAV cannot open the file either.
        _RefusedError: the codec is not exact, torchcodec fails, the first frame is not PyAV's at ``height`` x
            ``width``, or some packet gave no frame.
    """
    with VideoReader(path) as reader:
        expected = reader.count_packets()
    with VideoReader(path) as reader:
        if reader.codec not in _EXACT_CODECS:
            raise _RefusedError(f"its codec is {reader.codec}")
        first = next(iter(reader), None)
        stream = reader.stream_index
    if first is None:
        raise _RefusedError("its first frame does not decode")
    canvas = _Canvas(first)
    count = 0
    for raw in _raw_frames(path, library, stream):
        if count == 0:
            canvas.paint(raw)
            ours, theirs = (_resized(VideoReformatter(), frame, height, width) for frame in (first, canvas.frame))
            if not torch.equal(ours, theirs):
                raise _RefusedError("its first frame has other pixels")
        yield functools.partial(canvas.paint, raw)
        count += 1
    if count != expected:
        raise _RefusedError(f"{count} frames from {expected} packets")


def _raw_frames(path: Path, library: ModuleType, stream: int) -> Iterator[Any]:
    """Yield torchcodec's ``RawFrame`` objects of a stream, in display order."""
    with _refusals():
        demuxer = library.Demuxer(str(path), streams=stream)
        decoder = demuxer.streams[0].make_decoder("cpu", num_ffmpeg_threads=0)
        for packet in demuxer:
            yield from decoder.decode(packet)
        yield from decoder.drain()


class _Canvas:
    """A PyAV frame that torchcodec's raw frames are copied into, one after the other, for PyAV to rescale.

    It is made from a frame of PyAV's and keeps what that says about colours, interlacing and rotation.

    Raises:
        _RefusedError: the pixel format is not planar YUV.
    """

    def __init__(self, like: VideoFrame) -> None:
        kind = like.format.name
        if not kind.startswith("yuv") or len(like.planes) != len(like.format.components):
            raise _RefusedError(f"its pixel format is {kind}")
        # There and back is the way to get a frame with the same properties and memory of its own.
        with _refusals():
            self.frame = like.reformat(format="rgb24").reformat(format=kind)
        planes: Iterable[Any] = self.frame.planes
        self._planes = [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in planes]

    def paint(self, raw: Any) -> VideoFrame:
        """Copy ``raw`` into the frame and return it.

        Raises:
            _RefusedError: ``raw`` has another size or pixel format.
        """
        with _refusals():
            shape = (raw.pixel_format, raw.width, raw.height)
            planes = [plane.numpy() for plane in raw.planes]
        if shape != (self.frame.format.name, self.frame.width, self.frame.height):
            raise _RefusedError("its pictures change their size or pixel format")
        for target, plane in zip(self._planes, planes, strict=True):
            target.view(plane.dtype)[: plane.shape[0], : plane.shape[1]] = plane
        return self.frame


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn torchcodec's errors into a refusal of one line."""
    try:
        yield
    except (RuntimeError, ValueError, av.error.FFmpegError) as error:
        raise _RefusedError((str(error).splitlines() or ["no reason given"])[0]) from None


def _resized(rescaler: VideoReformatter, frame: VideoFrame, height: int, width: int) -> Tensor:
    turns = quarter_turns(frame)
    if turns % 2 == 1:
        height, width = width, height
    small = rescaler.reformat(frame, width, height, "rgb24", interpolation="BILINEAR")
    image = torch.from_numpy(small.to_ndarray()).permute(2, 0, 1)
    return torch.rot90(image, turns, dims=(1, 2)).contiguous()


def quarter_turns(frame: VideoFrame) -> int:
    """Return by how many quarter turns counter-clockwise (0-3) the frame must be turned to stand upright."""
    return round(frame.rotation / 90) % 4


def find_video(folder: Path, pattern: str, video_id: str) -> Path | None:
    """Return the file of video ``video_id``, or None.

    The exact name comes first; then the same name with any of ``SUFFIXES``; then both with the prefix ``v_`` of
    ActivityNet's files added or left out.

    Args:
        folder: where to look, not below.
        pattern: file name with ``{id}`` in the place of the id, e.g. ``"v_{id}.mp4"``.
        video_id: id in the annotation file.
    """
    name = pattern.replace("{id}", video_id)
    exact = folder / name
    if exact.is_file():
        return exact
    stem = exact.stem if exact.suffix.lower() in SUFFIXES else exact.name
    other = stem.removeprefix("v_") if stem.startswith("v_") else f"v_{stem}"
    for candidate in (stem, other):
        for suffix in (exact.suffix, *SUFFIXES):
            for ending in (suffix, suffix.upper()):
                path = exact.with_name(candidate + ending)
                if path.is_file():
                    return path
    return None


def list_videos(path: Path) -> list[Path]:
    """Return the video files directly in folder ``path``, sorted by name; or the file ``path`` alone.

    Hidden files are left out: unfinished outputs are named so.

    Raises:
        NothingToDoError: the folder holds no video.
        DataError: there is no such file or folder.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found = sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    )
    if not found:
        raise NothingToDoError(f"{path}: holds no video file ({' '.join(SUFFIXES)})")
    return found


def _reason(error: Exception) -> str:
    """Return FFmpeg's or the system's words for an error, without number and file name."""
    return str(getattr(error, "strerror", None) or error)
