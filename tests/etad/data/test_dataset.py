"""Views, samples, faults that surface while reading, and the order of training."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etad.config import Config, parse_config
from etad.data import transforms, video_files, videos
from etad.data.annotations import Action
from etad.data.dataset import VideoDataset, epoch_batches, evaluation_dataset, load, train_dataset
from etad.data.features import resize_features
from etad.data.windows import actions_in_view, cut, targets, windows
from etad.errors import ConfigError, DataError, NothingToDoError
from tests.paths import SHARED

REAL = SHARED / "data"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="shared data absent")


def actions(*triples: tuple[float, float, str]) -> list[dict[str, Any]]:
    return [{"segment": [start, end], "label": label} for start, end, label in triples]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with annotations and features of some videos of 20 s, 40 steps each, 3 channels."""
    database: dict[str, dict[str, Any]] = {
        "a": {"subset": "training", "annotations": actions((2, 6, "run"), (15, 25, "jump"))},
        "b": {"subset": "training", "annotations": actions((0, 20, "run"))},
        "brief": {"subset": "training", "annotations": actions((1, 1.2, "run"), (19.9, 30, "run"))},
        "c": {"subset": "validation", "annotations": actions((0, 4, "swim"), (3, 3, "run"))},
        "d": {"subset": "validation", "annotations": []},
    }
    (tmp_path / "features").mkdir()
    for number, (video_id, entry) in enumerate(database.items()):
        entry |= {"duration": 20.0, "fps": 16.0}
        features = np.random.default_rng(number).standard_normal((40, 3)).astype(np.float32)
        np.save(tmp_path / "features" / f"{video_id}.npy", features)
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}))
    return tmp_path


def config(root: Path, **data: Any) -> Config:
    tree = {"name": "test", "data": {"root": str(root), "channels": 3, "length": 16} | data}
    return parse_config(tree, source="test")


# Windows and views


@given(st.integers(1, 2000), st.integers(1, 200), st.floats(0, 0.99))
def test_windows_cover_every_step_and_stay_inside(steps: int, length: int, overlap: float) -> None:
    starts = windows(steps, length, overlap)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    if steps <= length:
        assert starts == [0]
    else:
        assert starts[-1] + length == steps
        assert all(later - earlier <= length for earlier, later in itertools.pairwise(starts))


def test_windows_by_hand() -> None:
    assert windows(300, 128, 0.5) == [0, 64, 128, 172]
    assert windows(256, 128, 0.5) == [0, 64, 128]
    assert windows(129, 128, 0.5) == [0, 1]
    assert windows(4, 2, 0.99) == [0, 1, 2]


def test_a_short_video_is_padded_with_zeros() -> None:
    features = torch.ones(3, 5)
    assert torch.equal(cut(features, 8), torch.cat([torch.ones(3, 5), torch.zeros(3, 3)], dim=1))
    assert torch.equal(cut(features, 4), torch.ones(3, 4))


def test_an_action_counts_when_enough_of_it_lies_inside() -> None:
    listed = [Action(0, 10, "most"), Action(18, 22, "half"), Action(30, 40, "outside"), Action(12, 12, "none")]
    view = actions_in_view(listed, start_s=2, duration_s=18, min_inside=0.75)
    assert view == [Action(0, 8 / 18, "most")]
    assert [action.label for action in actions_in_view(listed, 2, 18)] == ["most", "half"]


coordinates = st.floats(0, 100)


@given(st.lists(st.tuples(coordinates, coordinates)), coordinates, st.floats(0.01, 100), st.floats(0, 1))
def test_actions_of_a_view_are_normalised(
    pairs: list[tuple[float, float]], start_s: float, duration_s: float, min_inside: float
) -> None:
    found = actions_in_view([Action(min(pair), max(pair), "run") for pair in pairs], start_s, duration_s, min_inside)
    segments, labels = targets(found, ["run"])
    assert segments.shape == (len(found), 2)
    assert labels.shape == (len(found),)
    assert ((segments >= 0) & (segments <= 1)).all()
    assert (segments[:, 0] <= segments[:, 1]).all()


# Feature samples


