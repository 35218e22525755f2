"""The frames that snippets need, resized while they are decoded.

Two decoders, one result: PyAV brings its own FFmpeg and reads every file (video_reader.py); torchcodec decodes where it
gives the same pixels (torchcodec_frames.py).

What FFmpeg paints over damage inside a frame is a guess that its threads race for: such pixels, not their number,
differ from run to run with either decoder.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from torch import Tensor

from etad.config import FramesConfig
from etad.data.time_line import TimeLine, exact_rate
from etad.data.torchcodec_frames import RefusedError, torchcodec_decoders, torchcodec_pictures
from etad.data.video_reader import DecoderName, Picture, VideoReader, resized
from etad.errors import DataError


def snippet_indices(frame_count: int, snippets: int, clip_frames: int) -> npt.NDArray[np.int64]:
    """Return the frame numbers of evenly spread snippets in a video of constant rate (specification, section 1).

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
    frames, times = _decode_distinct(path, height, width, distinct, decoder)
    count = len(times)
    if len(distinct) and (distinct[0] < 0 or distinct[-1] >= count):
        outside = distinct[0] if distinct[0] < 0 else distinct[-1]
        raise DataError(f"{path}: frame {outside} was asked for, but the frames that decode are 0..{count - 1}")
    return frames[torch.from_numpy(where)]


@dataclass(frozen=True)
class Snippets:
    """The frames of a video that its snippets need, and the time that the snippets cover.

    Attributes:
        frames: distinct frames, uint8 RGB ``[F, 3, height, width]``, in the order of display.
        index: frame of every frame of every snippet, int64 ``[N, T]``: ``frames[index]`` is ``[N, T, 3, H, W]``.
        start_s: when the first snippet begins, seconds.
        duration_s: seconds from there to the end of the last snippet.
    """

    frames: Tensor
    index: Tensor
    start_s: float
    duration_s: float


def read_snippets(path: Path, snippets: int, config: FramesConfig) -> Snippets:
    """Decode the frames that snippets spread evenly over the video's time need, each once.

    Snippets are cut from the frames that show the video at ``config.fps`` frames/s; see :mod:`etad.data.time_line`.

    Raises:
        DataError: nothing decodes, or ``config.decoder`` is "torchcodec" and it refuses the file.
        ConfigError: ``config.decoder`` is "torchcodec" and it is not there.
    """
    fps = exact_rate(config.fps)
    with VideoReader(path) as reader:
        expected = reader.packet_times()
    # The packets are right for nearly every file, and then one pass is enough; the first pass gives the true times.
    for _ in range(2):
        numbers = _snippet_frames(expected, snippets, config.clip_frames, fps)
        distinct, where = np.unique(numbers, return_inverse=True)
        frames, times = _decode_distinct(path, config.resize_height, config.resize_width, distinct, config.decoder)
        if np.array_equal(_snippet_frames(times, snippets, config.clip_frames, fps), numbers):
            index = torch.from_numpy(where.reshape(numbers.shape))
            return Snippets(frames, index, times.start_s, float(times.count(fps) / fps))
        expected = times
    raise DataError(f"{path}: gave a different number of frames each time it was read; is it still being written?")


def _snippet_frames(times: TimeLine, snippets: int, clip_frames: int, fps: Fraction) -> npt.NDArray[np.int64]:
    return times.shown(snippet_indices(times.count(fps), snippets, clip_frames), fps)


def _decode_distinct(
    path: Path, height: int, width: int, wanted: npt.NDArray[np.int64] | None, decoder: DecoderName
) -> tuple[Tensor, TimeLine]:
    """Return the frames numbered in ``wanted`` (None: all) in order, and when the frames of the video are shown."""
    library = torchcodec_decoders(decoder)
    if library is not None:
        try:
            with VideoReader(path) as reader:
                times = reader.packet_times()
            pictures = torchcodec_pictures(path, library, height, width, len(times))
            # It gives up unless every packet gives a frame.
            return _collect(pictures, height, width, wanted), times
        except RefusedError as refusal:
            if decoder == "torchcodec":
                raise DataError(
                    f"{path}: torchcodec does not decode it as PyAV does ({refusal}); set data.frames.decoder to auto"
                ) from None
    with VideoReader(path) as reader:
        frames = _collect((functools.partial(_itself, frame) for frame in reader), height, width, wanted)
        return frames, reader.times()


def _collect(pictures: Iterable[Picture], height: int, width: int, wanted: npt.NDArray[np.int64] | None) -> Tensor:
    keep = None if wanted is None else set(wanted.tolist())
    kept: list[Tensor] = []
    # One rescaler for all frames: `frame.reformat` sets up a new one every time, which takes ten times as long.
    rescaler = VideoReformatter()
    for number, picture in enumerate(pictures):
        if keep is None or number in keep:
            kept.append(resized(rescaler, picture(), height, width))
    return torch.stack(kept) if kept else torch.empty(0, 3, height, width, dtype=torch.uint8)


def _itself(frame: VideoFrame) -> VideoFrame:
    return frame
