"""Synthetic untrimmed videos whose classes differ by motion only: made in seconds, learned in a minute.

A video is a field of soft bright and dark dots on grey, with pixel noise. Every dot lives a few frames, moves at the
one speed along one of four directions, and is then reborn elsewhere. In the background each dot has a direction of its
own; during an action they share the direction that is the action's class. The idea is the random-dot kinematogram of
vision research (Newsome and Paré, J. Neurosci. 8(6), 1988): what tells is coherence, never form.

No single frame gives anything away. Positions are drawn uniformly and independently of every direction, and they wrap
around the edges, so the dots of a frame are independent and uniform, whatever they are about to do. Compression keeps
that: every frame is coded on its own (intra) with a constant quantiser, so a decoded frame depends on nothing but its
own pixels. The motion energy, too, is the same everywhere, so averaged features of an untrained network say little.

A mirrored video shows the mirrored class: do not train on these videos with horizontal flips.
"""

import dataclasses
import hashlib
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from etad.data.synthetic_mark import write_mark
from etad.errors import ConfigError, DataError
from etad.files import replace_atomically, write_json
from etad.progress import progress
from etad.seeding import stream_seed
from etad.signals import end_with_parent

DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
"""Class name -> unit step (x, y); y grows downwards."""

_RENDERER = 1
"""Raise it with every change of what is rendered, so that older files are replaced."""
_VALIDATION_EVERY = 3
_GREY = 110.0
_QUANTISER = "20"
"""Constant H.264 quantiser (0 lossless .. 51): the dots and most of the noise survive it."""


