"""Synthetic features for a real annotation file, so that the feature pipeline runs at a data set's true size.

Segments, classes and durations are real. The feature of a step is the mean of what the step shows: the prototype of
the background, or of the classes of the actions that cover it, plus the prototypes of a start and an end near those;
and noise with a memory, as neighbouring clips of a video resemble each other:

    noise[t] = rho * noise[t - 1] + sqrt(1 - rho^2) * fresh[t],   rho = exp(-step / correlation)

Prototypes are standard normal in every channel; the noise has the standard deviation ``FeatureSpec.noise`` in every
channel. Results on such features say how the pipeline scales, and nothing about the method.
"""

import dataclasses
import hashlib
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etad.config import Config, DataConfig
from etad.data.annotations import Video, load_annotations
from etad.data.synthetic_mark import MARK, read_mark, write_mark
from etad.errors import ConfigError, DataError
from etad.files import replace_atomically, write_json, write_text
from etad.progress import progress
from etad.seeding import stream_seed

FloatArray = NDArray[np.float64]
FeatureArray = NDArray[np.float32]

BOUNDARY_STEPS = 1.5
"""Standard deviation of the bump around a start or an end, in feature steps."""

MAX_NOISE = 1000.0
"""Far below the largest number of half precision."""

_GENERATOR = 1
"""Raise it with every change of what is drawn."""


@dataclass(frozen=True)
class FeatureSpec:
    """What to draw. A video depends on its annotation and on every field but ``videos``: a set can be extended later.

    Attributes:
        seed: of every draw.
        noise: standard deviation of the noise in a channel; a prototype has 1.
        correlation_s: time in which the noise forgets itself, seconds.
        step_s: seconds between feature steps, where ``data.stride_frames`` does not say; 16 frames at 15 per second.
        length: steps of every video; None: as many as fit its duration.
        classifier_top1: part of the test videos whose best class score is that of their longest action's class.
        videos: videos of every subset, spread evenly over it; None: all.

    Raises:
        ConfigError: a value that cannot be drawn.
    """

    seed: int = 2023
    noise: float = 16.0
    correlation_s: float = 4.0
    step_s: float = 16 / 15
    length: int | None = None
    classifier_top1: float = 0.885
    videos: int | None = None

    def __post_init__(self) -> None:
        for name in ("correlation_s", "step_s", "length", "videos"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name}: {value} must be above 0")
        if not 0.0 <= self.noise <= MAX_NOISE:
            raise ConfigError(
                f"noise: {self.noise} must lie in 0..{MAX_NOISE:g}; features are stored in half precision"
            )
        if not 0.0 <= self.classifier_top1 <= 1.0:
            raise ConfigError(f"classifier_top1: {self.classifier_top1} must lie in 0..1")


@dataclass(frozen=True)
class Layout:
    """The steps of a video: ``steps`` of them, ``step_s`` each, the first one beginning at ``start_s``."""

    steps: int
    start_s: float
    step_s: float


@dataclass(frozen=True)
class Prototypes:
    """Features without noise. ``background``, ``start`` and ``end`` are float32 ``[C]``, ``classes`` is ``[K, C]``."""

    background: FeatureArray
    start: FeatureArray
    end: FeatureArray
    classes: FeatureArray


def draw_prototypes(spec: FeatureSpec, classes: int, channels: int) -> Prototypes:
    """Return the prototypes of a set, the same for all its videos."""
    rng = np.random.default_rng(stream_seed(spec.seed, "synthetic features", "prototypes"))
    rows = rng.standard_normal((3 + classes, channels), dtype=np.float32)
    return Prototypes(rows[0], rows[1], rows[2], rows[3:])


def lay_out(video: Video, data: DataConfig, spec: FeatureSpec) -> Layout:
    """Return the steps of a video as the data set will understand them.

    Raises:
        ConfigError: ``data.stride_frames`` comes without a frame rate.
    """
    if data.stride_frames is None:
        steps = spec.length or max(1, round(video.duration_s / spec.step_s))
        return Layout(steps, 0.0, video.duration_s / steps)
    fps = data.fps or video.fps
    if fps is None:
        raise ConfigError(f"data.stride_frames counts frames, but {video.id} has no fps: set data.fps")
    frames = video.duration_s * fps - data.offset_frames
    return Layout(max(1, int(frames / data.stride_frames)), data.offset_frames / fps, data.stride_frames / fps)


