"""Data sets: annotated videos, or windows of them, as samples; and the order in which training takes them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from etad.config import Config
from etad.data import transforms, video_files, videos
from etad.data.annotations import Annotations, Video, annotations_of
from etad.data.batch import Batch, Sample
from etad.data.decoded import read_through
from etad.data.features import FeatureStore, resize_features
from etad.data.raw_clips import RawClips, gather_clips
from etad.data.windows import actions_in_view, cut, targets, windows
from etad.errors import ConfigError, DataError, NothingToDoError, UserError
from etad.seeding import stream

GroundTruth = dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]
"""Per video id: segments ``[G, 2]`` in seconds and class numbers ``[G]``."""


@dataclass(frozen=True)
class _View:
    """What one sample shows: the whole video, or the window that begins at feature step ``first``."""

    video: Video
    first: int | None = None
    start_s: float = 0.0
    duration_s: float = 0.0


class VideoDataset(Dataset[Sample]):
    """The training or test samples of an experiment. Build it with ``train_dataset`` or ``evaluation_dataset``.

    Attributes:
        classes: those that a network is trained for; class numbers index them.
        selected: the videos asked for: right subset, not blocked. Evaluation counts the actions of all of them.
        videos: those that the samples come from: with a duration, a file and, in training, an action that is long
            enough.
        paths: the file of each of them, by id; empty where the input is features.
        missing: ids that were left out because they have no file.
        problems: what else is wrong or was left out, one line each.
    """

    def __init__(self, config: Config, annotations: Annotations, *, training: bool) -> None:
        """Look for the files and lay out the samples; no feature value or frame is read yet.

        Args:
            config: the experiment.
            annotations: those of ``config.data``, from :func:`etad.data.annotations.annotations_of`.
            training: the training samples instead of the test samples.

        Raises:
            DataError: the feature folder cannot be used.
            ConfigError: ``data.pattern`` lacks ``{id}``, ``data.classes`` a label that is trained on, or
                ``data.stride_frames`` comes without a frame rate.
            NothingToDoError: no sample is left.
        """
        data = config.data
        self._config = config
        self._training = training
        self._epoch = 0
        self._decoded: dict[str, videos.Snippets] = {}
        self._store = FeatureStore(data) if data.input == "features" else None
        self._min_inside = 0.0 if data.window is None else data.window.min_action_inside

        subsets = data.train_selection if training else data.test_selection
        self.classes: tuple[str, ...] = annotations.trained_classes(data)
        if training and (unlisted := [label for label in annotations.classes_of(subsets) if label not in self.classes]):
            raise ConfigError(
                f"data.classes: lacks {len(unlisted)} labels of the training subsets (first: {unlisted[0]}); add them"
            )
        self._class_names = frozenset(self.classes)
        self.problems: list[str] = list(annotations.problems)
        self.selected: list[Video] = annotations.select(subsets, annotations.blocked)
        # Nothing can be placed in time without a duration; evaluation counts such videos all the same.
        timed = [video for video in self.selected if video.duration_s]
        wanted = self._long_enough(timed) if training else timed
        self.paths: dict[str, Path] = {} if self._store is not None else self._find_files(wanted)
        self.missing: list[str] = self._without_file([video.id for video in wanted])
        absent = set(self.missing)
        self.videos: list[Video] = [video for video in wanted if video.id not in absent]
        self._views = self._lay_out(self.videos)
        if not self._views:
            reasons = [f"{len(absent)} have no file (first: {self._location(self.missing[0])})"] if absent else []
            nothing = f"{annotations.path}: no sample from the {len(self.selected)} videos of {', '.join(subsets)}"
            raise NothingToDoError("; ".join([nothing, *reasons, *self.problems]))

    def __len__(self) -> int:
        return len(self._views)

    @property
    def video_ids(self) -> list[str]:
        """The video of every sample, in order; windows of a video follow each other."""
        return [view.video.id for view in self._views]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation is drawn.

        Call it before the epoch's ``load``: its workers get a copy of the data set.
        """
        self._epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        """Read one sample. Its augmentation depends on the run's seed, the epoch and the video only.

        Raises:
            DataError: the video's file is damaged or does not fit the config.
        """
        view = self._views[index]
        video = view.video
        with _remedy_named(video.id):
            if self._store is None:
                input_, start_s, duration_s = self._frames(video)
            else:
                input_, start_s, duration_s = self._features(self._store, view)
        # A test video may have labels that nobody was trained for.
        known = [action for action in video.clipped_actions() if action.label in self._class_names]
        segments, labels = targets(actions_in_view(known, start_s, duration_s, self._min_inside), self.classes)
        return Sample(video.id, index, start_s, duration_s, input_, segments, labels)

    def _location(self, video_id: str) -> str:
        data = self._config.data
        if self._store is not None:
            return self._store.location(video_id)
        return str(data.path(data.folder) / data.pattern.replace("{id}", video_id))

    def _without_file(self, ids: list[str]) -> list[str]:
        if self._store is not None:
            return self._store.missing(ids)
        return [video_id for video_id in ids if video_id not in self.paths]

    def _find_files(self, wanted: list[Video]) -> dict[str, Path]:
        data = self._config.data
        folder = data.path(data.folder)
        found = {video.id: video_files.find_video(folder, data.pattern, video.id) for video in wanted}
        return {video_id: path for video_id, path in found.items() if path is not None}

    def _long_enough(self, candidates: list[Video]) -> list[Video]:
        """Drop videos with nothing but very short actions, as published (specification, section 1)."""
        least = self._config.data.min_action_fraction
        kept = [video for video in candidates if video.longest_fraction() > least]
        if dropped := len(candidates) - len(kept):
            self.problems.append(f"{dropped} training videos have no action longer than {least:g} of them: left out")
        return kept

    def _lay_out(self, chosen: list[Video]) -> list[_View]:
        window = self._config.data.window
        if self._store is None or window is None:
            return [_View(video) for video in chosen]
        length = self._config.data.length
        views = []
        for video in chosen:
            with _remedy_named(video.id):
                steps = self._store.steps(video.id)
            offset_s, covered_s = self._covered_seconds(video, steps)
            step_s = covered_s / steps
            for first in windows(steps, length, window.overlap):
                view = _View(video, first, offset_s + first * step_s, length * step_s)
                inside = actions_in_view(video.clipped_actions(), view.start_s, view.duration_s, self._min_inside)
                if inside or not self._training:
                    views.append(view)
        if unseen := len(chosen) - len({view.video.id for view in views}):
            self.problems.append(f"{unseen} training videos have no window with a true action in it: left out")
        return views

    def _covered_seconds(self, video: Video, steps: int) -> tuple[float, float]:
        """Return the start and the duration of the time that all feature steps of a video cover, seconds."""
        data = self._config.data
        if data.stride_frames is None:
            return 0.0, video.duration_s
        fps = data.fps or video.fps
        if fps is None:
            raise ConfigError(f"data.stride_frames counts frames, but {video.id} has no fps: set data.fps")
        return data.offset_frames / fps, steps * data.stride_frames / fps

    def _features(self, store: FeatureStore, view: _View) -> tuple[Tensor, float, float]:
        """Return features ``[C, length]`` with the start and the duration of what they show, seconds."""
        video, length = view.video, self._config.data.length
        if view.first is not None:
            features = store.read(video.id, view.first, view.first + length)
            return cut(features, length), view.start_s, view.duration_s
        features = store.read(video.id)
        return resize_features(features, length), *self._covered_seconds(video, features.shape[1])

    def _frames(self, video: Video) -> tuple[Tensor | RawClips, float, float]:
        """Return clips uint8 ``[N, 3, T, H, W]``, or what they are made of on the device, and the time they cover.

        Start and duration (seconds) are the picture's own: the annotated duration may be that of the sound, or of a
        file that was cut since.
        """
        data, path = self._config.data, self.paths[video.id]
        if not path.is_file():
            raise DataError(f"{path}: no such file any more")
        decoded = self._decoded.get(video.id) or self._decode(path)
        if data.cache:
            self._decoded[video.id] = decoded
        return self._clips(video, decoded), decoded.start_s, decoded.duration_s

    def _decode(self, path: Path) -> videos.Snippets:
        data = self._config.data
        if data.decoded is None:
            return videos.read_snippets(path, data.length, data.frames)
        return read_through(data.decoded, path, data.length, data.frames)

    def _clips(self, video: Video, decoded: videos.Snippets) -> Tensor | RawClips:
        data, frames = self._config.data, decoded.frames
        generator = stream(self._config.train.seed, self._epoch, video.id, "augment")
        if self._training and data.augment_on == "device":
            height, width = frames.shape[-2:]
            draw = transforms.draw(height, width, data.frames, generator, training=True)
            return RawClips(frames, decoded.index, draw)
        return gather_clips(
            transforms.transform(frames, data.frames, generator, training=self._training), decoded.index
        )