@dataclass(frozen=True)
class SyntheticSpec:
    """What to render. A video depends on its number and on every field but ``videos``, so a set can be extended later.

    Attributes:
        videos: how many; every third one is for validation, the others for training.
        seed: of every draw.
        size: height and width of a frame in pixels.
        fps: frames per second.
        classes: names out of ``DIRECTIONS``.
        single_class: probability that all actions of a video share one class; otherwise each draws its own.
        seconds: shortest and longest video.
        actions: fewest and most actions in a video; those that do not fit into it are left out.
        action_seconds: shortest and longest action.
        gap_seconds: least background before, between and after actions.
        coherence: part of the dots that follows an action's direction; the others move as in the background.
        density: dots per pixel.
        lifetime: frames that a dot lives.
        speed: pixels that a dot moves in a frame.
        radius: standard deviation of a dot's profile, in pixels.
        contrast: brightness of a dot's centre against the grey, in 0..255 levels.
        noise: standard deviation of the pixel noise, in 0..255 levels.

    Raises:
        ConfigError: a value that cannot be rendered.
    """

    videos: int = 60
    seed: int = 2023
    size: int = 48
    fps: int = 15
    classes: tuple[str, ...] = tuple(DIRECTIONS)
    single_class: float = 0.0
    seconds: tuple[float, float] = (20.0, 30.0)
    actions: tuple[int, int] = (2, 4)
    action_seconds: tuple[float, float] = (2.0, 8.0)
    gap_seconds: float = 1.0
    coherence: float = 1.0
    density: float = 0.035
    lifetime: int = 10
    speed: float = 2.0
    radius: float = 1.2
    contrast: float = 60.0
    noise: float = 8.0

    def __post_init__(self) -> None:
        unknown = [name for name in self.classes if name not in DIRECTIONS]
        if unknown:
            raise ConfigError(f"classes: {unknown[0]!r} is not a motion; choose from {', '.join(DIRECTIONS)}")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ConfigError("classes: name at least one motion, each only once")
        if self.videos < _VALIDATION_EVERY:
            raise ConfigError(f"videos: {self.videos} leaves none for validation; ask for {_VALIDATION_EVERY} or more")
        if self.size < 16 or self.size % 2:
            raise ConfigError(f"size: {self.size} must be an even number of pixels, 16 or more (H.264 4:2:0 halves it)")
        for name in ("fps", "lifetime", "density", "radius"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: {getattr(self, name)} must be above 0")
        for name in ("single_class", "coherence"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name}: {getattr(self, name)} must lie in 0..1")
        for name in ("gap_seconds", "contrast", "noise", "speed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: {getattr(self, name)} must not be negative")
        for name in ("seconds", "actions", "action_seconds"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"{name}: {low}..{high} must be a range above 0")
        if self.action_seconds[1] + 2 * self.gap_seconds > self.seconds[0]:
            raise ConfigError(
                "action_seconds: the longest action and a gap on each side must fit into the shortest video"
            )

    def video_id(self, video_number: int) -> str:
        """Return the id of a video: its key in the annotations and its file's stem."""
        return f"synth_{video_number:04d}"

    def subset(self, video_number: int) -> str:
        """Return "training" or "validation"."""
        return "validation" if video_number % _VALIDATION_EVERY == _VALIDATION_EVERY - 1 else "training"


@dataclass(frozen=True)
class Action:
    """One action: frames ``start`` (included) to ``end`` (excluded)."""

    start: int
    end: int
    label: str


def plan_video(spec: SyntheticSpec, video_number: int) -> tuple[int, tuple[Action, ...]]:
    """Return a video's frame count and its actions in order of time, without rendering it."""
    rng = np.random.default_rng(stream_seed(spec.seed, "synthetic", video_number, "actions"))
    frames = int(_uniform_frames(rng, spec.seconds, spec.fps))
    gap = round(spec.gap_seconds * spec.fps)
    lengths: list[int] = []
    for _ in range(rng.integers(spec.actions[0], spec.actions[1] + 1)):
        length = int(_uniform_frames(rng, spec.action_seconds, spec.fps))
        if sum(lengths) + length + (len(lengths) + 2) * gap <= frames:
            lengths.append(length)
    labels = rng.choice(spec.classes, len(lengths))
    if rng.random() < spec.single_class:
        labels[:] = labels[0]
    spare = frames - sum(lengths) - (len(lengths) + 1) * gap
    # Cutting the spare frames at sorted uniform points spreads the actions evenly over the video.
    shifts = np.sort(rng.integers(0, spare + 1, len(lengths)))
    actions = []
    for number, (length, shift, label) in enumerate(zip(lengths, shifts, labels, strict=True)):
        start = sum(lengths[:number]) + (number + 1) * gap + int(shift)
        actions.append(Action(start, start + length, str(label)))
    return frames, tuple(actions)


def render_video(spec: SyntheticSpec, video_number: int) -> tuple[NDArray[np.uint8], tuple[Action, ...]]:
    """Render a video.

    Returns:
        RGB frames ``[F, size, size, 3]`` (the three channels are equal) and the actions in order of time.
    """
    frames, actions = plan_video(spec, video_number)
    rng = np.random.default_rng(stream_seed(spec.seed, "synthetic", video_number, "dots"))
    positions, polarity = _move_dots(spec, rng, frames, actions)
    grey = np.empty((frames, spec.size, spec.size), np.uint8)
    pixels = np.arange(spec.size, dtype=np.float32)
    for frame in range(frames):
        # The distance on a circle of `size` pixels, so that a dot at one edge reaches over to the other.
        distance = (pixels - positions[frame, :, :, None] + spec.size / 2) % spec.size - spec.size / 2
        profile = np.exp(distance**2 / (-2 * spec.radius**2))
        dots = (profile[:, 1] * polarity[frame, :, None]).T @ profile[:, 0]
        noise = rng.standard_normal(dots.shape, dtype=np.float32)
        grey[frame] = np.clip(_GREY + spec.contrast * dots + spec.noise * noise, 0, 255).round()
    return np.repeat(grey[..., None], 3, axis=-1), actions


def write_dataset(target: Path, spec: SyntheticSpec, workers: int) -> Path:
    """Write ``videos/<id>.mp4`` and ``annotations.json`` (ActivityNet form) into ``target``.

    Finished files of the same spec are kept, so an interrupted call resumes and a larger ``videos`` extends a set;
    files of another spec are replaced. The annotations come last. Progress goes to stderr.

    Args:
        target: folder, made when missing.
        spec: what to render.
        workers: processes; 1 renders in this process.

    Returns:
        The annotation file.

    Raises:
        ConfigError: ``workers`` is below 1.
        DataError: ``target`` is a file.
        OSError: the folder cannot be written, or the disk is full.
    """
    if workers < 1:
        raise ConfigError(f"workers: {workers} must be 1 or more")
    if target.exists() and not target.is_dir():
        raise DataError(f"{target}: is a file; name a folder")
    folder = target / "videos"
    missing = [
        number for number in range(spec.videos) if not _is_finished(_video_path(folder, spec, number), spec, number)
    ]
    done = spec.videos - len(missing)
    for _ in progress(_write_videos(folder, spec, missing, workers), "render", spec.videos, "video", done):
        pass
    write_mark(target, "videos of moving dots, rendered", dataclasses.asdict(spec) | {"renderer": _RENDERER})
    annotations = target / "annotations.json"
    write_json(annotations, {"version": "synthetic-1", "database": _database(spec)})
    return annotations


def _uniform_frames(rng: np.random.Generator, seconds: tuple[float, float], fps: int) -> np.int64:
    return rng.integers(round(seconds[0] * fps), round(seconds[1] * fps) + 1)


def _move_dots(
    spec: SyntheticSpec, rng: np.random.Generator, frames: int, actions: tuple[Action, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the dots of every frame.

    Returns:
        Positions ``[F, D, 2]`` (x, y in pixels, not yet wrapped) and polarities ``[F, D]`` (+1 bright, -1 dark).
    """
    dots = max(1, round(spec.density * spec.size**2))
    lives = frames // spec.lifetime + 2
    origin = rng.uniform(0, spec.size, (lives, dots, 2))
    polarity = rng.choice((-1.0, 1.0), (lives, dots))
    own_direction = rng.choice(tuple(DIRECTIONS.values()), (lives, dots))
    follows = rng.random((lives, dots)) < spec.coherence
    # Dots are born at all ages: at every frame the same part of them is reborn, and no frame is special.
    age_at_start = rng.integers(0, spec.lifetime, dots)

    frame = np.arange(frames)[:, None]
    dot = np.arange(dots)
    life = (frame + age_at_start) // spec.lifetime
    born = np.maximum(life * spec.lifetime - age_at_start, 0)
    # The step of frame t leads to frame t + 1, so the steps of an action fill exactly its segment in time.
    step = own_direction[life, dot]
    for action in actions:
        inside = step[action.start : action.end]
        inside[follows[life[action.start : action.end], dot]] = DIRECTIONS[action.label]
    path = np.concatenate((np.zeros((1, dots, 2)), step.cumsum(axis=0)))
    positions = origin[life, dot] + spec.speed * (path[frame, dot] - path[born, dot])
    return positions.astype(np.float32), polarity[life, dot].astype(np.float32)


def _write_videos(folder: Path, spec: SyntheticSpec, numbers: list[int], workers: int) -> Iterator[None]:
    """Write the videos, yielding once after each."""
    if workers == 1 or len(numbers) < 2:
        for number in numbers:
            _write_video(folder, spec, number)
            yield
        return
    # Spawned, because a forked child of a process that has run torch or ffmpeg threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(numbers)), context, end_with_parent) as pool:
        futures = [pool.submit(_write_video, folder, spec, number) for number in numbers]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write_video(folder: Path, spec: SyntheticSpec, number: int) -> None:
    frames, _ = render_video(spec, number)
    with replace_atomically(_video_path(folder, spec, number)) as temporary, av.open(temporary, "w") as container:
        container.metadata["comment"] = _fingerprint(spec, number)
        # Intra frames at a constant quantiser: see the module's docstring. One thread: the workers fill the cores.
        # "fastdecode" (no CABAC, no deblocking) decodes in a third of the time; training decodes every epoch.
        options = {"qp": _QUANTISER, "g": "1", "threads": "1", "preset": "veryfast", "tune": "fastdecode"}
        stream = container.add_stream("libx264", rate=spec.fps, options=options)
        stream.width = stream.height = spec.size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _is_finished(path: Path, spec: SyntheticSpec, number: int) -> bool:
    """Whether the file holds this very video. Files are written atomically, so one that says so is whole."""
    try:
        with av.open(path) as container:
            return container.metadata.get("comment") == _fingerprint(spec, number)
    except (FileNotFoundError, av.FFmpegError):
        return False


def _fingerprint(spec: SyntheticSpec, number: int) -> str:
    fields = dataclasses.asdict(spec) | {"videos": None, "number": number, "renderer": _RENDERER}
    return "etad synthetic " + hashlib.blake2b(json.dumps(fields).encode(), digest_size=16).hexdigest()


def _video_path(folder: Path, spec: SyntheticSpec, number: int) -> Path:
    return folder / f"{spec.video_id(number)}.mp4"


def _database(spec: SyntheticSpec) -> dict[str, Any]:
    database = {}
    for number in range(spec.videos):
        frames, actions = plan_video(spec, number)
        database[spec.video_id(number)] = {
            "subset": spec.subset(number),
            "duration": frames / spec.fps,
            "annotations": [
                {"segment": [action.start / spec.fps, action.end / spec.fps], "label": action.label}
                for action in actions
            ],
        }
    return database
