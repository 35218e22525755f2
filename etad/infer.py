"""Inference: samples in, detections per video out (specification, section 7).

All proposals of the dense grid are judged.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from etad.config import Config, PostprocessConfig
from etad.data import transforms, video_reader, videos
from etad.data.annotations import Annotations, annotations_of
from etad.data.batch import Batch, Sample
from etad.data.dataset import VideoDataset, evaluation_dataset, load
from etad.data.raw_clips import gather_clips
from etad.detections.batched_postprocess import RawTensors, batched_detections
from etad.detections.class_scores import ClassScores, read_class_scores
from etad.detections.detection_log import DetectionLog
from etad.detections.detections import AGNOSTIC_CLASSES, Detections
from etad.detections.postprocess import to_detections
from etad.detections.submissions import MADE_BY, submission
from etad.distributed import World
from etad.encoding import Encoding
from etad.errors import ConfigError, DataError
from etad.inputs import Inputs, changed, detection_inputs
from etad.models.compiled import compile_module
from etad.models.etad import Etad
from etad.notes import note
from etad.offload.placement import Placement
from etad.phases import Listener, Phase, announced
from etad.precision import autocast, detector_precision
from etad.progress import progress
from etad.sampling.proposals import dense_grid


@dataclass(frozen=True)
class PlainVideo:
    """A video file without annotations; its duration is the time at which its picture ends."""

    id: str
    path: Path
    duration_s: float


class PlainVideos(Dataset[Sample]):
    """Video files as samples. Files that cannot be read are listed, not raised.

    Attributes:
        videos: the readable ones, in the order given.
        unreadable: file -> why.
    """

    def __init__(self, paths: Sequence[Path], config: Config) -> None:
        if config.data.input != "frames":
            raise ConfigError(f"{config.name}: this model reads features, not videos; give a model trained from frames")
        self._config = config
        self.videos: list[PlainVideo] = []
        self.unreadable: dict[str, str] = {}
        taken: set[str] = set()
        for path in paths:
            try:
                info = video_reader.probe(path)
            except DataError as error:
                self.unreadable[str(path)] = str(error)
                continue
            # Two files of one stem would share a key in the results.
            video_id = path.stem if path.stem not in taken else path.name
            taken.add(video_id)
            self.videos.append(PlainVideo(video_id, path, info.times.end_s))

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def video_ids(self) -> list[str]:
        """The video of every sample, in order."""
        return [video.id for video in self.videos]

    def __getitem__(self, index: int) -> Sample:
        video, data = self.videos[index], self._config.data
        decoded = videos.read_snippets(video.path, data.length, data.frames)
        clips = gather_clips(transforms.transform(decoded.frames, data.frames, None, training=False), decoded.index)
        nothing, no_label = torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)
        return Sample(video.id, index, decoded.start_s, decoded.duration_s, clips, nothing, no_label)


class Detecting:
    """The network as a function from batches to raw detections.

    Args:
        model: on its device; it is put into evaluation mode.
        config: the experiment.
        listeners: are told of the phases encode and detect.
        placement: moves frames to the device; None: the real one.

    Attributes:
        device: the model's.
    """

    def __init__(
        self, model: Etad, config: Config, listeners: Sequence[Listener] = (), placement: Placement | None = None
    ) -> None:
        self._model = model.eval()
        self._listeners = tuple(listeners)
        self._config = config
        self.device = next(model.parameters()).device
        self._grid = dense_grid(config.data.length, config.model.detector.max_duration).to(self.device)  # [K, 2]
        self._encoding = Encoding(model, config, placement)
        if config.efficiency.compile:
            compile_module(model.base_detector)

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> list[RawTensors]:
        """Return the raw detections of every sample of the batch, on the model's device."""
        frames = batch.input_ if self._encoding.frames_on_host else batch.input_.to(self.device)
        features = self._encode(frames)  # [B, C, N]
        precision = detector_precision(self._config)
        with announced(self._listeners, Phase.DETECT), autocast(self.device, precision):
            output = self._model.base_detector(features, self._grid.expand(len(batch), -1, -1))
            classifier = self._model.snippet_classifier
            # The last class is background.
            classes = None if classifier is None else classifier(features).softmax(dim=1)[:, :-1]  # [B, classes, N]
        segments, scores, maps = output.segments, output.scores, output.boundary_maps
        by_position = None if classes is None else classes.transpose(1, 2)
        return [
            RawTensors(
                segments=segments[row],
                scores=scores[row],
                start=maps[row, 0],
                end=maps[row, 1],
                snippet_classes=None if by_position is None else by_position[row],
                start_s=batch.starts_s[row],
                duration_s=batch.durations_s[row],
            )
            for row in range(len(batch))
        ]

    def _encode(self, frames: Tensor) -> Tensor:
        if self._encoding.encoder is None:
            return frames
        with announced(self._listeners, Phase.ENCODE):
            return self._encoding.features(frames)


