"""What training, detection and scoring read, as digests: a result may be kept as long as they stay the same.

Each kind of input has a name: ``annotations`` (of the videos read), ``features`` or ``videos``, ``weights``,
``class_scores``, ``settings``, ... What is not there, on a machine that has the results only, has no digest and is
not compared.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from etad.config import Config
from etad.data.annotations import Annotations, Video
from etad.data.fingerprint import annotation_digests, input_digests
from etad.digests import DIGITS, digest, file_digest

Inputs = dict[str, str]
"""From the kind of an input to the digest of all of it."""
ByVideo = dict[str, dict[str, str]]
"""From the kind of an input to the digest of each video's, by its id; what is not of a video has its own name as id."""

SELECTION = (
    *("root", "annotations", "folder", "pattern", "train_subsets", "test_subsets", "folds", "fold", "blocked"),
    *("classes", "min_action_fraction", "cache", "decoded", "workers", "augment_on"),
)
"""Settings of ``data`` that say where things are and which videos are meant: digests of those tell it better."""
IN_WORDS = {
    "test_videos": "the test videos or their durations",
    "class_scores": "class scores",
    "encoder_weights": "the encoder's initial weights",
}
"""Kinds of input whose name is not what a user calls them."""


def training_inputs(config: Config, videos: Sequence[Video]) -> ByVideo:
    """Return what a training on ``videos`` reads: their annotations and features (or files), and initial weights."""
    return {
        "annotations": annotation_digests(videos, actions=True),
        **_files_of(config, videos),
        **({"encoder_weights": found} if (found := _encoder_weights(config)) else {}),
    }


def detection_inputs(
    config: Config, annotations: Annotations, classes: Sequence[str], weights: Mapping[str, Tensor]
) -> Inputs:
    """Return what the detections of the test videos depend on.

    Args:
        config: the experiment.
        annotations: of its data; detection needs to know which videos there are, and how long they are.
        classes: names of the class numbers.
        weights: the network's state.

    Raises:
        NothingToDoError: there is no test video.
    """
    tree = config.resolved()
    encoder = {key: value for key, value in tree["model"]["encoder"].items() if key not in ("weights", "weights_key")}
    videos = annotations.select(config.data.test_selection, annotations.blocked)
    return {
        "weights": _state_digest(weights),
        "settings": digest(
            {
                "data": {key: value for key, value in tree["data"].items() if key not in SELECTION},
                "model": tree["model"] | {"encoder": encoder},
                "precision": tree["step"]["precision"],
                "efficiency": tree["efficiency"],
                "postprocess": tree["postprocess"] | {"class_scores": None},
            }
        ),
        "classes": digest(list(classes)),
        "test_videos": digest(annotation_digests(videos, actions=False)),
        **combined({**_files_of(config, videos), **_class_scores(config)}),
    }


def experiment_inputs(parts: Iterable[Config], annotations: Annotations, *, trained: bool, detected: bool) -> Inputs:
    """Return what a whole experiment reads: a score stands as long as this does.

    Args:
        parts: the experiment, or its folds.
        annotations: of its data.
        trained: whether training is a part of it.
        detected: whether detection is.

    Raises:
        NothingToDoError: a subset has no video.
    """
    everything: dict[str, Any] = {"blocked": sorted(annotations.blocked)}
    read: ByVideo = {}
    for part in parts:
        data = part.data
        subsets = dict.fromkeys((*(data.train_selection if trained else ()), *data.test_selection))
        videos = annotations.select(tuple(subsets), annotations.blocked)
        everything |= annotation_digests(videos, actions=True)
        # A class file is not told by the videos.
        everything[f"classes of fold {data.fold}"] = annotations.trained_classes(data)
        if detected:
            _add(read, {**_files_of(part, videos), **_class_scores(part)})
        if trained:
            _add(read, {"encoder_weights": _encoder_weights(part)})
    return {"annotations": digest(everything), **combined({kind: found for kind, found in read.items() if found})}


def combined(read: Mapping[str, Mapping[str, str]]) -> Inputs:
    """Return one digest for each kind of input."""
    return {kind: digest(found) for kind, found in read.items()}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the kinds of input, in words, that are not what they were; what either side does not know is left out."""
    return [IN_WORDS.get(kind, kind) for kind, found in now.items() if before.get(kind, found) != found]


def changed_videos(before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return what is not as it was, one phrase for each kind: "features of 2 videos (first: video3)"."""
    phrases = []
    for kind, found in now.items():
        if kind not in before:
            continue
        old = before[kind]
        differing = sorted(name for name in old.keys() | found.keys() if old.get(name) != found.get(name))
        if differing and differing == [kind]:
            phrases.append(IN_WORDS.get(kind, kind))
        elif differing:
            phrases.append(f"{IN_WORDS.get(kind, kind)} of {len(differing)} videos (first: {differing[0]})")
    return phrases


def _files_of(config: Config, videos: Iterable[Video]) -> ByVideo:
    found = input_digests(config.data, [video.id for video in videos])
    return {"features" if config.data.input == "features" else "videos": found} if found else {}


def _class_scores(config: Config) -> ByVideo:
    name = config.postprocess.class_scores
    if name is None or config.postprocess.classes != "external":
        return {}
    path = config.data.path(name)
    return {"class_scores": {"class_scores": file_digest(path, path.stat().st_size)}} if path.is_file() else {}


def _encoder_weights(config: Config) -> dict[str, str]:
    path = config.model.encoder.weights
    if config.data.input != "frames" or path is None or not path.is_file():
        return {}
    return {"encoder_weights": file_digest(path, path.stat().st_size)}


def _add(read: ByVideo, more: Mapping[str, Mapping[str, str]]) -> None:
    for kind, found in more.items():
        read.setdefault(kind, {}).update(found)


def _state_digest(state: Mapping[str, Tensor]) -> str:
    hashed = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()[:DIGITS]
