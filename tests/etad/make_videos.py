"""Small videos of every awkward kind, written with PyAV.

Frame ``n`` of a video made by ``write_video`` is grey at ``brightness(n)``, so that a decoded frame tells its number.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame
from torch import Tensor

LEVELS = 24


def brightness(number: int) -> int:
    """Grey level of frame ``number``: 24 levels, 10 apart, far beyond what coding blurs."""
    return 10 + 10 * (number % LEVELS)


def numbers_of(frames: Tensor) -> list[int]:
    """Return the frame numbers, modulo 24, that uint8 ``frames [F, 3, H, W]`` show."""
    means = frames.float().mean(dim=(1, 2, 3))
    return [round((float(mean) - 10) / 10) for mean in means]


def grey(number: int, width: int, height: int) -> VideoFrame:
    return VideoFrame.from_ndarray(np.full((height, width, 3), brightness(number), np.uint8), format="rgb24")


def write_video(
    path: Path,
    frames: int,
    *,
    fps: int = 10,
    size: tuple[int, int] = (48, 32),
    times_ms: Sequence[int] | None = None,
    pictures: Sequence[np.ndarray] | None = None,
    header_first: bool = False,
    hidden: int = 0,
    codec: str = "libx264",
    b_frames: bool = True,
    sound_s: float = 0.0,
    title: str = "",
) -> Path:
    """Write ``frames`` frames of ``size`` (width, height).

    Args:
        times_ms: when each frame is shown; they give an irregular rate, or a late start.
        pictures: instead of grey frames.
        header_first: of an MP4, so that it can be cut.
        hidden: the first so many frames of an MP4 are stored and hidden by an edit list, as cutting without re-encoding
            does.
        codec: "libx264" or "mpeg4".
        b_frames: allow frames that are stored after one that is shown later.
        sound_s: seconds of silence from time 0, beside the pictures.
        title: of the file.
    """
    width, height = size
    options = {"movflags": "faststart"} if header_first else {}
    if hidden:
        options["avoid_negative_ts"] = "disabled"
    with av.open(str(path), "w", options=options) as sink:
        sink.metadata.update({"title": title} if title else {})
        # B-frames and several key frames, as in real files: the order of storage is not that of display.
        options = {"preset": "veryfast", "crf": "10", "g": "5"} if codec == "libx264" else {"bf": "2"}
        stream = sink.add_stream(codec, rate=fps, options=options if b_frames else {**options, "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        sound = sink.add_stream("aac" if path.suffix == ".mp4" else "pcm_s16le", rate=8000) if sound_s else None
        packets: list[Any] = []
        for number in range(frames):
            frame = grey(number, width, height)
            if pictures is not None:
                frame = VideoFrame.from_ndarray(pictures[number], format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            elif hidden:
                frame.pts, frame.time_base = number - hidden, Fraction(1, fps)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.int16), format="s16", layout="mono")
            silence.sample_rate, silence.time_base = 8000, Fraction(1, 8000)
            for number in range(round(8 * sound_s)):
                silence.pts = 1000 * number
                packets += sound.encode(silence)
            packets += sound.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            sink.mux(packet)
    return path


def write_truncated(path: Path, frames: int, keep: float) -> Path:
    """Write an mp4 with its header in front, and cut it to the part ``keep`` of its bytes."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(frames)]
    write_video(path, frames, size=(64, 64), pictures=noise, header_first=True)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def write_sound(path: Path) -> Path:
    """Write a file with half a second of silence and no picture."""
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return path


def write_no_frames(path: Path) -> Path:
    """Write a file with a video track that has no frame."""
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        sink.start_encoding()
    return path


def write_two_streams(path: Path) -> Path:
    """Write a file of two video streams: 16x16 with 3 frames, and 64x48 with 8, marked as the default."""
    with av.open(str(path), "w") as sink:
        streams = []
        for (width, height), frames in (((16, 16), 3), ((64, 48), 8)):
            stream = sink.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append((stream, frames))
        streams[0][0].disposition = Disposition(0)
        streams[1][0].disposition = Disposition.default
        for stream, frames in streams:
            for number in range(frames):
                sink.mux(stream.encode(grey(number, stream.width, stream.height)))
            sink.mux(stream.encode(None))
    return path


def write_rotated(path: Path) -> Path:
    """Write 64x32 frames, left half white, with the matrix of a phone held upright: turn clockwise by 90 degrees.

    Upright, the picture is 32x64 and its upper half is white.
    """
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :32] = 255
    write_video(path, 4, size=(64, 32), pictures=[picture] * 4)
    data = bytearray(path.read_bytes())
    # ISO/IEC 14496-12, track header box version 0: the 3x3 matrix begins 40 bytes after the box type.
    start = data.index(b"tkhd") + 4 + 40
    one, minus_one = 0x00010000, 0xFFFF0000
    matrix = (0, one, 0, minus_one, 0, 0, 0, 0, 0x40000000)
    data[start : start + 36] = b"".join(value.to_bytes(4, "big") for value in matrix)
    path.write_bytes(data)
    return path
