"""A folder of decoded frames, so that a video is decoded once and not in every epoch of every run.

One ``.npz`` file a video: the distinct frames that its snippets need, already resized, which of them make which
snippet, and the time they cover. A file made for other settings, or of a video that has changed since in size, time or
content (digests.py), is made anew; whoever trains need not know. It takes ``frames x 3 x height x width`` bytes a
video: for small and middling data sets.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from etad.config import FramesConfig
from etad.data.videos import Snippets, read_snippets
from etad.digests import file_digest
from etad.errors import DataError
from etad.files import replace_atomically

_SAMPLING = 2
"""Raise it with every change of which frames the snippets of a video are, so that older files are made anew."""


def read_through(folder: Path, path: Path, snippets: int, config: FramesConfig) -> Snippets:
    """Return what :func:`etad.data.videos.read_snippets` returns, from ``folder`` where it is there, else put it there.

    Several processes may do so at once: a file is complete or absent.

    Raises:
        DataError: nothing decodes, or the folder cannot be written.
    """
    made_for = _key(path, snippets, config)
    # Two folders may hold videos of one name.
    kept = folder / f"{path.stem}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}.npz"
    found = _read(kept, made_for)
    if found is not None:
        return found
    decoded = read_snippets(path, snippets, config)
    covered = np.array([decoded.start_s, decoded.duration_s])
    try:
        with replace_atomically(kept) as partial, partial.open("wb") as file:
            np.savez(
                file,
                frames=decoded.frames.numpy(),
                index=decoded.index.numpy(),
                start_and_duration_s=covered,
                made_for=np.array(made_for),
            )
    except OSError as error:
        raise DataError(f"{kept}: decoded frames cannot be kept ({error.strerror or error})") from None
    return decoded


def _read(kept: Path, made_for: str) -> Snippets | None:
    try:
        with np.load(kept, allow_pickle=False) as content:
            if str(content["made_for"]) != made_for:
                return None
            start_s, duration_s = content["start_and_duration_s"].tolist()
            frames, index = torch.from_numpy(content["frames"]), torch.from_numpy(content["index"])
            return Snippets(frames, index, start_s, duration_s)
    except Exception:  # absent, or damaged in whatever way numpy stumbles over: it is made again
        return None


def _key(path: Path, snippets: int, config: FramesConfig) -> str:
    status = path.stat()
    facts = {
        "sampling": _SAMPLING,
        "video_bytes": status.st_size,
        "video_changed_ns": status.st_mtime_ns,
        "video_content": file_digest(path),
        "fps": config.fps,
        "snippets": snippets,
        "clip_frames": config.clip_frames,
        "height": config.resize_height,
        "width": config.resize_width,
    }
    return json.dumps(facts, sort_keys=True)
