"""Post-processing of many videos at once gives what the reference gives for each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from etad import infer
from etad.config import PostprocessConfig
from etad.detections import batched_postprocess
from etad.detections.batched_postprocess import RawTensors, batched_detections
from etad.detections.detections import Detections, RawDetections
from etad.detections.postprocess import to_detections
from etad.errors import DataError
from tests.etad.raw_outputs import scores_of, view
from tests.paths import FIXTURES

REFERENCE = FIXTURES / "postprocess.npz"
CPU = torch.device("cpu")
PROPOSALS, POSITIONS = 60, 12
Videos = dict[str, list[RawDetections]]


def random_view(random: np.random.Generator, start_s: float) -> RawDetections:
    """Proposals in and around a view, some of them turned round."""
    return view(
        random.uniform(-0.2, 1.2, (PROPOSALS, 2)),
        random.random(PROPOSALS),
        start=random.random(POSITIONS, dtype=np.float32),
        end=random.random(POSITIONS, dtype=np.float32),
        snippet_classes=random.dirichlet(np.ones(5), size=POSITIONS).astype(np.float32),
        start_s=start_s,
    )


def both_forms(
    videos: Videos, config: PostprocessConfig, *class_scores: float
) -> tuple[dict[str, Detections], dict[str, Detections]]:
    scores = scores_of(*class_scores, videos=tuple(videos)) if class_scores else None
    durations_s = dict.fromkeys(videos, 18.0)
    on_device = {video_id: [RawTensors.on_device(one, CPU) for one in views] for video_id, views in videos.items()}
    expected = {video_id: to_detections(video_id, views, 18.0, config, scores) for video_id, views in videos.items()}
    return batched_detections(on_device, durations_s, config, scores), expected


def assert_same(found: dict[str, Detections], expected: dict[str, Detections]) -> None:
    assert list(found) == list(expected)
    for video_id, one in expected.items():
        same = found[video_id]
        assert same.labels.tolist() == one.labels.tolist()
        assert same.segments_s.tolist() == one.segments_s.tolist()
        assert (same.segments_s.dtype, same.scores.dtype, same.labels.dtype) == (float, float, np.int64)
        np.testing.assert_allclose(same.scores, one.scores, rtol=1e-12)


@pytest.mark.parametrize("classes", ["external", "agnostic"])
@pytest.mark.parametrize("windows", ["together", "each"])
@pytest.mark.parametrize("voting_tiou", [None, 0.5, 0.95])
def test_voting_and_windows_are_those_of_the_reference(classes: str, windows: str, voting_tiou: float | None) -> None:
    random = np.random.default_rng(1)
    videos = {f"video{count}": [random_view(random, 4.0 * number) for number in range(count)] for count in (2, 1, 3)}
    videos["unseen"] = []
    settings = {"classes": classes, "windows": windows, "voting_tiou": voting_tiou, "min_score": 1e-4}
    config = PostprocessConfig.model_validate(settings | {"max_segments": 30, "boundary_filter": False})
    found, expected = both_forms(videos, config, 0.1, 0.5, 0.0, 0.2)
    for video_id, one in expected.items():
        assert found[video_id].labels.tolist() == one.labels.tolist()
        np.testing.assert_allclose(found[video_id].segments_s, one.segments_s, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found[video_id].scores, one.scores, rtol=1e-12)
        most = {"each": 30, "together": 30 * (2 if classes == "external" else 1)}[windows]
        assert len(one) == (most if videos[video_id] else 0)


@pytest.mark.parametrize("classes", ["external", "snippet", "agnostic"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"boundary_filter": False, "max_segments": 20},
        {"min_score": 0.05, "classes_per_segment": 3},
        {"boundary_filter": False, "soft_nms_sigma": 1e-4},
    ],
    ids=["published", "unfiltered", "least-score", "sharp"],
)
def test_the_detections_are_those_of_the_reference(classes: str, settings: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    # As many windows as a video needs; they overlap.
    videos = {f"video{count}": [random_view(random, 4.0 * number) for number in range(count)] for count in (2, 1, 3)}
    config = PostprocessConfig.model_validate({"classes": classes, **settings})
    found, expected = both_forms(videos, config, 0.1, 0.5, 0.0, 0.2)
    assert_same(found, expected)
    assert all(map(len, expected.values()))


def test_published_detections_are_reproduced() -> None:
    with np.load(REFERENCE) as arrays:
        reference = {
            f"video{number}": {
                name.partition(".")[2]: arrays[name] for name in arrays.files if name.startswith(f"video{number}.")
            }
            for number in range(6)
        }
    raw, durations_s = {}, {}
    for video_id, of_video in reference.items():
        durations_s[video_id] = float(of_video["duration"])
        iou = of_video["raw_iou"]
        one = view(
            of_video["raw_anchors"],
            iou[:, 0] * iou[:, 1],
            start=of_video["raw_start"],
            end=of_video["raw_end"],
            duration_s=durations_s[video_id],
        )
        raw[video_id] = [RawTensors.on_device(one, CPU)]
    found = batched_detections(raw, durations_s, PostprocessConfig(classes="agnostic"))
    for video_id, of_video in reference.items():
        # Each segment is there once for each of its two classes.
        np.testing.assert_allclose(found[video_id].segments_s, of_video["segments"][::2], rtol=0, atol=1e-6)
        scores = of_video["scores"][::2] / of_video["class_scores"].max()
        np.testing.assert_allclose(found[video_id].scores, scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize("classes", ["external", "snippet", "agnostic"])
def test_videos_without_surviving_proposals_have_no_detections(classes: str) -> None:
    probabilities = {"snippet_classes": np.full((8, 2), 0.5, dtype=np.float32)}
    first = np.eye(8, dtype=np.float32)[0]
    videos = {
        "silent": [view([[0.5, 0.7]], [0.9], start=first, end=first, **probabilities)],
        "unseen": [],
        "plain": [view([[0.5, 0.7]], [0.9], **probabilities)],
    }
    config = PostprocessConfig.model_validate({"classes": classes})
    found, expected = both_forms(videos, config, 0.5, 0.5)
    assert_same(found, expected)
    assert [len(one) > 0 for one in found.values()] == [False, False, True]
    assert batched_detections({}, {}, config) == {}
    assert len(batched_detections({"unseen": []}, {"unseen": 1.0}, config)["unseen"]) == 0


def test_equal_scores_are_kept_in_the_order_of_the_proposals() -> None:
    apart = [[0.5, 0.6], [0.1, 0.2], [0.3, 0.4], [0.7, 0.8]]
    found, expected = both_forms({"a": [view(apart, [0.5, 0.7, 0.7, 0.5])]}, PostprocessConfig(classes="agnostic"))
    assert_same(found, expected)
    np.testing.assert_allclose(found["a"].segments_s[:, 0], [1, 3, 5, 7], rtol=1e-6)


@pytest.mark.parametrize("output", ["segments", "scores", "start", "end", "snippet_classes"])
def test_a_diverged_network_is_an_error(output: str) -> None:
    random = np.random.default_rng(0)
    videos = {name: [random_view(random, 0.0), random_view(random, 5.0)] for name in ("first", "second")}
    getattr(videos["second"][1], output)[-1] = np.inf
    on_device = {name: [RawTensors.on_device(one, CPU) for one in views] for name, views in videos.items()}
    with pytest.raises(DataError, match="second: the network returned NaN or infinity"):
        batched_detections(on_device, dict.fromkeys(videos, 15.0), PostprocessConfig(classes="agnostic"))


def test_missing_class_scores_are_named() -> None:
    raw = {"b": [RawTensors.on_device(view([[0.1, 0.4]], [0.9]), CPU)]}
    for classes in ("external", "snippet"):
        with pytest.raises(ValueError, match="class"):
            batched_detections(raw, {"b": 10.0}, PostprocessConfig.model_validate({"classes": classes}))
    with pytest.raises(DataError, match=r"scores\.json: has no scores for video b"):
        batched_detections(raw, {"b": 10.0}, PostprocessConfig(), scores_of(0.5))


@pytest.fixture
def gpu() -> Iterator[FakeTensorMode]:
    """Tensors that claim to lie on a GPU and have no values; what mixes devices is an error."""
    with FakeTensorMode() as mode:
        yield mode


def gpu_views(count: int) -> list[RawTensors]:
    shapes = ((PROPOSALS, 2), (PROPOSALS,), (POSITIONS,), (POSITIONS,), (POSITIONS, 5))
    return [RawTensors(*(torch.empty(shape, device="cuda") for shape in shapes), 0.0, 10.0) for _ in range(count)]


@pytest.mark.parametrize("classes", ["external", "snippet"])
def test_all_of_it_runs_on_the_gpu(classes: str, gpu: FakeTensorMode, monkeypatch: pytest.MonkeyPatch) -> None:
    # It reads values.
    monkeypatch.setattr(batched_postprocess, "_check_finite", lambda *_: None)
    config = PostprocessConfig.model_validate({"classes": classes, "max_segments": 3})
    kept = batched_postprocess._kept([("a", gpu_views(2)), ("b", gpu_views(1))], config)
    assert kept.device.type == "cuda"
    assert kept.shape == (2, 6 if classes == "snippet" else 3, 4)
    assert kept.dtype == torch.float64


def test_what_lies_on_a_gpu_is_post_processed_there(gpu: FakeTensorMode, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[list[str]] = []
    monkeypatch.setattr(infer, "batched_detections", lambda videos, *_: taken.append(list(videos)) or {})
    config = PostprocessConfig(classes="agnostic")
    infer.postprocess({"a": gpu_views(2), "b": gpu_views(1)}, {"a": 10.0, "b": 10.0}, config)
    assert taken == [["a", "b"]]


def test_what_lies_on_the_host_is_post_processed_by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "batched_detections", lambda *_: pytest.fail("it is slower there"))
    on_cpu = {"a": [RawTensors.on_device(view([[0.1, 0.4]], [0.9]), CPU)]}
    assert len(infer.postprocess(on_cpu, {"a": 10.0}, PostprocessConfig(classes="agnostic"))["a"]) == 1