def test_training_samples_are_whole_resized_videos(root: Path) -> None:
    dataset = train_dataset(config(root))
    assert [video.id for video in dataset.videos] == ["a", "b"]
    assert dataset.classes == ("jump", "run"), "what only the test set has is not trained for"
    assert "1 training videos have no action longer than 0.01 of them: left out" in dataset.problems
    assert dataset.missing == []
    assert len(dataset) == 2
    sample = dataset[0]
    raw = torch.from_numpy(np.load(root / "features" / "a.npy")).T
    assert torch.equal(sample.input_, resize_features(raw, 16))
    assert (sample.video_id, sample.index, sample.start_s, sample.duration_s) == ("a", 0, 0.0, 20.0)
    torch.testing.assert_close(sample.segments, torch.tensor([[0.1, 0.3], [0.75, 1.0]]))
    assert sample.labels.tolist() == [1, 0]


def test_test_samples_include_videos_without_actions(root: Path) -> None:
    dataset = evaluation_dataset(config(root))
    assert [video.id for video in dataset.videos] == ["c", "d"]
    assert dataset.classes == train_dataset(config(root)).classes
    assert dataset[0].labels.tolist() == [], "swim is trained for nowhere"
    assert dataset[1].segments.shape == (0, 2)


def test_feature_steps_of_a_known_rate_decide_what_time_they_cover(root: Path) -> None:
    dataset = train_dataset(config(root, stride_frames=4))  # 40 steps of 4 frames at 16 fps
    assert dataset[0].duration_s == 10.0
    torch.testing.assert_close(dataset[0].segments, torch.tensor([[0.2, 0.6]]))


def test_a_cross_validation_fold(root: Path) -> None:
    folds = config(root, folds=["training", "validation"], fold=2)
    assert [video.id for video in train_dataset(folds).videos] == ["a", "b"]
    assert [video.id for video in evaluation_dataset(folds).videos] == ["c", "d"]


@pytest.mark.parametrize("rate", [{"stride_frames": 8}, {"stride_frames": 16, "fps": 32}, {}])
def test_windows_of_a_video(root: Path, rate: dict[str, int]) -> None:
    # 40 steps of half a second; windows of 8 s begin at 0, 4, 8 and 12 s.
    windowed = config(root, window={"overlap": 0.5, "min_action_inside": 0.75}, **rate)
    dataset = train_dataset(windowed)
    assert [(dataset[i].video_id, dataset[i].start_s) for i in range(len(dataset))] == [("a", 0.0), ("a", 12.0)]
    assert [video.id for video in dataset.videos] == ["a", "b"]
    assert "1 training videos have no window with a true action in it: left out" in dataset.problems
    last = dataset[1]
    raw = torch.from_numpy(np.load(root / "features" / "a.npy")).T
    assert torch.equal(last.input_, raw[:, 24:])
    assert last.duration_s == 8.0
    torch.testing.assert_close(last.segments, torch.tensor([[0.375, 1.0]]))
    test = evaluation_dataset(windowed)
    assert [(test[i].video_id, test[i].start_s) for i in range(len(test))] == [
        (video_id, start) for video_id in ("c", "d") for start in (0.0, 4.0, 8.0, 12.0)
    ]


def test_a_window_longer_than_the_video(root: Path) -> None:
    dataset = train_dataset(config(root, window={}, length=64, stride_frames=8))
    assert len(dataset) == 2
    assert dataset[0].input_.shape == (3, 64)
    assert dataset[0].duration_s == 32.0
    assert (dataset[0].input_[:, 40:] == 0).all()


def test_a_stride_without_frame_rate(root: Path) -> None:
    path = root / "annotations.json"
    path.write_text(path.read_text().replace('"fps"', '"rate"'))
    with pytest.raises(ConfigError, match=r"a has no fps: set data\.fps"):
        train_dataset(config(root, window={}, stride_frames=4))


def test_missing_files_are_listed(root: Path) -> None:
    (root / "features" / "a.npy").unlink()
    dataset = train_dataset(config(root))
    assert dataset.missing == ["a"]
    assert [video.id for video in dataset.videos] == ["b"]
    assert [video.id for video in dataset.selected] == ["a", "b", "brief"]
    (root / "features" / "b.npy").unlink()
    with pytest.raises(NothingToDoError, match=r"no sample from the 3 videos of training; 2 have no file .*a\.npy\)"):
        train_dataset(config(root))


