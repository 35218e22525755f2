"""Digests of data: by content alone, and other with every change that counts."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from etad.config import DataConfig
from etad.data.annotations import Action, Video
from etad.data.fingerprint import annotation_digests, input_digests
from etad.digests import PIECE_BYTES, WHOLE_FILE_BYTES, file_digest

ARRAYS = {"a": np.arange(12, dtype=np.float32).reshape(4, 3), "b": np.ones((5, 3), np.float32)}


def write(folder: Path, form: str, arrays: dict[str, np.ndarray]) -> DataConfig:
    folder.mkdir(parents=True, exist_ok=True)
    if form == "npz":
        np.savez(folder / "all.npz", **arrays)
        return DataConfig(root=folder, folder="all.npz", pattern="{id}")
    if form == "h5":
        with h5py.File(folder / "all.h5", "w") as file:
            for name, array in arrays.items():
                file[name] = array
        return DataConfig(root=folder, folder="all.h5", pattern="{id}")
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return DataConfig(root=folder, folder=".", pattern="{id}.npy")


@pytest.mark.parametrize("form", ["npy", "npz", "h5"])
def test_features_are_told_by_their_values(form: str, tmp_path: Path) -> None:
    first = input_digests(write(tmp_path / "one", form, ARRAYS), ["a", "b", "absent"])
    copied = input_digests(write(tmp_path / "two", form, ARRAYS), ["a", "b"])
    changed = {**ARRAYS, "b": np.ones((5, 3), np.float32) * 2}
    other = input_digests(write(tmp_path / "three", form, changed), ["a", "b"])
    assert set(first) == {"a", "b"}
    assert copied == first
    assert (other["a"] == first["a"], other["b"] == first["b"]) == (True, False)


def test_a_file_is_told_by_size_beginning_middle_and_end(tmp_path: Path) -> None:
    content = bytearray(WHOLE_FILE_BYTES + 10 * PIECE_BYTES)
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    seen = {file_digest(path)}
    for place in (0, len(content) // 2, len(content) - 1):
        changed = content.copy()
        changed[place] = 1
        path.write_bytes(changed)
        seen.add(file_digest(path))
    path.write_bytes(content[:-1])
    seen.add(file_digest(path))
    assert len(seen) == 5
    shutil.copyfile(path, tmp_path / "other name.mp4")
    assert file_digest(tmp_path / "other name.mp4") in seen


def test_annotations_of_a_video_count_as_a_whole_or_without_its_actions() -> None:
    video = Video("a", "training", 10.0, 15.0, (Action(1.0, 2.0, "run"),))
    moved = Video("a", "training", 10.0, 15.0, (Action(1.0, 2.5, "run"),))
    longer = Video("a", "training", 11.0, 15.0, (Action(1.0, 2.0, "run"),))
    whole, bare = (
        [annotation_digests([one], actions=actions)["a"] for one in (video, moved, longer)] for actions in (True, False)
    )
    assert len(set(whole)) == 3
    assert (bare[0] == bare[1], bare[0] == bare[2]) == (True, False)
