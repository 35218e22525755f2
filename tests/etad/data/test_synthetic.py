"""The synthetic videos keep their promise: motion tells the class, single frames tell nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

from bench.cli.synth import synth
from etad.data.synthetic import DIRECTIONS, Action, SyntheticSpec, plan_video, render_video, write_dataset
from etad.errors import ConfigError, DataError, UserError

SMALL = SyntheticSpec(videos=3, size=32, fps=5, seconds=(8.0, 10.0), action_seconds=(2.0, 3.0), gap_seconds=0.6)
BACKGROUND = "background"


def decode(path: Path) -> NDArray[np.uint8]:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def frame_labels(frames: int, actions: tuple[Action, ...]) -> NDArray[np.str_]:
    labels = np.full(frames, BACKGROUND, dtype="U10")
    for action in actions:
        labels[action.start : action.end] = action.label
    return labels


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[NDArray[np.float32], NDArray[np.str_]]]:
    """Grey frames ``[F, H, W]`` as a reader of the default set gets them, and their labels; a video each."""
    spec = SyntheticSpec(videos=12)
    target = tmp_path_factory.mktemp("synthetic")
    write_dataset(target, spec, workers=1)
    videos = []
    for number in range(spec.videos):
        grey = decode(target / "videos" / f"{spec.video_id(number)}.mp4")[..., 0].astype(np.float32)
        videos.append((grey, frame_labels(*plan_video(spec, number))))
    return videos


def test_rendering_repeats_to_the_byte() -> None:
    first, actions = render_video(SMALL, 1)
    second, same_actions = render_video(SMALL, 1)
    assert first.dtype == np.uint8
    assert first.shape[1:] == (32, 32, 3)
    assert np.array_equal(first, second)
    assert actions == same_actions
    assert not np.array_equal(first[:40], render_video(SMALL, 2)[0][:40])


def test_a_video_does_not_depend_on_how_many_there_are() -> None:
    many = SyntheticSpec(**{**vars(SMALL), "videos": 9})
    assert np.array_equal(render_video(SMALL, 2)[0], render_video(many, 2)[0])


def test_actions_keep_their_distance_and_length() -> None:
    spec = SyntheticSpec()
    counts, labels = set(), set()
    for number in range(200):
        frames, actions = plan_video(spec, number)
        assert 300 <= frames <= 450
        counts.add(len(actions))
        edges = [0, *(edge for action in actions for edge in (action.start, action.end)), frames]
        assert min(after - before for before, after in zip(edges[::2], edges[1::2], strict=True)) >= spec.fps
        for action in actions:
            assert 30 <= action.end - action.start <= 120
            labels.add(action.label)
    assert counts == {2, 3, 4}
    assert labels == set(DIRECTIONS)


def test_single_class_videos() -> None:
    spec = SyntheticSpec(single_class=1.0)
    assert all(len({action.label for action in plan_video(spec, number)[1]}) == 1 for number in range(50))


def test_dataset_on_disk(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "set", SMALL, workers=2)
    database = json.loads(path.read_text())["database"]
    assert list(database) == ["synth_0000", "synth_0001", "synth_0002"]
    assert [video["subset"] for video in database.values()] == ["training", "training", "validation"]
    for number, (name, video) in enumerate(database.items()):
        frames, actions = render_video(SMALL, number)
        with av.open(path.parent / "videos" / f"{name}.mp4") as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.pix_fmt == "yuv420p"
            assert stream.average_rate == 5
            assert container.duration is not None
            assert container.duration / 1e6 == pytest.approx(video["duration"])
        back = decode(path.parent / "videos" / f"{name}.mp4")
        assert back.shape == frames.shape
        assert np.abs(back.astype(int) - frames).mean() < 3
        segments = [(round(start * 5), round(end * 5)) for start, end in (a["segment"] for a in video["annotations"])]
        assert segments == [(action.start, action.end) for action in actions]


def test_resume_keeps_what_is_finished_and_replaces_what_is_not(tmp_path: Path) -> None:
    write_dataset(tmp_path, SMALL, workers=1)
    kept, torn, lost = (tmp_path / "videos" / f"synth_{number:04d}.mp4" for number in range(3))
    whole = torn.read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    lost.unlink()
    before = kept.stat().st_mtime_ns
    write_dataset(tmp_path, SMALL, workers=1)
    assert kept.stat().st_mtime_ns == before
    assert torn.read_bytes() == whole
    assert lost.exists()
    write_dataset(tmp_path, SyntheticSpec(**{**vars(SMALL), "seed": 1}), workers=1)
    assert kept.stat().st_mtime_ns > before


def test_the_default_set_is_small(tmp_path: Path) -> None:
    write_dataset(tmp_path, SyntheticSpec(videos=3), workers=1)
    assert max(path.stat().st_size for path in (tmp_path / "videos").iterdir()) < 800_000


def single_frame_statistics(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Moments, sharpness by direction, the power spectrum's low part, and blockiness: ``[F, features]``."""
    spectrum = np.log(np.abs(np.fft.rfft2(frames - frames.mean((1, 2), keepdims=True)))[:, :12, :12] + 1)
    across, down = np.diff(frames, axis=2), np.diff(frames, axis=1)
    moments = [
        frames.mean((1, 2)),
        frames.std((1, 2)),
        (frames**3).mean((1, 2)),
        frames.min((1, 2)),
        frames.max((1, 2)),
    ]
    edges = [(d**2).mean((1, 2)) for d in (across, down, across[:, :, 7::8], down[:, 7::8])]
    coarse = frames.reshape(len(frames), 6, 8, 6, 8).mean((2, 4))
    parts = [np.stack(moments + edges, 1), spectrum.reshape(len(frames), -1), coarse.reshape(len(frames), -1)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def motion(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlation of a clip's frames with the one two later, shifted along each direction: ``[directions]``."""
    centred = frames - frames.mean((1, 2), keepdims=True)
    shift = round(2 * SyntheticSpec().speed)
    scores = []
    for x, y in DIRECTIONS.values():
        moved = np.roll(centred[:-2], (int(y) * shift, int(x) * shift), axis=(1, 2))
        scores.append((moved * centred[2:]).mean() / (centred**2).mean())
    return np.array(scores, np.float32)


def held_out_accuracy(
    features: list[NDArray[np.float32]], labels: list[NDArray[Any]], fit: Callable[..., torch.nn.Linear]
) -> float:
    """Balanced accuracy on the last third of the videos of a classifier fitted on the others; chance is 1 / classes."""
    cut = 2 * len(features) // 3
    names, codes = np.unique(np.concatenate(labels), return_inverse=True)
    border = sum(map(len, labels[:cut]))
    x, y = torch.from_numpy(np.concatenate(features)), torch.from_numpy(codes)
    x = (x - x[:border].mean(0)) / (x[:border].std(0) + 1e-6)
    guess = fit(x[:border], y[:border], len(names))(x[border:]).argmax(1)
    hits = [(guess[y[border:] == code] == code).float().mean().item() for code in range(len(names))]
    return float(np.mean(hits))


def logistic(x: torch.Tensor, y: torch.Tensor, classes: int) -> torch.nn.Linear:
    torch.manual_seed(0)
    layer = torch.nn.Linear(x.shape[1], classes)
    weight = 1 / torch.bincount(y, minlength=classes)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(layer(x), y, weight) + 1e-3 * (layer.weight**2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return layer


Decoded = list[tuple[NDArray[np.float32], NDArray[np.str_]]]


@pytest.mark.parametrize("question", ["class", "inside an action", "at a boundary"])
def test_single_frames_say_nothing(decoded: Decoded, question: str) -> None:
    features, labels = [], []
    for grey, names in decoded:
        frames, answer = single_frame_statistics(grey), names
        if question == "inside an action":
            answer = np.where(names == BACKGROUND, "no", "yes")
        elif question == "at a boundary":
            change = np.flatnonzero(names[1:] != names[:-1]) + 1
            answer = np.where(np.abs(np.arange(len(names))[:, None] - change).min(1) < 3, "yes", "no")
        # Neighbours share their dots: every fifth frame is sample enough.
        features.append(frames[::5] if question != "at a boundary" else frames)
        labels.append(answer[::5] if question != "at a boundary" else answer)
    chance = 1 / len(np.unique(np.concatenate(labels)))
    assert held_out_accuracy(features, labels, logistic) == pytest.approx(chance, abs=0.07)


def test_motion_says_everything(decoded: Decoded) -> None:
    features, labels = [], []
    for grey, names in decoded:
        starts = [s for s in range(0, len(names) - 8, 4) if len(set(names[s : s + 8])) == 1]
        features.append(np.stack([motion(grey[s : s + 8]) for s in starts]))
        labels.append(names[starts])
    assert held_out_accuracy(features, labels, logistic) > 0.97


def test_frames_decode_alone(tmp_path: Path) -> None:
    """Every frame is a key frame at one quantiser, so that compression cannot carry motion into a single frame."""
    write_dataset(tmp_path, SMALL, workers=1)
    with av.open(tmp_path / "videos" / "synth_0000.mp4") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert packets
    assert all(packet.is_keyframe for packet in packets)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": 47}, "size"),
        ({"videos": 2}, "videos"),
        ({"fps": 0}, "fps"),
        ({"classes": ("left", "sideways")}, "sideways"),
        ({"classes": ("left", "left")}, "classes"),
        ({"single_class": 1.5}, "single_class"),
        ({"seconds": (30.0, 20.0)}, "seconds"),
        ({"action_seconds": (2.0, 25.0)}, "action_seconds"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        SyntheticSpec(**change)


def test_target_that_is_a_file(tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.touch()
    with pytest.raises(DataError, match="occupied"):
        write_dataset(occupied, SMALL, workers=1)


def test_command(tmp_path: Path) -> None:
    options = ["--videos", "3", "--size", "16", "--fps", "5", "--classes", "up, down", "--workers", "1"]
    result = CliRunner().invoke(synth, [str(tmp_path), *options])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / "annotations.json")
    assert "2 for training, 1 for validation" in result.stderr
    database = json.loads((tmp_path / "annotations.json").read_text())["database"]
    assert {a["label"] for video in database.values() for a in video["annotations"]} <= {"up", "down"}
    with pytest.raises(UserError, match="size"):
        CliRunner().invoke(synth, [str(tmp_path), "--size", "15"], catch_exceptions=False)
