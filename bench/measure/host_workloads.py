"""What the host does around a step: reading batches of a data set, and post-processing raw detections."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bench.batches import CLASSES
from bench.machine.clocks import Stopwatch
from bench.measure.workload import Amounts
from etad.config import Config
from etad.data import transforms, videos
from etad.data.batch import Batch, Sample
from etad.data.dataset import VideoDataset, epoch_batches, load, train_dataset
from etad.data.raw_clips import gather_clips
from etad.detections.batched_postprocess import RawTensors
from etad.detections.class_scores import ClassScores
from etad.detections.detections import RawDetections
from etad.infer import postprocess
from etad.sampling.proposals import dense_grid
from etad.seeding import stream

DATA_WAIT = "data_wait"
ACTIONS = 2
"""Actions of a made-up video; their boundaries and classes stand out as a trained network's would."""


class RealBatches:
    """Batches of the training set, by the config's worker processes, as training gets them.

    Args:
        config: the experiment.
        device: where the batches go; with ``efficiency.frames_on: host`` their frames wait in pinned host memory.
        watch: is told how long each was waited for, its transfer included.

    Raises:
        UserError: the data set cannot be used.
    """

    def __init__(self, config: Config, device: torch.device, watch: Stopwatch) -> None:
        self._config, self._device, self._watch = config, device, watch
        self._dataset = train_dataset(config)
        self.classes = len(self._dataset.classes)
        self._batches = self._endless()

    def __call__(self) -> Batch:
        """Wait for the next batch."""
        self._watch.begin(DATA_WAIT)
        batch = next(self._batches).to(self._device, with_input=self._config.efficiency.frames_on == "device")
        self._watch.end(DATA_WAIT)
        return batch

    def _endless(self) -> Iterator[Batch]:
        train, data = self._config.train, self._config.data
        for epoch in itertools.count():
            self._dataset.set_epoch(epoch)
            batches = epoch_batches(len(self._dataset), train.batch, train.seed, epoch)
            yield from load(self._dataset, batches, data.workers, pin_memory=self._device.type == "cuda")


class DataLoading:
    """Calling it reads one batch of the training set in this process, phase by phase.

    From frames: decode, transform (augmentation and arranging as snippets), collate; ``data.cache`` is left out, so
    every call decodes. From features: read, collate.

    Raises:
        UserError: the data set cannot be used.
    """

    def __init__(self, config: Config, watch: Stopwatch) -> None:
        self._config, self._watch = config, watch
        self._dataset: VideoDataset = train_dataset(config)
        self._numbers = itertools.cycle(range(len(self._dataset)))
        self._size = min(config.train.batch, len(self._dataset))
        self._frames = self._calls = 0

    @property
    def amounts(self) -> Amounts:
        """Amounts of a call; frames on average over the calls so far, as videos differ in length."""
        snippets = self._size * self._config.data.length if self._config.data.input == "frames" else 0
        return Amounts(videos=self._size, snippets=snippets, frames=round(self._frames / max(self._calls, 1)))

    def __call__(self) -> None:
        """Read the next batch."""
        self._calls += 1
        numbers = list(itertools.islice(self._numbers, self._size))
        samples = [self._video(n) if self._config.data.input == "frames" else self._features(n) for n in numbers]
        self._watch.begin("collate")
        Batch.collate(samples)
        self._watch.end("collate")

    def _features(self, number: int) -> Sample:
        self._watch.begin("read")
        sample = self._dataset[number]
        self._watch.end("read")
        return sample

    def _video(self, number: int) -> Sample:
        data, video = self._config.data, self._dataset.videos[number]
        self._watch.begin("decode")
        decoded = videos.read_snippets(self._dataset.paths[video.id], data.length, data.frames)
        self._watch.end("decode")
        self._frames += len(decoded.frames)
        self._watch.begin("transform")
        generator = stream(self._config.train.seed, 0, video.id, "augment")
        clips = gather_clips(transforms.transform(decoded.frames, data.frames, generator, training=True), decoded.index)
        self._watch.end("transform")
        nothing = torch.zeros(0, 2)
        no_label = torch.zeros(0, dtype=torch.int64)
        return Sample(video.id, number, decoded.start_s, decoded.duration_s, clips, nothing, no_label)


class Postprocessing:
    """Calling it turns the raw outputs of a batch into detections, as inference does on that device.

    Boundary filter, soft-NMS and classes. The outputs are made up, one view a video, all proposals judged: scores are
    high near :data:`ACTIONS` true segments and low, but never 0, elsewhere.

    Args:
        config: the experiment.
        watch: is told when the detections are begun and ended.
        device: where the network left its outputs.
    """

    def __init__(self, config: Config, watch: Stopwatch, device: torch.device) -> None:
        self._config, self._watch = config.postprocess, watch
        random = np.random.default_rng(0)
        names = [str(number) for number in range(config.train.batch)]
        raw = {name: random_detections(config, random) for name in names}
        self._videos = {name: [RawTensors.on_device(one, device)] for name, one in raw.items()}
        self._durations_s = {name: one.duration_s for name, one in raw.items()}
        rows = {name: random.random(CLASSES) for name in names}
        self._class_scores = ClassScores(Path("random"), tuple(map(str, range(CLASSES))), rows)
        self.amounts = Amounts(videos=len(raw), proposals=sum(len(one.scores) for one in raw.values()))

    def __call__(self) -> None:
        """Post-process the batch."""
        self._watch.begin("detections")
        postprocess(self._videos, self._durations_s, self._config, self._class_scores)
        self._watch.end("detections")


def random_detections(config: Config, random: np.random.Generator) -> RawDetections:
    """Return what a trained network might say of a video: the dense grid, refined a little, around made-up actions."""
    length = config.data.length
    grid = dense_grid(length, config.model.detector.max_duration).numpy().astype(np.float64)
    actions = np.sort(random.random((ACTIONS, 2)), axis=1)
    overlap = np.minimum(grid[:, None, 1], actions[:, 1]) - np.maximum(grid[:, None, 0], actions[:, 0])
    union = np.maximum(grid[:, None, 1], actions[:, 1]) - np.minimum(grid[:, None, 0], actions[:, 0])
    tiou = np.clip(overlap / union, 0.0, 1.0).max(axis=1)
    classes = random.random((length, CLASSES)) if config.model.classifier is not None else None
    return RawDetections(
        segments=grid + random.normal(0.0, 0.01, grid.shape),
        scores=0.9 * tiou**2 + 0.1 * random.random(len(grid)),
        start=random.random(length),
        end=random.random(length),
        snippet_classes=None if classes is None else classes / classes.sum(axis=1, keepdims=True),
        start_s=0.0,
        duration_s=100.0,
    )