@pytest.mark.parametrize("training", [True, False])
def test_a_video_without_a_duration_gives_no_sample(root: Path, training: bool) -> None:
    tree = json.loads((root / "annotations.json").read_text())
    del tree["database"]["a"]["duration"]
    tree["database"]["c"]["duration"] = 0
    (root / "annotations.json").write_text(json.dumps(tree))
    dataset = (train_dataset if training else evaluation_dataset)(config(root, min_action_fraction=0.0))
    assert [video.id for video in dataset.videos] == (["b", "brief"] if training else ["d"])
    assert [video.id for video in dataset.selected] == (["a", "b", "brief"] if training else ["c", "d"])
    assert [line.split(" (")[0] for line in dataset.problems if "duration" in line] == [
        "1 videos have no duration, or one that is not a number",
        "1 videos have a duration of zero or less",
    ]


def test_no_action_is_long_enough(root: Path) -> None:
    with pytest.raises(NothingToDoError, match="3 training videos have no action longer than 1 of them"):
        train_dataset(config(root, min_action_fraction=1.0))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_one_line_whichever_process_reads_it(root: Path, workers: int) -> None:
    dataset = train_dataset(config(root))
    (root / "features" / "b.npy").write_bytes(b"rubbish")
    with pytest.raises(DataError) as error:
        list(load(dataset, [[0, 1]], workers))
    assert str(error.value).startswith(str(root / "features" / "b.npy"))
    assert str(error.value).endswith("; fix this, or list b in data.blocked")
    assert "\n" not in str(error.value)


def test_a_damaged_file_met_while_laying_out_windows(root: Path) -> None:
    (root / "features" / "b.npy").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"b\.npy: cannot be read .*list b in data\.blocked"):
        train_dataset(config(root, window={}))
    assert len(train_dataset(config(root, window={}, blocked=["b"]))) > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_batches(root: Path, workers: int) -> None:
    dataset = train_dataset(config(root))
    batches = list(load(dataset, [[1, 0], [1]], workers))
    assert [batch.video_ids for batch in batches] == [("b", "a"), ("b",)]
    assert batches[0].input_.shape == (2, 3, 16)
    assert torch.equal(batches[0].input_[1], dataset[0].input_)


# Frame samples

FRAMES = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).expand(6, 3, 4, 5)
INDEX = torch.tensor([[0, 1], [2, 3], [4, 5], [1, 0]])


