"""Frames by torchcodec, where it is installed, finds an FFmpeg, and gives the pixels that PyAV gives.

It decodes the same packets in the same order; its raw pictures go through the same rescaler, so that frame numbers and
pixels do not depend on what is installed. torchcodec's own ``Resize`` is not used: it converts to RGB before it
shrinks, which changes pixels by about 1 of 255 on average, and single ones by up to 56. Nor are frames looked up by
number: torchcodec numbers packets, and a packet that does not decode would shift all that follow. Files of codecs whose
pixels depend on FFmpeg's version, whose first frame differs from PyAV's, or with a packet that gives no frame, are
refused.
"""

import functools
import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from etad.data.video_reader import DecoderName, Picture, VideoReader, resized
from etad.errors import ConfigError

# Their standards fix every pixel. Elsewhere (MPEG-4 Part 2, MPEG-2, ...) FFmpeg versions differ by rounding, and
# torchcodec's FFmpeg need not be PyAV's.
_EXACT_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1"})


def torchcodec_decoders(name: DecoderName = "auto") -> ModuleType | None:
    """Return ``torchcodec.decoders`` where decoder ``name`` should be tried with it, or None for PyAV.

    Call it before a long run, so that a decoder that is not there fails early.

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


class RefusedError(Exception):
    """torchcodec does not decode this file, or not to what PyAV would give."""


def torchcodec_pictures(path: Path, library: ModuleType, height: int, width: int, expected: int) -> Iterator[Picture]:
    """Yield the frames that torchcodec decodes, ``expected`` of them: one for each packet.

    Raises:
        DataError: PyAV cannot open the file either.
        RefusedError: the codec is not exact, torchcodec fails, the first frame is not PyAV's at ``height`` x
            ``width``, or some packet gave no frame.
    """
    with VideoReader(path) as reader:
        if reader.codec not in _EXACT_CODECS:
            raise RefusedError(f"its codec is {reader.codec}")
        first = next(iter(reader), None)
        stream = reader.stream_index
    if first is None:
        raise RefusedError("its first frame does not decode")
    canvas = _Canvas(first)
    count = 0
    for raw in _raw_frames(path, library, stream):
        if count == 0:
            canvas.paint(raw)
            ours, theirs = (resized(VideoReformatter(), frame, height, width) for frame in (first, canvas.frame))
            if not torch.equal(ours, theirs):
                raise RefusedError("its first frame has other pixels")
        yield functools.partial(canvas.paint, raw)
        count += 1
    if count != expected:
        raise RefusedError(f"{count} frames from {expected} packets")


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
        RefusedError: the pixel format is not planar YUV.
    """

    def __init__(self, like: VideoFrame) -> None:
        kind = like.format.name
        if not kind.startswith("yuv") or len(like.planes) != len(like.format.components):
            raise RefusedError(f"its pixel format is {kind}")
        # There and back is the way to get a frame with the same properties and memory of its own.
        with _refusals():
            self.frame = like.reformat(format="rgb24").reformat(format=kind)
        planes: Iterable[Any] = self.frame.planes
        self._planes = [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in planes]

    def paint(self, raw: Any) -> VideoFrame:
        """Copy ``raw`` into the frame and return it.

        Raises:
            RefusedError: ``raw`` has another size or pixel format.
        """
        with _refusals():
            shape = (raw.pixel_format, raw.width, raw.height)
            planes = [plane.numpy() for plane in raw.planes]
        if shape != (self.frame.format.name, self.frame.width, self.frame.height):
            raise RefusedError("its pictures change their size or pixel format")
        for target, plane in zip(self._planes, planes, strict=True):
            target.view(plane.dtype)[: plane.shape[0], : plane.shape[1]] = plane
        return self.frame


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn torchcodec's errors into a refusal of one line."""
    try:
        yield
    except (RuntimeError, ValueError, av.error.FFmpegError) as error:
        raise RefusedError((str(error).splitlines() or ["no reason given"])[0]) from None
