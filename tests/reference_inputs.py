"""Weights and inputs of the reference fixtures, rebuilt from names.

The arrays in ``tests/fixtures`` were computed from data that is not stored: every tensor comes from numpy's legacy
generator (its stream is frozen for good), seeded with the CRC-32 of the tensor's name plus a stream number.
"""

import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def fill(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Return the reference value of one state-dict entry: float32 ``shape`` (int64 zeros for batch counters).

    Variances lie just above 1, means and biases near 0, weights of normalisation layers near 1; any other weight is
    normal with variance 1 / fan-in.

    Args:
        name: published name of the entry, e.g. "base_detector.tem.0.weight".
        shape: its shape.
        seed: stream number; the fixtures use 0 unless they say otherwise.
    """
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    noise = _generator(name, seed).standard_normal(shape).astype(np.float32)
    last_part = name.split(".")[-1]
    if name.endswith("running_var"):
        value: NDArray[Any] = 1.0 + 0.1 * np.abs(noise)
    elif name.endswith("running_mean") or "bias" in last_part:
        value = 0.1 * noise
    elif len(shape) == 1:
        value = 1.0 + 0.1 * noise
    else:
        value = noise / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))


def uniform(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Return the reference input ``name``: float32 ``shape``, uniform in [0, 1)."""
    return torch.from_numpy(_generator(name, seed).random_sample(shape).astype(np.float32))


def _generator(name: str, seed: int) -> np.random.RandomState:
    return np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