def draw_features(
    video: Video, layout: Layout, classes: Sequence[str], prototypes: Prototypes, spec: FeatureSpec
) -> FeatureArray:
    """Return the features of a video, float32 ``[T, C]``."""
    from scipy.signal import lfilter  # slow to import, and a FeatureSpec is made without it

    edges = layout.start_s + layout.step_s * np.arange(layout.steps + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    actions = video.clipped_actions()
    starts = np.array([action.start_s for action in actions])
    ends = np.array([action.end_s for action in actions])
    overlap = np.minimum(edges[1:, None], ends) - np.maximum(edges[:-1, None], starts)
    # Part of every step that every action covers, [T, A].
    covered = np.clip(overlap, 0.0, None) / layout.step_s
    uncovered = np.clip(1.0 - covered.sum(axis=1), 0.0, None)
    width_s = BOUNDARY_STEPS * layout.step_s
    near_start = np.exp(-0.5 * ((middles[:, None] - starts) / width_s) ** 2).sum(axis=1)
    near_end = np.exp(-0.5 * ((middles[:, None] - ends) / width_s) ** 2).sum(axis=1)

    weights = np.column_stack([uncovered, near_start, near_end, covered]).astype(np.float32)
    labels = [classes.index(action.label) for action in actions]
    shown = np.vstack([prototypes.background, prototypes.start, prototypes.end, prototypes.classes[labels]])
    features: FeatureArray = weights @ shown

    rng = np.random.default_rng(stream_seed(spec.seed, "synthetic features", video.id))
    fresh = rng.standard_normal(features.shape, dtype=np.float32)
    memory = math.exp(-layout.step_s / spec.correlation_s)
    # The first step has no past; at full strength it makes the noise as strong there as everywhere.
    fresh[1:] *= math.sqrt(1.0 - memory**2)
    features += spec.noise * lfilter(np.ones(1, np.float32), np.array([1, -memory], np.float32), fresh, axis=0)
    return features


def draw_class_scores(video: Video, classes: Sequence[str], spec: FeatureSpec) -> FloatArray:
    """Return the scores that a video-level classifier would give a video, ``[classes]``, sum 1."""
    rng = np.random.default_rng(stream_seed(spec.seed, "synthetic features", video.id, "classifier"))
    seconds = np.zeros(len(classes))
    for action in video.clipped_actions():
        seconds[classes.index(action.label)] += action.end_s - action.start_s
    right = int(seconds.argmax())
    others = [number for number in range(len(classes)) if number != right]
    best = right if rng.random() < spec.classifier_top1 or not others else int(rng.choice(others))
    scores = rng.exponential(size=len(classes)) ** 2
    certainty = rng.uniform(0.5, 1.0)
    scores[best] = 0.0
    scores *= (1.0 - certainty) / max(float(scores.sum()), np.finfo(np.float64).tiny)
    scores[best] = certainty
    return scores


def write_features(config: Config, annotations: Path, blocked: Path | None, spec: FeatureSpec) -> Path:
    """Write a set into ``config.data.root`` that runs with this config: features, annotations and class scores.

    Files lie where the config looks for them, float16, one a video; the annotations are those of the config's subsets.
    What an earlier call with the same settings finished is kept. The mark of synthetic data goes first, the annotations
    come last. Progress goes to stderr.

    Args:
        config: the experiment, ``data.root`` is the target.
        annotations: the real annotation file.
        blocked: the real JSON list of ids to leave out, where the config names such a file; None: an empty list.
        spec: what to draw.

    Returns:
        The annotation file written.

    Raises:
        ConfigError: the config does not read one .npy file a video, or its class scores are not JSON.
        DataError: the annotations cannot be used or hold an id that leads out of the target, the target holds
            something else, or the disk is too small.
        NothingToDoError: the annotations lack one of the config's subsets.
        OSError: the target cannot be written.
    """
    data, scores = config.data, config.postprocess.class_scores
    _check_layout(config)
    source = load_annotations(annotations)
    subsets = dict.fromkeys(data.folds or (*data.train_subsets, *data.test_subsets))
    classes = source.classes_of(subsets)
    listed = {subset: [video for video in source.select([subset]) if video.duration_s] for subset in subsets}
    videos = [video for of_subset in listed.values() for video in _spread(of_subset, spec.videos)]

    made_by = _settings(spec, data, annotations)
    _check_target(data.root, made_by)
    _check_ids(videos, data, annotations)
    what = f"features drawn at random, noise {spec.noise:g}, for the real annotations of {annotations.name}"
    if config.postprocess.classes == "external" and scores is not None:
        what += f"; so are the class scores, right for {100 * spec.classifier_top1:g} % of the videos"
    write_mark(data.root, what, made_by)
    _write_arrays(videos, classes, data, spec)
    if config.postprocess.classes == "external" and scores is not None:
        tested = [video for video in videos if video.subset in (data.folds or data.test_subsets)]
        rows = {video.id: draw_class_scores(video, classes, spec).round(6).tolist() for video in tested}
        write_json(data.path(scores), {"synthetic": what, "class": list(classes), "results": rows})
    if isinstance(data.blocked, Path):
        write_text(data.path(data.blocked), "[]\n" if blocked is None else blocked.read_text(encoding="utf-8"))
    target = data.path(data.annotations)
    write_json(target, {"version": f"real annotations of {annotations.name}; {what}", "database": _database(videos)})
    return target


def _write_arrays(videos: Sequence[Video], classes: Sequence[str], data: DataConfig, spec: FeatureSpec) -> None:
    """Draw and write the features of the videos that have no file yet."""
    prototypes = draw_prototypes(spec, len(classes), data.channels)
    missing = [(video, path) for video in videos if not (path := _path(data, video)).is_file()]
    layouts = [lay_out(video, data, spec) for video, _ in missing]
    _check_space(data.root, sum(layout.steps for layout in layouts) * data.channels * np.dtype(np.float16).itemsize)

    def write() -> Iterator[None]:
        for (video, path), layout in zip(missing, layouts, strict=True):
            features = draw_features(video, layout, classes, prototypes, spec)
            with replace_atomically(path) as temporary:
                np.save(temporary, (features if data.layout == "time_first" else features.T).astype(np.float16))
            yield

    for _ in progress(write(), "draw", len(videos), "video", len(videos) - len(missing)):
        pass


def _path(data: DataConfig, video: Video) -> Path:
    return data.path(data.folder) / data.pattern.replace("{id}", video.id)


def _check_layout(config: Config) -> None:
    data, scores = config.data, config.postprocess.class_scores
    if data.input != "features":
        raise ConfigError(f"{config.name}: reads {data.input}, not features; name a config such as anet_features")
    if not data.pattern.endswith(".npy") or "{id}" not in data.pattern:
        raise ConfigError(f"data.pattern is {data.pattern!r}; one .npy file a video is written: set it to {{id}}.npy")
    if config.postprocess.classes == "external" and scores is not None and scores.suffix != ".json":
        raise ConfigError(
            f"postprocess.class_scores is {scores}; scores are written as JSON: set it to class_scores.json"
        )
    if data.annotations.suffix == ".gz":
        raise ConfigError(
            f"data.annotations is {data.annotations}; they are written unpacked: set it to annotations.json"
        )


def _check_target(root: Path, made_by: dict[str, Any]) -> None:
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: is a file; name a folder")
    mark = read_mark(root)
    if mark is None and root.is_dir() and any(root.iterdir()):
        raise DataError(f"{root}: holds files and no {MARK}, so they may be real; name a new folder")
    if mark is not None and mark["made_by"] != made_by:
        changed = sorted(name for name in made_by if mark["made_by"].get(name) != made_by[name])
        raise DataError(f"{root}: holds features of another {', '.join(changed)}; remove it, or name a new folder")


def _check_ids(videos: Sequence[Video], data: DataConfig, annotations: Path) -> None:
    """An annotation file comes from elsewhere, and its ids become names of files: none may be written outside."""
    folder = data.path(data.folder).absolute()
    for video in videos:
        if not Path(os.path.normpath(_path(data, video).absolute())).is_relative_to(os.path.normpath(folder)):
            raise DataError(f"{annotations}: the id {video.id!r} leads out of {folder}; no file is written for it")


def _check_space(root: Path, size_bytes: int) -> None:
    free_bytes = shutil.disk_usage(root).free
    if size_bytes > free_bytes:
        raise DataError(f"{root}: needs {size_bytes / 2**30:.1f} GiB more, and {free_bytes / 2**30:.1f} GiB are free")


def _settings(spec: FeatureSpec, data: DataConfig, annotations: Path) -> dict[str, Any]:
    fields = dataclasses.asdict(spec) | {
        "generator": _GENERATOR,
        "channels": data.channels,
        "layout": data.layout,
        "stride_frames": data.stride_frames,
        "offset_frames": data.offset_frames,
        "fps": data.fps,
        "annotations_sha256": hashlib.sha256(annotations.read_bytes()).hexdigest(),
    }
    del fields["videos"]
    return fields


def _spread(videos: Sequence[Video], count: int | None) -> list[Video]:
    if count is None or count >= len(videos):
        return list(videos)
    return [videos[number * len(videos) // count] for number in range(count)]


def _database(videos: Sequence[Video]) -> dict[str, Any]:
    return {
        video.id: {
            "subset": video.subset,
            "duration": video.duration_s,
            **({} if video.fps is None else {"fps": video.fps}),
            "annotations": [
                {"segment": [action.start_s, action.end_s], "label": action.label} for action in video.actions
            ],
        }
        for video in videos
    }
