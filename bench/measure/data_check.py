"""Looking at an experiment's data before hours are spent on it: what is there, what is missing, what does not fit.

What makes training or detection impossible is an error; everything else is a warning, and both say how many and which
is the first.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.measure.video_check import content, lines, look_at, misfits
from bench.records.record import Metric, Metrics
from etad.config import Config
from etad.data.annotations import Annotations, Video, annotations_of
from etad.data.dataset import VideoDataset, evaluation_dataset, train_dataset
from etad.data.features import FeatureStore
from etad.data.synthetic_mark import synthetic_text
from etad.detections.class_scores import ClassScores, read_class_scores
from etad.errors import ConfigError, DataError
from etad.progress import progress

DURATION_TOLERANCE = 0.05
"""A file fits its annotation when their durations differ by at most this part of it,"""
DURATION_TOLERANCE_S = 2.0
"""or by this; the last clip of a video, for example, is often left out."""


@dataclass(frozen=True)
class SubsetCheck:
    """Videos to train or to test on.

    Attributes:
        subsets: their names.
        listed: videos in the annotation file.
        blocked: of these, left out because their id is blocked.
        missing: ids of those wanted that have no file.
        used: videos that samples come from.
        samples: videos, or windows of them.
        actions: annotated actions of the videos that are not blocked.
    """

    subsets: tuple[str, ...]
    listed: int
    blocked: int
    missing: tuple[str, ...]
    used: int
    samples: int
    actions: int


@dataclass(frozen=True)
class FileCheck:
    """What is in the files.

    Attributes:
        opened: how many were looked at, of ``available``.
        available: files that samples come from.
        content: what they hold, in words.
        unusable: why files cannot be used, one line each.
        misfits: how many files are longer or shorter than the annotations say.
        warnings: what else a user should know of them, that included.
    """

    opened: int
    available: int
    content: str
    unusable: tuple[str, ...]
    misfits: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ClassifierCheck:
    """Video-level class scores.

    Attributes:
        name: of the file.
        lacking: ids of test videos that it has no scores for.
        others: videos that it has, and the test set has not.
        top1: part of the test videos whose best class is one of theirs; None where it has none of them.
    """

    name: str
    lacking: tuple[str, ...]
    others: int
    top1: float | None


@dataclass(frozen=True)
class DataCheck:
    """What was found. ``errors`` make training or detection impossible; ``warnings`` do not."""

    training: SubsetCheck
    test: SubsetCheck
    classes: int
    files: FileCheck
    classifier: ClassifierCheck | None
    synthetic: str | None
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    def metrics(self) -> Metrics:
        """Return the counts as metrics of a record."""
        counts = {
            "training_videos": self.training.used,
            "training_samples": self.training.samples,
            "training_actions": self.training.actions,
            "training_videos_blocked": self.training.blocked,
            "training_videos_missing": len(self.training.missing),
            "test_videos_blocked": self.test.blocked,
            "test_videos_missing": len(self.test.missing),
            "files_checked": self.files.opened,
            "files_of_another_duration": self.files.misfits,
        }
        metrics = {name: Metric(value=count, unit="1", exact=True) for name, count in counts.items()}
        if self.classifier is not None and self.classifier.top1 is not None:
            metrics["classifier_top1_ratio"] = Metric(value=self.classifier.top1, unit="1", exact=True)
        return metrics

    def lines(self) -> list[str]:
        """Return a summary, a line each."""
        training, test, files = self.training, self.test, self.files
        looked = f"{files.opened} of {files.available} files looked at"
        lines = [
            *([f"SYNTHETIC: {self.synthetic}"] if self.synthetic else []),
            f"training: {_subset_text(training)}; {training.samples} samples",
            f"test: {_subset_text(test)}; {test.samples} samples",
            f"{self.classes} classes",
            f"{looked}: {files.content}" if files.opened else looked,
        ]
        if self.classifier is not None:
            top1 = "" if self.classifier.top1 is None else f", right for {100 * self.classifier.top1:.1f} % of the rest"
            lines.append(
                f"classifier {self.classifier.name}: lacks {len(self.classifier.lacking)} test videos{top1}; "
                f"has {self.classifier.others} others"
            )
        lines += [f"warning: {text}" for text in self.warnings]
        return [*lines, *(f"error: {text}" for text in self.errors)]


def check_data(config: Config, files: int | None, annotations: Annotations | None = None) -> DataCheck:
    """Look at the data of an experiment (one fold of it).

    Args:
        config: the experiment.
        files: how many files to open, spread evenly over all; None: all of them. Progress goes to stderr.
        annotations: those of ``config.data``; None: they are read.

    Raises:
        DataError: annotations or the folder of features cannot be used at all.
        NothingToDoError: no sample to train or to test on is left.
    """
    data = config.data
    annotations = annotations or annotations_of(data)
    training, test = train_dataset(config, annotations), evaluation_dataset(config, annotations)
    errors: list[str] = []
    warnings = list(dict.fromkeys((*training.problems, *test.problems)))
    if shared := set(data.train_selection) & set(data.test_selection):
        warnings.append(f"subset {', '.join(sorted(shared))} is both trained and tested on")
    checks = []
    for dataset, names in ((training, data.train_selection), (test, data.test_selection)):
        check = _check_subset(annotations, dataset, names)
        checks.append(check)
        if check.missing:
            what = "cannot be trained on" if dataset is training else "get no detection"
            warnings.append(
                f"{len(check.missing)} videos of {', '.join(names)} have no file and {what} (first: {check.missing[0]})"
            )
    trained = {action.label for video in training.videos for action in video.clipped_actions()}
    warnings += annotations.untrained_lines(data, training.classes)
    untrained = sorted(
        {action.label for video in test.selected for action in video.actions if action.label in training.classes}
        - trained
    )
    if untrained:
        warnings.append(f"{len(untrained)} classes of the test set are in no training video (first: {untrained[0]})")

    everything = {video.id: video for video in (*training.videos, *test.videos)}
    found = _check_files(config, list(everything.values()), training.paths | test.paths, files)
    if found.unusable:
        errors.append(f"{len(found.unusable)} files cannot be used (first: {found.unusable[0]})")
    warnings += found.warnings
    weights = config.model.encoder.weights
    if data.input == "frames" and weights is not None and not weights.is_file():
        errors.append(f"{weights}: no such file of encoder weights (model.encoder.weights)")
    classifier = None
    if config.postprocess.classes == "external":
        try:
            classifier = _check_classifier(config, test)
        except DataError as error:
            errors.append(str(error))
    if classifier is not None and classifier.lacking:
        errors.append(
            f"{classifier.name}: lacks {len(classifier.lacking)} of {len(test.videos)} test videos "
            f"(first: {classifier.lacking[0]}) and has {classifier.others} others; is it of another split?"
        )
    return DataCheck(
        training=checks[0],
        test=checks[1],
        classes=len(training.classes),
        files=found,
        classifier=classifier,
        synthetic=synthetic_text(data.root),
        errors=tuple(errors),
        warnings=tuple(warnings),
    )


def _check_subset(annotations: Annotations, dataset: VideoDataset, names: Sequence[str]) -> SubsetCheck:
    listed = annotations.select(names)
    kept = annotations.select(names, annotations.blocked)
    return SubsetCheck(
        subsets=tuple(names),
        listed=len(listed),
        blocked=len(listed) - len(kept),
        missing=tuple(dataset.missing),
        used=len(dataset.videos),
        samples=len(dataset),
        actions=sum(len(video.actions) for video in kept),
    )


def _check_files(config: Config, videos: Sequence[Video], paths: Mapping[str, Path], count: int | None) -> FileCheck:
    chosen = list(videos)
    if count is not None and count < len(videos):
        chosen = [videos[number * len(videos) // count] for number in range(count)]
    bar = progress(chosen, "check", len(chosen), "file")
    if config.data.input == "frames":
        frames, folder = config.data.frames, config.data.path(config.data.folder)
        looks, unusable = look_at(paths, (video.id for video in bar))
        other, told = len(misfits(looks, chosen)), lines(looks, frames, folder, chosen)
        return FileCheck(len(chosen), len(videos), content(looks, frames), tuple(unusable), other, tuple(told))
    held, unusable, durations = _look_at_features(config, bar)
    differing = [
        (video, found_s)
        for video, found_s in durations
        if abs(found_s - video.duration_s) > max(DURATION_TOLERANCE * video.duration_s, DURATION_TOLERANCE_S)
    ]
    warnings = list[str]()
    if differing:
        video, found_s = differing[0]
        most_s = max(abs(found - one.duration_s) for one, found in differing)
        warnings.append(
            f"{len(differing)} files do not fit their annotated duration, by up to {most_s:.1f} s "
            f"(first: {video.id}: {found_s:.1f} s, annotated {video.duration_s:.1f} s)"
        )
    return FileCheck(len(chosen), len(videos), held, tuple(unusable), len(differing), tuple(warnings))


Look = tuple[str, list[str], list[tuple[Video, float]]]
"""What the files hold, in words; why some cannot be used; the duration that each of the others has."""


def _look_at_features(config: Config, videos: Iterable[Video]) -> Look:
    data, store = config.data, FeatureStore(config.data)
    unusable, steps = list[str](), list[tuple[Video, int]]()
    for video in videos:
        try:
            steps.append((video, store.read(video.id).shape[1]))
        except DataError as error:
            unusable.append(str(error))
    if not steps:
        return f"features of {data.channels} channels", unusable, []
    lengths = [count for _, count in steps]
    held = f"features of {data.channels} channels, {min(lengths)} to {max(lengths)} steps"
    covered: Callable[[Video, int], float]
    if data.stride_frames is not None:
        offset, stride = data.offset_frames, data.stride_frames

        def covered(video: Video, count: int) -> float:
            fps = data.fps or video.fps
            if fps is None:
                raise ConfigError(f"data.stride_frames counts frames, but {video.id} has no fps: set data.fps")
            return (offset + count * stride) / fps
    elif min(lengths) == max(lengths):
        # Resized to one length, they do not tell their duration.
        return f"{held}, whatever the duration", unusable, []
    else:
        step_s = float(np.median([video.duration_s / count for video, count in steps]))
        held += f", one for {step_s:.3f} s"

        def covered(video: Video, count: int) -> float:
            return count * step_s

    return held, unusable, [(video, covered(video, count)) for video, count in steps]


def _check_classifier(config: Config, test: VideoDataset) -> ClassifierCheck:
    name = config.postprocess.class_scores
    if name is None:
        raise DataError("postprocess.class_scores is not set; name a score file, or set postprocess.classes")
    scores = read_class_scores(config.data.path(name), test.classes)
    lacking = scores.missing(video.id for video in test.videos)
    known = set(lacking)
    covered = [video for video in test.videos if video.id not in known]
    hits = [_is_right(scores, video) for video in covered if video.actions]
    return ClassifierCheck(
        name=name.name,
        lacking=tuple(lacking),
        others=len(scores.rows) + len(scores.foreign) - len(covered),
        top1=float(np.mean(hits)) if hits else None,
    )


def _is_right(scores: ClassScores, video: Video) -> bool:
    best = scores.classes[int(scores.of(video.id).argmax())]
    return any(action.label == best for action in video.actions)


def _subset_text(check: SubsetCheck) -> str:
    return (
        f"{check.used} of {check.listed} videos of {', '.join(check.subsets)} "
        f"({check.blocked} blocked, {len(check.missing)} without a file), {check.actions} actions"
    )
