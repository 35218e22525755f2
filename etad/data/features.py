"""Precomputed features: one array a video, in a folder of files or in one container file."""

import os
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from torch import Tensor
from torchvision.ops import roi_align

from etad.config import DataConfig
from etad.errors import ConfigError, DataError, one_line
from etad.torch_files import read_torch_file

HALF_MAX = 65504.0
"""Largest finite half-precision value. ``resize_features`` rounds to half."""

_READ_FAULTS = (
    *(OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, MemoryError),
    *(SyntaxError, OverflowError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error),
    tokenize.TokenError,
)
"""What numpy, h5py and torch raise for a file that is damaged or not what its name says."""


class FeatureStore:
    """Reads the features of videos from ``data.folder``: a folder of files, or one npz / h5 file.

    ``data.pattern`` gives the file name (.npy, .npz, .h5, .hdf5, .pt, .pth) or the key. A per-video npz, h5 or pt file
    must hold exactly one array. The store keeps no file open in itself, so worker processes may fork or pickle it.

    Attributes:
        place: the folder or the file.
        is_container: whether it is one file that holds all arrays.
    """

    def __init__(self, data: DataConfig) -> None:
        """Remember where the features are.

        Raises:
            ConfigError: ``data.pattern`` lacks ``{id}``.
            DataError: ``data.folder`` does not exist, or is a file that cannot hold several arrays.
        """
        self._data = data
        self.place = data.path(data.folder)
        if "{id}" not in data.pattern:
            raise ConfigError(f"data.pattern is {data.pattern!r}; it must hold {{id}}, the place of the video id")
        if not self.place.exists():
            raise DataError(f"{self.place}: no such folder or file of features; set data.root and data.folder")
        self.is_container = self.place.is_file()
        if self.is_container and self.place.suffix.lower() not in (".npz", ".h5", ".hdf5"):
            raise DataError(f"{self.place}: a single file of features must be .npz, .h5 or .hdf5")

    def location(self, video_id: str) -> str:
        """Return where the features of a video are, or should be, in words for a message."""
        name = self.name_of(video_id)
        return f"{self.place}[{name}]" if self.is_container else str(self.place / name)

    def name_of(self, video_id: str) -> str:
        """Return the file name or key of a video's features."""
        return self._data.pattern.replace("{id}", video_id)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Yield the container's arrays by their names.

        Raises:
            DataError: it cannot be read.
        """
        with _arrays(self.place) as arrays:
            yield arrays

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Return those of ``ids`` that have no features.

        Raises:
            DataError: the container file cannot be read.
        """
        names = {video_id: self.name_of(video_id) for video_id in ids}
        if not self.is_container:
            return [video_id for video_id, name in names.items() if not (self.place / name).is_file()]
        with self.opened() as arrays:
            return [video_id for video_id, name in names.items() if name not in arrays]

    def steps(self, video_id: str) -> int:
        """Return the number of feature steps of a video, without reading the values where the format allows it.

        Raises:
            DataError: as ``read``, except for values that are not finite.
        """
        with self._stored(video_id) as stored:
            return self._steps(video_id, stored)

    def read(self, video_id: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Return feature steps ``start`` to ``stop`` (None: the end) of a video, float32 ``[C, T]``.

        Raises:
            DataError: absent, unreadable, not ``[T, C]`` (or ``[C, T]``, as ``data.layout`` says) of numbers with
                C = ``data.channels``, empty, or with values that are NaN, infinite or beyond half precision.
        """
        with self._stored(video_id) as stored:
            self._steps(video_id, stored)
            in_time = slice(start, stop)
            chosen = stored[in_time] if self._data.layout == "time_first" else stored[:, in_time]
            with np.errstate(over="ignore"):
                values = np.array(chosen, dtype=np.float32)
        # Written so that NaN fails the comparison, too.
        if values.size and not np.abs(values).max() <= HALF_MAX:
            broken = np.count_nonzero(~np.isfinite(values))
            too_large = f"values exceed {HALF_MAX:.0f}, the range of half precision"
            fault = f"{broken} values are NaN or infinite" if broken else too_large
            raise DataError(f"{self.location(video_id)}: {fault}")
        by_channel = values.T if self._data.layout == "time_first" else values
        return torch.from_numpy(np.ascontiguousarray(by_channel))

    @contextmanager
    def _stored(self, video_id: str) -> Iterator[Any]:
        """Yield the stored array: anything with ``shape`` and ``dtype`` that can be sliced into numpy."""
        name = self.name_of(video_id)
        with _arrays(self.place if self.is_container else self.place / name) as arrays:
            if self.is_container:
                if name not in arrays:
                    raise DataError(f"{self.location(video_id)}: no array of that name")
            elif len(arrays) == 1:
                (name,) = arrays
            else:
                raise DataError(f"{self.place / name}: must hold one array, not {len(arrays)}")
            yield arrays[name]

    def _steps(self, video_id: str, stored: Any) -> int:
        """Return the number of steps of ``stored`` after checking its type and shape."""
        where, channels = self.location(video_id), self._data.channels
        shape = tuple(getattr(stored, "shape", ()))
        if len(shape) != 2:
            raise DataError(f"{where}: must hold a two-dimensional array, not one of shape {list(shape)}")
        if not np.issubdtype(stored.dtype, np.floating) and not np.issubdtype(stored.dtype, np.integer):
            raise DataError(f"{where}: must hold real numbers, not {stored.dtype}")
        time_first = self._data.layout == "time_first"
        steps, width = shape if time_first else shape[::-1]
        if width != channels:
            expected = f"[T, {channels}]" if time_first else f"[{channels}, T]"
            other = "channels_first" if time_first else "time_first"
            hint = f"; it fits data.layout {other}" if steps == channels else ""
            raise DataError(f"{where}: shape is {list(shape)}, expected {expected} (data.channels, data.layout){hint}")
        if steps == 0:
            raise DataError(f"{where}: empty, shape {list(shape)}")
        return int(steps)


def resize_features(features: Tensor, length: int) -> Tensor:
    """Resize features ``[C, T]`` in time, as published, to float32 ``[C, length]`` (specification, section 1).

    Every output position averages ``ceil(T / length)`` linearly interpolated samples of its share of 0..T. Values must
    lie within half precision (``HALF_MAX``), to which the published code rounds them.
    """
    channels, steps = features.shape
    plane = features.half().double().reshape(1, channels, steps, 1)
    # The second axis is one wide: a box 0..1 across it samples its centre alone, with full weight.
    box = torch.tensor([[0, 0, 0, 1, steps]], dtype=torch.float64)
    resized: Tensor = roi_align(plane, box, output_size=(length, 1), aligned=True)
    return resized.reshape(channels, length).float()


@contextmanager
def _arrays(path: Path) -> Iterator[Any]:
    """Yield a mapping from name to array for any supported file; what the file turns out not to be is a DataError."""
    try:
        suffix = path.suffix.lower()
        if suffix == ".npy":
            # Mapped, so that a window of a long video does not cost reading all of it.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            yield {path.stem: array}
        elif suffix == ".npz":
            yield _open_npz(path, path.stat().st_mtime_ns, os.getpid())
        elif suffix in (".h5", ".hdf5"):
            with h5py.File(path, "r") as file:
                yield file
        elif suffix in (".pt", ".pth"):
            yield _tensors(path)
        else:
            raise DataError(f"{path}: features must be .npy, .npz, .h5, .hdf5, .pt or .pth files")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except _READ_FAULTS as error:
        reason = one_line(str(error), 200) or type(error).__name__
        if "pickle" in reason:
            # numpy's text about an option that would run the file's code.
            reason = "holds objects instead of numbers, or is damaged"
        raise DataError(f"{path}: cannot be read as features ({reason})") from None


@lru_cache(maxsize=1)
def _open_npz(path: Path, _modified_ns: int, _process: int) -> NpzFile:
    """Open an npz file once per process, because reading the directory of a large one takes a while.

    The process id is in the key, because a forked worker that used its parent's handle would move the parent's place in
    the file.
    """
    opened = np.load(path, allow_pickle=False)
    if not isinstance(opened, NpzFile):
        raise ValueError("not an npz file")
    return opened


def _tensors(path: Path) -> dict[str, Any]:
    """Return the tensors, or numpy arrays, of a pt file, which holds one or a mapping of them, as numpy arrays."""
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        content = read_torch_file(path, "file")
    except DataError as error:
        raise ValueError(str(error).removeprefix(f"{path}: ")) from None
    named = {"tensor": content} if isinstance(content, Tensor | np.ndarray) else content
    if not isinstance(named, dict) or not all(isinstance(value, Tensor | np.ndarray) for value in named.values()):
        raise ValueError("holds neither a tensor nor a numpy array")
    return {str(name): value.float().numpy() if isinstance(value, Tensor) else value for name, value in named.items()}