@contextmanager
def _remedy_named(video_id: str) -> Iterator[None]:
    """Add to a DataError what the user can do about a video that cannot be used."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{error}; fix this, or list {video_id} in data.blocked") from None


def train_dataset(config: Config, annotations: Annotations | None = None) -> VideoDataset:
    """Return the training samples of an experiment.

    Args:
        config: the experiment.
        annotations: those of ``config.data``; None: they are read.

    Raises:
        UserError: as ``VideoDataset`` and ``annotations_of``.
    """
    return VideoDataset(config, annotations or annotations_of(config.data), training=True)


def evaluation_dataset(config: Config, annotations: Annotations | None = None) -> VideoDataset:
    """Return the test samples of an experiment; see :func:`train_dataset`."""
    return VideoDataset(config, annotations or annotations_of(config.data), training=False)


def ground_truth(annotated: Sequence[Video], classes: Sequence[str]) -> GroundTruth:
    """Return the true actions of videos as the file has them, neither clipped nor filtered, for the evaluator.

    Raises:
        DataError: a label is not among ``classes``.
    """
    numbers = {label: number for number, label in enumerate(classes)}
    truth: GroundTruth = {}
    for video in annotated:
        if unknown := {action.label for action in video.actions} - numbers.keys():
            raise DataError(f"{video.id}: label {min(unknown)!r} is not among the {len(classes)} classes")
        segments = np.array([(action.start_s, action.end_s) for action in video.actions], dtype=np.float64)
        labels = np.array([numbers[action.label] for action in video.actions], dtype=np.int64)
        truth[video.id] = (segments.reshape(-1, 2), labels)
    return truth


def epoch_batches(
    count: int, batch: int, seed: int, epoch: int, rank: int = 0, world: int = 1, skip: int = 0
) -> list[list[int]]:
    """Return the sample numbers of every batch of an epoch that one process trains on.

    The order is a permutation that depends on (seed, epoch) alone. Process ``rank`` gets the ``rank``-th slice of each
    global batch, so that all processes together take the very steps that a single one would. The last, smaller global
    batch is kept when it divides evenly among the processes and dropped otherwise, since averaging gradients over
    processes is exact for equal slices only.

    Args:
        count: samples in the data set.
        batch: global batch: samples per step, over all processes.
        seed: of the run.
        epoch: number of the epoch.
        rank: number of this process, 0 to ``world`` - 1.
        world: number of processes.
        skip: steps of this epoch that are done already.

    Raises:
        ConfigError: ``batch`` is not divisible by ``world``.
        NothingToDoError: the epoch has no batch at all.
    """
    if batch % world:
        raise ConfigError(f"train.batch is {batch}, which {world} processes cannot share evenly; make it a multiple")
    order: list[int] = torch.randperm(count, generator=stream(seed, epoch, "order")).tolist()
    steps = [order[first : first + batch] for first in range(0, count, batch)]
    if steps and len(steps[-1]) % world:
        steps.pop()
    if not steps:
        raise NothingToDoError(f"{count} training samples do not give each of {world} processes one")
    return [step[rank * len(step) // world : (rank + 1) * len(step) // world] for step in steps[skip:]]


def load(
    dataset: Dataset[Sample], batches: Sequence[list[int]], workers: int = 0, pin_memory: bool = False
) -> Iterator[Batch]:
    """Yield the batches with these sample numbers, read by worker processes (0: by this one).

    Raises:
        DataError: a file turned out unusable; one line, whichever process met it.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=Batch.collate,
        pin_memory=pin_memory,
        # Otherwise it takes a number from the global generator, and a run resumed within an epoch takes one more.
        generator=torch.Generator(),
    )
    try:
        yield from loader
    except UserError as error:
        # A worker's error arrives as its whole traceback, which ends in "etad.errors.DataError: the message".
        message = str(error)
        if "Original Traceback" in message:
            message = message.strip().splitlines()[-1].partition(": ")[2]
        raise type(error)(message) from None
