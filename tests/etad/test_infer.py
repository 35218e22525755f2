"""Inference: the published route from features to detections, windows of a video joined, plain videos listed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from etad import infer as infer_module
from etad.config import Config, load_config
from etad.data import dataset as data
from etad.detections.batched_postprocess import batched_detections
from etad.detections.detection_log import DetectionLog
from etad.detections.detections import Detections
from etad.distributed import World
from etad.errors import ConfigError
from etad.infer import PlainVideos, infer
from etad.models.etad import Etad
from tests.etad.make_videos import write_sound, write_video
from tests.etad.small_runs import write_small_set

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_config(write_small_set(tmp_path_factory.mktemp("set")))


def model_of(config: Config) -> Etad:
    torch.manual_seed(0)
    return Etad(config, classes=2)


def test_every_test_video_gets_detections_of_known_classes(config: Config) -> None:
    videos = data.evaluation_dataset(config)
    found = infer(model_of(config), videos, config, ALONE)
    assert list(found) == [video.id for video in videos.videos]
    for detections in found.values():
        assert 0 < len(detections) <= config.postprocess.max_segments * config.postprocess.classes_per_segment
        assert (detections.segments_s >= 0).all()
        assert (detections.segments_s <= 10.0).all()
        assert set(detections.labels.tolist()) <= {0, 1}


def test_the_batch_does_not_change_the_detections(config: Config) -> None:
    model = model_of(config)
    results = []
    for batch in (1, 4):
        other = config.model_copy(update={"train": config.train.model_copy(update={"batch": batch})})
        results.append(infer(model, data.evaluation_dataset(other), other, ALONE))
    for video_id, first in results[0].items():
        second = results[1][video_id]
        assert first.labels.tolist() == second.labels.tolist()
        assert abs(first.segments_s - second.segments_s).max() < 1e-3


def assert_same(first: dict[str, Detections], second: dict[str, Detections]) -> None:
    assert list(first) == list(second)
    for video_id, one in first.items():
        for name in ("segments_s", "scores", "labels"):
            assert getattr(one, name).tolist() == getattr(second[video_id], name).tolist()


def test_an_interrupted_inference_goes_on(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single = config.model_copy(update={"train": config.train.model_copy(update={"batch": 1})})
    model, videos, path = model_of(single), data.evaluation_dataset(single), tmp_path / "detections.jsonl"
    whole = infer(model, videos, single, ALONE)

    add, taken = DetectionLog.add, list[str]()

    def stop_after_three(log: DetectionLog, video_id: str, detections: Detections) -> None:
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(video_id)
        add(log, video_id, detections)

    monkeypatch.setattr(DetectionLog, "add", stop_after_three)
    with pytest.raises(KeyboardInterrupt), DetectionLog(path, {"weights": "these"}) as log:
        infer(model, videos, single, ALONE, log=log)
    monkeypatch.setattr(DetectionLog, "add", lambda log, *one: (taken.append(one[0]), add(log, *one)))
    # As a killed process leaves it.
    path.write_bytes(path.read_bytes() + b'{"id": "vid')

    with DetectionLog(path, {"weights": "these"}) as log:
        assert list(log.found) == taken
        before_s = log.spent_s
        assert_same(infer(model, videos, single, ALONE, log=log), whole)
        assert log.spent_s > before_s > 0
    assert taken == list(whole), "a video was detected twice, or not at all"

    with DetectionLog(path, {"weights": "these"}) as log:
        assert_same(log.found, whole)
    with DetectionLog(path, {"weights": "others"}) as log:
        assert not log.found


def test_windows_of_a_video_are_joined(config: Config) -> None:
    raw = config.resolved()
    raw["data"]["window"] = {"overlap": 0.5}
    windowed = Config.model_validate(raw)
    videos = data.evaluation_dataset(windowed)
    assert len(videos) > len(videos.videos)
    found = infer(model_of(windowed), videos, windowed, ALONE)
    assert list(found) == [video.id for video in videos.videos]
    # Something is found in the second window too, in the video's own seconds.
    assert any(detections.segments_s.max() > 9.0 for detections in found.values())


def test_videos_are_post_processed_together_once_they_are_complete(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = config.resolved()
    raw["data"]["window"] = {"overlap": 0.5}
    # A video has two or three windows, so that some begin in one batch and end in the next.
    raw["train"]["batch"] = 4
    windowed = Config.model_validate(raw)
    videos, model = data.evaluation_dataset(windowed), model_of(windowed)
    expected = infer(model, videos, windowed, ALONE)
    groups: list[list[str]] = []

    def on_the_device(waiting: Any, *others: Any) -> dict[str, Detections]:
        groups.append(list(waiting))
        return batched_detections(waiting, *others)

    monkeypatch.setattr(infer_module, "postprocess", on_the_device)
    found = infer(model, videos, windowed, ALONE)
    assert [video_id for group in groups for video_id in group] == list(found) == list(expected)
    assert len(groups) == -(-len(videos) // 4)
    assert any(len(group) > 1 for group in groups)
    for video_id, one in expected.items():
        assert found[video_id].labels.tolist() == one.labels.tolist()
        assert found[video_id].segments_s.tolist() == one.segments_s.tolist()
        assert abs(found[video_id].scores - one.scores).max() < 1e-12


def test_two_processes_share_the_videos(config: Config) -> None:
    model, videos = model_of(config), data.evaluation_dataset(config)
    alone = infer(model, videos, config, ALONE)

    class HalfWorld(World):
        """One of two processes, whose partner's result is known."""

        def gather(self, value: dict[str, object]) -> list[dict[str, object]]:
            assert len(value) == len(alone) // 2
            rest = {video_id: found for video_id, found in alone.items() if video_id not in value}
            return [value, rest]

    shared = infer(model, videos, config, HalfWorld(1, 2, torch.device("cpu")))
    assert list(shared) == list(alone)


FRAMES = """
data: {input: frames, length: 4, frames: {clip_frames: 4, crop: 16, resize_height: 16, resize_width: 16}}
model: {encoder: {name: tiny, frozen_stages: 0}}
postprocess: {classes: agnostic}
"""


def test_plain_videos_are_detected_and_unreadable_ones_listed(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(FRAMES)
    config = load_config(tmp_path / "config.yaml")
    good = write_video(tmp_path / "good.mp4", 12)
    same_stem = write_video(tmp_path / "good.mkv", 12)
    sound = write_sound(tmp_path / "sound.mp4")
    (tmp_path / "empty.mp4").touch()
    videos = PlainVideos([good, same_stem, sound, tmp_path / "empty.mp4"], config)
    assert [video.id for video in videos.videos] == ["good", "good.mkv"]
    assert list(videos.unreadable) == [str(sound), str(tmp_path / "empty.mp4")]
    found = infer(model_of(config), videos, config, ALONE)
    assert all(len(detections) for detections in found.values())


def test_a_feature_model_refuses_videos(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reads features, not videos"):
        PlainVideos([tmp_path / "a.mp4"], config)
