"""The frames that snippets need, resized while they are decoded.

Two decoders, one result: PyAV brings its own FFmpeg and reads every file (video_reader.py); torchcodec decodes where it
gives the same pixels (torchcodec_frames.py).

What FFmpeg paints over damage inside a frame is a guess that its threads race for: such pixels, not their number,
differ from run to run with either decoder.
"""

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from torch import Tensor

from etad.config import FramesConfig
from etad.data.torchcodec_frames import RefusedError, torchcodec_decoders, torchcodec_pictures
from etad.data.video_reader import DecoderName, Picture, VideoReader, resized
from etad.errors import DataError


def snippet_indices(frame_count: int, snippets: int, clip_frames: int) -> npt.NDArray[np.int64]:
    """Return the frame numbers of evenly spread snippets (specification, section 1).

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


def _decode_distinct(
    path: Path, height: int, width: int, wanted: npt.NDArray[np.int64] | None, decoder: DecoderName
) -> tuple[Tensor, int]:
    """Return the frames numbered in ``wanted`` (None: all) in order, and how many frames the video has."""
    library = torchcodec_decoders(decoder)
    if library is not None:
        try:
            return _collect(torchcodec_pictures(path, library, height, width), height, width, wanted)
        except RefusedError as refusal:
            if decoder == "torchcodec":
                raise DataError(
                    f"{path}: torchcodec does not decode it as PyAV does ({refusal}); set data.frames.decoder to auto"
                ) from None
    return _collect(_pyav_pictures(path), height, width, wanted)


def _collect(
    pictures: Iterable[Picture], height: int, width: int, wanted: npt.NDArray[np.int64] | None
) -> tuple[Tensor, int]:
    keep = None if wanted is None else set(wanted.tolist())
    kept: list[Tensor] = []
    count = 0
    # One rescaler for all frames: `frame.reformat` sets up a new one every time, which takes ten times as long.
    rescaler = VideoReformatter()
    for picture in pictures:
        if keep is None or count in keep:
            kept.append(resized(rescaler, picture(), height, width))
        count += 1
    return torch.stack(kept) if kept else torch.empty(0, 3, height, width, dtype=torch.uint8), count


def _pyav_pictures(path: Path) -> Iterator[Picture]:
    with VideoReader(path) as reader:
        for frame in reader:
            yield functools.partial(_itself, frame)
        reader.info()  # raises where there was no frame


def _itself(frame: VideoFrame) -> VideoFrame:
    return frame