def infer(
    model: Etad,
    dataset: VideoDataset | PlainVideos,
    config: Config,
    world: World,
    class_scores: ClassScores | None = None,
    log: DetectionLog | None = None,
) -> dict[str, Detections]:
    """Detect the actions of every video.

    Args:
        model: on the world's device.
        dataset: videos, or windows of them.
        config: the experiment.
        world: the processes that share the videos.
        class_scores: needed by ``postprocess.classes: external``.
        log: this process's; videos that it holds are not detected again.

    Returns:
        Detections by video id, in the data set's order; in every process those of all processes.

    Raises:
        DataError: a file cannot be used, or a video has no class scores.
    """
    mine = [video.id for video in dataset.videos[world.rank :: world.size]]
    durations = {video.id: video.duration_s for video in dataset.videos}
    done = {} if log is None else log.found
    found = {video_id: done[video_id] for video_id in mine if video_id in done}
    bar = progress(
        _detected(Detecting(model, config), dataset, [id_ for id_ in mine if id_ not in found], config, class_scores),
        "infer",
        total=len(mine),
        unit="video",
        done=len(found),
        shown=world.is_main,
    )
    for video_id, detections in bar:
        found[video_id] = detections
        if log is not None:
            log.add(video_id, detections)
    everything = {video_id: one for part in world.gather(found) for video_id, one in part.items()}
    return {video_id: everything[video_id] for video_id in durations}


def postprocess(
    videos: Mapping[str, Sequence[RawTensors]],
    durations_s: Mapping[str, float],
    config: PostprocessConfig,
    class_scores: ClassScores | None = None,
) -> dict[str, Detections]:
    """Turn the raw outputs of videos into their detections, where they lie: all at once on a GPU, else by numpy.

    On a CPU numpy is faster: it leaves what the boundary filter drops out of soft-NMS. Arguments and errors are those
    of :func:`etad.detections.batched_postprocess.batched_detections`.
    """
    if any(view.segments.device.type == "cuda" for views in videos.values() for view in views):
        return batched_detections(videos, durations_s, config, class_scores)
    return {
        video_id: to_detections(
            video_id, [view.on_host() for view in views], durations_s[video_id], config, class_scores
        )
        for video_id, views in videos.items()
    }


@dataclass(frozen=True)
class DetectedTestSet:
    """The detections of a test set, as what a submission needs.

    Attributes:
        found: detections by video id.
        classes: names of the class numbers.
        class_scores: name of the external score file; None where none was used.
        missing: ids of test videos that have no file, and so no detection.
        made_by: what the detections depend on; see :func:`etad.inputs.detection_inputs`.
        spent_s: seconds that detection took, over all calls; None where no log was kept.
    """

    found: dict[str, Detections]
    classes: tuple[str, ...]
    class_scores: str | None
    missing: tuple[str, ...]
    made_by: Inputs
    spent_s: float | None = None

    def submission(self) -> dict[str, Any]:
        """Return the submission JSON (specification, section 7), with what it was made from beside its results."""
        used = {"used": self.class_scores is not None, "details": self.class_scores or ""}
        return submission(self.found, self.classes, used) | {MADE_BY: self.made_by}


