"""Feature files: every format, every fault, and parity of the resizing with the published code."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.multiprocessing import get_context

from etad.config import DataConfig
from etad.data.features import FeatureStore, resize_features
from etad.errors import ConfigError, DataError
from tests.paths import FIXTURES, SHARED
from tests.reference_inputs import uniform

REAL = SHARED / "data"
STORED = np.arange(21, dtype=np.float64).reshape(7, 3)  # [T, C]


def write_h5(path: Path, arrays: dict[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def store(root: Path, pattern: str, **changes: Any) -> FeatureStore:
    fields = {"root": root, "folder": ".", "pattern": pattern, "channels": 3} | changes
    return FeatureStore(DataConfig.model_validate(fields))


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        ("npy", lambda path: np.save(path, STORED)),
        ("npz", lambda path: np.savez(path, feats=STORED.astype(np.float16))),
        ("npz", lambda path: np.savez_compressed(path, STORED)),
        ("h5", lambda path: write_h5(path, {"feats": STORED})),
        ("pt", lambda path: torch.save(torch.from_numpy(STORED).bfloat16(), path)),
        ("pt", lambda path: torch.save({"feats": torch.from_numpy(STORED)}, path)),
    ],
)
def test_one_file_a_video(tmp_path: Path, suffix: str, write: Callable[[Path], object]) -> None:
    write(tmp_path / f"v_a.{suffix}")
    features = store(tmp_path, f"v_{{id}}.{suffix}")
    assert features.steps("a") == 7
    found = features.read("a")
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), STORED.T)
    np.testing.assert_array_equal(features.read("a", 2, 5).numpy(), STORED.T[:, 2:5])
    assert features.missing(["a", "b"]) == ["b"]


@pytest.mark.parametrize("folder", ["all.npz", "all.h5"])
def test_one_file_for_all_videos(tmp_path: Path, folder: str) -> None:
    arrays: dict[str, Any] = {"a/rgb": STORED.T, "b/rgb": STORED.T + 1}
    if folder.endswith("npz"):
        np.savez(tmp_path / folder, **arrays)
    else:
        write_h5(tmp_path / folder, arrays)
    features = store(tmp_path, "{id}/rgb", folder=folder, layout="channels_first")
    np.testing.assert_array_equal(features.read("b").numpy(), STORED.T + 1)
    assert features.steps("a") == 7
    assert features.missing(["a", "c", "b"]) == ["c"]
    with pytest.raises(DataError, match=rf"{folder}\[c/rgb\]: no array of that name"):
        features.read("c")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_reading_from_worker_processes(tmp_path: Path, method: str) -> None:
    np.savez(tmp_path / "all.npz", a=STORED)
    features = store(tmp_path, "{id}", folder="all.npz")
    here = features.read("a")  # opens the file in this process before the workers start
    with get_context(method).Pool(1 if method == "spawn" else 2) as pool:  # a spawned one takes seconds to start
        for found in pool.map(features.read, ["a"] * 8):
            assert torch.equal(found, here)


def test_the_store_pickles_after_reading(tmp_path: Path) -> None:
    write_h5(tmp_path / "all.h5", {"a": STORED})
    features = store(tmp_path, "{id}", folder="all.h5")
    features.read("a")
    assert torch.equal(pickle.loads(pickle.dumps(features)).read("a"), features.read("a"))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((7, 3), np.nan), "21 values are NaN or infinite"),
        (np.where(STORED == 4, np.inf, STORED), "1 values are NaN or infinite"),
        (STORED + 1e30, "values exceed 65504"),
        (STORED + 1e300, "21 values are NaN or infinite"),
        (np.zeros((0, 3)), r"empty, shape \[0, 3\]"),
        (np.zeros((7, 4)), r"shape is \[7, 4\], expected \[T, 3\] \(data.channels, data.layout\)$"),
        (np.zeros((3, 7)), r"shape is \[3, 7\], expected \[T, 3\] .*; it fits data.layout channels_first"),
        (np.zeros(3), r"must hold a two-dimensional array, not one of shape \[3\]"),
        (np.zeros((1, 7, 3)), r"must hold a two-dimensional array, not one of shape \[1, 7, 3\]"),
        (np.full((7, 3), "x"), "must hold real numbers, not <U1"),
        (np.full((7, 3), None), "cannot be read as features"),
    ],
)
def test_faulty_arrays(tmp_path: Path, array: NDArray[Any], message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message) as error:
        store(tmp_path, "{id}.npy").read("a")
    assert str(tmp_path / "a.npy") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_transposed_channels_first_array_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STORED)
    with pytest.raises(DataError, match=r"shape is \[7, 3\], expected \[3, T\] .*; it fits data.layout time_first"):
        store(tmp_path, "{id}.npy", layout="channels_first").steps("a")


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5", "pt"])
@pytest.mark.parametrize("content", [b"", b"rubbish that is no array", "cut off"])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes | str) -> None:
    path = tmp_path / f"a.{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        array = np.ones((4000, 3), np.float32)
        write: dict[str, Callable[[], object]] = {
            "npy": lambda: np.save(path, array),
            "npz": lambda: np.savez(path, array),
            "h5": lambda: write_h5(path, {"a": array}),
            "pt": lambda: torch.save(torch.from_numpy(array), path),
        }
        write[suffix]()
        path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"cannot be read as features") as error:
        store(tmp_path, f"{{id}}.{suffix}").read("a")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pt_file_runs_no_code(tmp_path: Path) -> None:
    torch.save({"feats": Path("any object")}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="cannot be read as features"):
        store(tmp_path, "{id}.pt").read("a")


def test_files_that_hold_other_than_one_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", rgb=STORED, flow=STORED)
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"a\.npz: must hold one array, not 2"):
        store(tmp_path, "{id}.npz").read("a")
    with pytest.raises(
        DataError, match=r"a\.pt: cannot be read as features \(holds neither a tensor nor a numpy array\)"
    ):
        store(tmp_path, "{id}.pt").read("a")


def test_places_that_cannot_be_right(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"nowhere: no such folder or file of features"):
        store(tmp_path, "{id}.npy", folder="nowhere")
    with pytest.raises(DataError, match=r"a\.csv: a single file of features must be"):
        store(tmp_path, "{id}.npy", folder="a.csv")
    with pytest.raises(DataError, match=r"a\.csv: features must be"):
        store(tmp_path, "{id}.csv").read("a")
    with pytest.raises(DataError, match=r"b\.npy: no such file"):
        store(tmp_path, "{id}.npy").read("b")
    with pytest.raises(ConfigError, match=r"data\.pattern is 'a\.npy'"):
        store(tmp_path, "a.npy")


@pytest.mark.parametrize("steps", [1, 37, 128, 300, 911])
def test_resizing_matches_the_published_code(steps: int) -> None:
    with np.load(FIXTURES / "feature_resize.npz") as expected:
        resized = resize_features(uniform(f"raw_features.{steps}", (16, steps)), 128)
        np.testing.assert_allclose(resized.numpy(), expected[f"T{steps}"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("steps", [1, 5, 400])
def test_resizing_keeps_a_constant_and_one_step_is_repeated(steps: int) -> None:
    assert torch.equal(resize_features(torch.full((2, steps), 0.5), 16), torch.full((2, 16), 0.5))


@pytest.mark.skipif(not REAL.is_dir(), reason="shared data absent")
def test_real_features() -> None:
    salads = FeatureStore(DataConfig(root=REAL / "salads50", folder=Path("features.npz"), pattern="{id}", channels=18))
    assert salads.read("fold1_video00").shape == (18, 281)
    clips = FeatureStore(DataConfig(root=REAL, pattern="bbformer_{id}.npy", channels=2048))
    assert clips.missing(["highjump", "tennis26", "tennis27"]) == ["tennis27"]
    assert clips.read("highjump").shape[0] == 2048
    vectors = FeatureStore(DataConfig(root=REAL, folder=Path("thumos14/r2plus1d_34-max_gvf.h5"), pattern="{id}"))
    with pytest.raises(DataError, match=r"two-dimensional array, not one of shape \[512\]"):
        vectors.read("video_test_0000004")