@pytest.fixture
def frames_config(root: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A config of four snippets of two frames, with decoding replaced by six frames that hold their number."""

    def transform(frames: Tensor, _config: object, generator: torch.Generator, training: bool) -> Tensor:
        shift = torch.randint(0, 200, (1,), generator=generator, dtype=torch.uint8) if training else 0
        return frames[..., :3, :3] + shift

    monkeypatch.setattr(
        videos, "read_snippets", lambda path, snippets, frames: videos.Snippets(FRAMES, INDEX[:snippets], 1.0, 12.0)
    )
    monkeypatch.setattr(transforms, "transform", transform)
    for video_id in ("a", "c"):
        (root / "features" / f"{video_id}.mp4").touch()
    return config(root, input="frames", pattern="{id}.mp4", length=4, frames={"clip_frames": 2})


def test_clips_are_gathered_from_distinct_frames(frames_config: Config) -> None:
    dataset = evaluation_dataset(frames_config)
    assert dataset.missing == ["d"]
    sample = dataset[0]
    assert sample.input_.shape == (4, 3, 2, 3, 3)
    assert sample.input_.dtype == torch.uint8
    assert torch.equal(sample.input_[:, 1, :, 2, 0], INDEX.to(torch.uint8))
    # The picture's own time, not the annotated duration of 20 s.
    assert (sample.start_s, sample.duration_s) == (1.0, 12.0)


def test_augmentation_depends_on_seed_epoch_and_video_only(frames_config: Config) -> None:
    def first_pixel(dataset: VideoDataset, epoch: int) -> int:
        dataset.set_epoch(epoch)
        return int(dataset[0].input_[0, 0, 0, 0, 0])

    dataset = train_dataset(frames_config)
    draws = [first_pixel(dataset, epoch) for epoch in range(5)]
    assert len(set(draws)) > 1
    assert [first_pixel(train_dataset(frames_config), epoch) for epoch in range(5)] == draws
    other = frames_config.model_copy(update={"train": frames_config.train.model_copy(update={"seed": 1})})
    assert [first_pixel(train_dataset(other), epoch) for epoch in range(5)] != draws


def test_a_video_is_searched_for_once(root: Path, frames_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    find, searched = video_files.find_video, list[str]()
    monkeypatch.setattr(
        video_files, "find_video", lambda *arguments: searched.append(arguments[-1]) or find(*arguments)
    )
    dataset = evaluation_dataset(frames_config)
    assert dataset.paths == {"c": root / "features" / "c.mp4"}
    for _ in range(2):
        dataset[0]
    assert searched == ["c", "d"]


def test_a_video_that_vanished(root: Path, frames_config: Config) -> None:
    dataset = evaluation_dataset(frames_config)
    (root / "features" / "c.mp4").unlink()
    (root / "features" / "c.npy").unlink()
    with pytest.raises(DataError, match=r"c\.mp4: no such file any more; fix this, or list c in data\.blocked"):
        dataset[0]


# Order


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.integers(0, 4))
def test_processes_together_take_the_steps_of_one(
    count: int, per_process: int, world: int, epoch: int, skip: int
) -> None:
    batch = per_process * world
    single = epoch_batches(count, batch, seed=7, epoch=epoch)
    assert sorted(number for step in single for number in step) == list(range(count))
    assert all(len(step) == batch for step in single[:-1])
    if count < batch and count % world:
        with pytest.raises(NothingToDoError):
            epoch_batches(count, batch, 7, epoch, 0, world)
        return
    ranks = [epoch_batches(count, batch, 7, epoch, rank, world, skip) for rank in range(world)]
    together = [[number for part in parts for number in part] for parts in zip(*ranks, strict=True)]
    kept = single if len(single[-1]) % world == 0 else single[:-1]
    assert together == kept[skip:]
    assert all(len({len(part) for part in parts}) == 1 for parts in zip(*ranks, strict=True))


def test_the_order_is_seeded_and_changes_with_the_epoch() -> None:
    orders = [epoch_batches(50, 50, seed, epoch)[0] for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != orders[0]


def test_faulty_splits() -> None:
    with pytest.raises(ConfigError, match=r"train\.batch is 5, which 2 processes cannot share evenly"):
        epoch_batches(10, 5, 0, 0, 0, 2)
    with pytest.raises(NothingToDoError):
        epoch_batches(0, 4, 0, 0)


# Real data


@needs_real_data
@pytest.mark.parametrize("window", [None, {"overlap": 0.5}])
def test_salads50(window: dict[str, float] | None) -> None:
    folds = [f"fold{number}" for number in range(1, 6)]
    salads = config(
        REAL / "salads50",
        folder="features.npz",
        pattern="{id}",
        channels=18,
        length=128,
        folds=folds,
        fold=3,
        window=window,
    )
    train, test = train_dataset(salads), evaluation_dataset(salads)
    assert (len(train.videos), len(test.videos), len(train.classes)) == (40, 10, 17)
    assert {video.subset for video in test.videos} == {"fold3"}
    sample = train[0]
    assert sample.input_.shape == (18, 128)
    assert len(sample.segments) > 0
    assert sample.duration_s == (train.videos[0].duration_s if window is None else 128.0)


@needs_real_data
def test_a_real_video(root: Path) -> None:
    database = {"GGSY1Qvo990": {"subset": "validation", "duration": 30, "annotations": actions((5.82, 16.2, "lift"))}}
    (root / "annotations.json").write_text(json.dumps({"database": database}))
    real = config(
        root, input="frames", folder=str(REAL / "videos"), pattern="v_{id}.mp4", length=2, frames={"clip_frames": 4}
    )
    sample = evaluation_dataset(real)[0]
    assert sample.input_.shape == (2, 3, 4, 112, 112)
    assert sample.input_.float().std() > 1