def infer_test_set(
    model: Etad,
    config: Config,
    classes: Sequence[str],
    world: World,
    log: Path | None = None,
    annotations: Annotations | None = None,
) -> DetectedTestSet:
    """Detect the actions of an experiment's test videos, with its way of getting classes.

    Args:
        model: its device does not matter.
        config: the experiment.
        classes: names of the class numbers.
        world: as :func:`infer`.
        log: file to keep detections in as they come. Those that it holds are taken over if they were made from the
            same inputs, and a line says so; None: nothing is kept.
        annotations: those of ``config.data``; None: they are read.

    Raises:
        ConfigError: external class scores are wanted but not named, or lack a test video.
        DataError: a file cannot be used.
    """
    annotations = annotations or annotations_of(config.data)
    dataset = evaluation_dataset(config, annotations)
    post, scores, spent_s = config.postprocess, None, None
    if post.classes == "external":
        if post.class_scores is None:
            raise ConfigError("postprocess.class_scores is not set; name a score file, or set postprocess.classes")
        scores = read_class_scores(config.data.path(post.class_scores), classes)
        if lacking := scores.missing([video.id for video in dataset.videos]):
            raise DataError(f"{scores.path}: lacks {len(lacking)} test videos (first: {lacking[0]})")
    made_by = world.gather(
        detection_inputs(config, annotations, classes, model.state_dict()) if world.is_main else Inputs()
    )[0]
    model = model.to(world.device)
    if log is None:
        found = infer(model, dataset, config, world, scores)
    else:
        with DetectionLog(log, made_by) as kept:
            _tell(kept, len(dataset.videos))
            found = infer(model, dataset, config, world, scores, kept)
            spent_s = kept.spent_s
    return DetectedTestSet(
        found=found,
        classes=AGNOSTIC_CLASSES if post.classes == "agnostic" else tuple(classes),
        class_scores=None if scores is None else scores.path.name,
        missing=tuple(dataset.missing),
        made_by=made_by,
        spent_s=spent_s,
    )


def _tell(log: DetectionLog, videos: int) -> None:
    """Say what becomes of detections that were there already."""
    if log.found:
        note(
            f"{log.path}: {len(log.found)} of {videos} test videos are there already, detected with the same weights, "
            "inputs and settings; they are not detected again"
        )
    elif log.replaced is not None:
        what = ", ".join(changed(log.replaced, log.made_by)) or "what it was made from is not known"
        note(
            f"{log.path}: {what} changed since; detected again"
            if log.replaced
            else f"{log.path}: {what}; detected again"
        )


def _detected(
    detecting: Detecting,
    dataset: VideoDataset | PlainVideos,
    wanted: Sequence[str],
    config: Config,
    class_scores: ClassScores | None,
) -> Iterator[tuple[str, Detections]]:
    """Yield the detections of the wanted videos, those of a batch's complete videos together."""
    chosen = set(wanted)
    numbers = [number for number, owner in enumerate(dataset.video_ids) if owner in chosen]
    size = config.train.batch
    batches = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    views_of = Counter(dataset.video_ids)
    durations_s = {video.id: video.duration_s for video in dataset.videos}
    waiting: dict[str, list[RawTensors]] = {}
    for batch in load(dataset, batches, config.data.workers, pin_memory=detecting.device.type == "cuda"):
        for video_id, raw in zip(batch.video_ids, detecting(batch), strict=True):
            waiting.setdefault(video_id, []).append(raw)
        complete = [video_id for video_id, views in waiting.items() if len(views) == views_of[video_id]]
        videos = {video_id: waiting.pop(video_id) for video_id in complete}
        if config.data.input == "frames":
            # Nothing is found after the picture, however long the annotations, or the sound, say it is.
            durations_s.update({id_: max(view.start_s + view.duration_s for view in videos[id_]) for id_ in videos})
        yield from postprocess(videos, durations_s, config.postprocess, class_scores).items()
