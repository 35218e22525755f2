"""Digests of a data set, video by video: what its annotations, its features or its file hold.

Feature arrays of up to 16 MiB are read whole; for other files and larger arrays see :mod:`etad.digests`.
"""

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from etad.config import DataConfig
from etad.data.annotations import Video
from etad.data.features import FeatureStore
from etad.data.video_files import find_video
from etad.digests import DIGITS, PIECE_BYTES, WHOLE_FILE_BYTES, digest, file_digest
from etad.errors import UserError
from etad.progress import progress

WHOLE_ARRAY_BYTES = 16 * 2**20
READERS = 8
"""Files read at a time; a network file system answers several as fast as one."""


def annotation_digests(videos: Iterable[Video], *, actions: bool) -> dict[str, str]:
    """Return a digest of every video's annotations by its id: duration, frame rate, and its ``actions`` if wanted."""
    return {
        video.id: digest(
            [
                video.duration_s,
                video.fps,
                [[action.start_s, action.end_s, action.label] for action in video.actions] if actions else None,
            ]
        )
        for video in videos
    }


def input_digests(data: DataConfig, ids: Iterable[str]) -> dict[str, str]:
    """Return a digest of every video's features, or of its file, by its id.

    What is not there, or cannot be read, is left out: whoever needs it says so better.
    """
    wanted = list(ids)
    try:
        if data.input == "frames":
            folder = data.path(data.folder)
            found = {video_id: find_video(folder, data.pattern, video_id) for video_id in wanted}
            return _of_files({video_id: path for video_id, path in found.items() if path}, WHOLE_FILE_BYTES)
        return dict(_of_features(FeatureStore(data), wanted))
    except (UserError, OSError, zipfile.BadZipFile):
        return {}


def _of_features(store: FeatureStore, ids: list[str]) -> Iterator[tuple[str, str]]:
    if not store.is_container:
        files = {video_id: Path(store.location(video_id)) for video_id in ids}
        yield from _of_files({key: path for key, path in files.items() if path.is_file()}, WHOLE_ARRAY_BYTES).items()
        return
    names = {video_id: store.name_of(video_id) for video_id in ids}
    if store.place.suffix.lower() == ".npz":
        # An npz file is a zip archive, which has a checksum of every array.
        with zipfile.ZipFile(store.place) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        for video_id, name in names.items():
            if name in members:
                yield video_id, digest([members[name].CRC, members[name].file_size])
        return
    with store.opened() as arrays:
        for video_id, name in progress(names.items(), "look", len(names), "array"):
            if name in arrays:
                yield video_id, _array_digest(arrays[name])


def _array_digest(array: Any) -> str:
    size = int(np.prod(array.shape)) * array.dtype.itemsize
    hashed = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    if size <= WHOLE_ARRAY_BYTES:
        hashed.update(np.ascontiguousarray(array[...]).tobytes())
    else:
        rows = max(1, PIECE_BYTES * array.shape[0] // size)
        for first in (0, (array.shape[0] - rows) // 2, array.shape[0] - rows):
            hashed.update(np.ascontiguousarray(array[first : first + rows]).tobytes())
    return hashed.hexdigest()[:DIGITS]


def _of_files(paths: Mapping[str, Path], whole_bytes: int) -> dict[str, str]:
    with ThreadPoolExecutor(READERS) as pool:
        digests = pool.map(lambda path: _readable_digest(path, whole_bytes), paths.values())
        bar = progress(zip(paths, digests, strict=True), "look", len(paths), "file")
        return {name: found for name, found in bar if found is not None}


def _readable_digest(path: Path, whole_bytes: int) -> str | None:
    try:
        return file_digest(path, whole_bytes)
    except OSError:
        return None
