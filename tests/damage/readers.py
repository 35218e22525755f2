"""Every reader of a file that a user may hand over, with a small valid file for it."""

import functools
import gzip
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from bench.compare.thresholds import load_gates
from bench.machine.datasheets import load_profile, read_profile
from bench.machine.prices import read_prices
from bench.predict.forecast import load_factors
from bench.predict.throughput_table import COLUMNS, read_table
from bench.published.figures import load_published
from bench.records.audit import check_files
from bench.records.files import read_record
from bench.records.store import ResultStore
from bench.sweep.file import load_sweep
from etad.config import Config, DataConfig, FramesConfig, load_config
from etad.data.annotation_export import read_labelled
from etad.data.annotation_formats.reading import ReadOptions
from etad.data.annotation_import import ImportOptions, import_annotations
from etad.data.annotations import load_annotations, load_blocked
from etad.data.decoded import read_through
from etad.data.features import FeatureStore
from etad.data.synthetic_mark import MARK, read_mark, write_mark
from etad.data.video_reader import probe
from etad.data.videos import read_snippets
from etad.detections.class_scores import read_class_scores
from etad.detections.submissions import load_submission, parse_submission
from etad.loss_curves import read_losses
from etad.models.checkpoints import load_encoder, read_checkpoint
from etad.models.etad import Etad
from etad.resources import resource_folder
from etad.runs import open_run, read_run
from etad.train import CHECKPOINT
from tests.bench.records.test_record import make_record
from tests.etad.data.annotation_formats.files import EXAMPLES, Example
from tests.etad.make_videos import write_video
from tests.etad.small_runs import SMALL_DETECTOR

CLASSES = ("jump", "run")
CHANNELS = 6
FRAMES = FramesConfig(clip_frames=4, resize_height=8, resize_width=12, crop=8)


PRICES = """date: 2026-09-20
currency: USD
source: somewhere
prices:
- {provider: A, gpu: t4_16g, price_per_hour: 0.15}
- {provider: B, gpu: l4_24g, price_per_hour: 0.4, date: 2026-09-01}
"""
THROUGHPUTS = f"""{",".join(COLUMNS)}
infer,3090 pt2.4,3090,resnet18,conv,288,1024,5648.23,6.1408e+12,6.37137e+10,91
train,3090 nhwc,3090,vgg16,conv,224,256,550.5,1.92971e+13,1.10851e+11,104
"""


@dataclass(frozen=True)
class Reader:
    """A reader, and a file for it.

    Attributes:
        name: of the file within the folder that :attr:`read` is called with; damaged ones get the same.
        write: makes the valid file.
        read: reads it.
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]


def _text(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, encoding="utf-8")


def _json(tree: Any) -> Callable[[Path], object]:
    return _text(json.dumps(tree, indent=1))


def _annotations(path: Path) -> None:
    actions = [{"segment": [1.0, 4.5], "label": "run"}, {"segment": ["2", 3], "label": "jump"}]
    video = {"subset": "training", "duration": 10.5, "fps": 30, "annotations": actions}
    text = json.dumps({"version": "1", "database": {"a": video, "b": video | {"subset": "validation"}}}, indent=1)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def _submission(path: Path) -> None:
    found = [{"label": "run", "score": 0.5, "segment": [1.0, 2.0]}, {"label": "jump", "score": 1, "segment": [0, 9]}]
    _json({"version": "VERSION 1.3", "results": {"a": found, "b": []}, "external_data": {"used": False}})(path)


def _array() -> Any:
    return np.random.default_rng(0).standard_normal((20, CHANNELS)).astype(np.float32)


def _h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=_array(), compression="gzip" if path.stem == "all" else None)


def _features(path: Path) -> object:
    single = path.stem == "all"
    pattern = "{id}" if single else f"{{id}}{path.suffix}"
    folder = Path(path.name if single else ".")
    data = DataConfig(root=path.parent, folder=folder, pattern=pattern, channels=CHANNELS)
    return FeatureStore(data).read("a")


def _small_config() -> Config:
    assignments = [f"model.detector={json.dumps(SMALL_DETECTOR)}", f"data.channels={CHANNELS}", "data.length=8"]
    return load_config("anet_features", assignments)


def _checkpoint(path: Path) -> None:
    config = _small_config()
    torch.save(
        {"epoch": 1, "state_dict": Etad(config, 2).state_dict(), "config": config.resolved(), "classes": list(CLASSES)},
        path,
    )


def _run(path: Path) -> object:
    assert path.name == CHECKPOINT, path
    return read_run(path.parent), open_run(path.parent)


def _backbone() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


def _losses(path: Path) -> None:
    _text("epoch,step,tem,loss\n" + "".join(f"1,{step},0.5,{1 / step:.6g}\n" for step in range(1, 9)))(path)


@functools.cache
def _video() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_video(Path(folder) / "video.mp4", frames=12).read_bytes()


def _video_beside(path: Path) -> Path:
    video = path.parent / "video.mp4"
    video.write_bytes(_video())
    # What is kept is kept for a file of this time.
    os.utime(video, (0, 0))
    return video


def _write_decoded(path: Path) -> None:
    read_through(path.parent / "kept", _video_beside(path), 3, FRAMES)
    (made,) = (path.parent / "kept").iterdir()
    made.rename(path)


def _decoded(path: Path) -> object:
    video, folder = _video_beside(path), path.parent / "kept"
    read_through(folder, video, 3, FRAMES)
    (kept,) = folder.iterdir()
    path.replace(kept) if path.is_file() else kept.unlink()
    kept_snippets = read_through(folder, video, 3, FRAMES)
    expected = read_snippets(video, 3, FRAMES)
    if not (
        torch.equal(kept_snippets.frames, expected.frames)
        and torch.equal(kept_snippets.index, expected.index)
        and (kept_snippets.start_s, kept_snippets.duration_s) == (expected.start_s, expected.duration_s)
    ):
        raise AssertionError("other snippets than the video's")
    return kept_snippets.frames


def _scores(tree: Any) -> tuple[Callable[[Path], object], Callable[[Path], object]]:
    return _json(tree), lambda path: read_class_scores(path, CLASSES).rows


def _record(path: Path) -> None:
    ResultStore(path.parent).write(make_record())
    (made,) = path.parent.rglob("*.json")
    made.rename(path)


def _stored(path: Path) -> object:
    list(ResultStore(path.parent).scan())
    list(check_files([path]))
    return read_record(path)


PROFILE = "a100_pcie_80g"


def _shipped(folder: str, name: str) -> Callable[[Path], object]:
    return lambda path: path.write_bytes((resource_folder(folder) / name).read_bytes())


SWEEP = """
name: some
config: anet_features
seeds: 2
settings: {train.epochs: 3}
parts:
  memory: {suite: memory, grid: {step.chunk: [1, 4]}, exclude: [{step.chunk: 4}]}
  other: null
"""


def _import(number: int, example: Example) -> Reader:
    """Return the import of a labelling tool's file, whose format is told by its content where it still can be."""
    content = example.content.encode() if isinstance(example.content, str) else example.content
    options = ImportOptions(example.format if number % 2 else "auto", ReadOptions(fps=10, **example.options))  # type: ignore[arg-type]
    return Reader(
        f"{example.format}_{number}_{example.name}",
        lambda path: path.write_bytes(content),
        lambda path: import_annotations([(path, None)], options),
    )


READERS: tuple[Reader, ...] = (
    Reader("annotations.json", _annotations, load_annotations),
    Reader("annotations.json.gz", _annotations, load_annotations),
    Reader("blocked.json", _json(["a", "b"]), lambda path: load_blocked(DataConfig(root=path.parent, blocked=path))),
    Reader("submission.json", _submission, lambda path: parse_submission(load_submission(path), path, CLASSES)),
    Reader("cuhk.json", *_scores({"class": ["run", "jump"], "results": {"a": [0.5, 1], "b": [1e-3, 0.25]}})),
    Reader("one_class.json", *_scores({"a": {"class": "run", "score": 0.5}, "b": {"class": "x", "score": 1}})),
    Reader(
        "scores.npy",
        lambda path: np.save(path, np.full((3, 101), 0.1, dtype=np.float32)),
        lambda path: read_class_scores(path, ("Diving",)),
    ),
    Reader("a.npy", lambda path: np.save(path, _array()), _features),
    Reader("a.npz", lambda path: np.savez_compressed(path, features=_array()), _features),
    Reader("all.npz", lambda path: np.savez(path, a=_array(), b=_array()), _features),
    Reader("a.h5", _h5, _features),
    Reader("all.hdf5", _h5, _features),
    Reader("a.pt", lambda path: torch.save(torch.from_numpy(_array()), path), _features),
    Reader("video.mp4", lambda path: write_video(path, frames=12), lambda path: probe(path).problem),
    Reader("frames.mp4", lambda path: write_video(path, frames=12), lambda path: read_snippets(path, 3, FRAMES)),
    Reader("clip.avi", lambda path: write_video(path, frames=12), lambda path: read_snippets(path, 3, FRAMES)),
    Reader("weights.pt", _checkpoint, read_checkpoint),
    Reader(CHECKPOINT, _checkpoint, _run),
    Reader(
        "encoder.pth",
        lambda path: torch.save(_backbone().state_dict(), path),
        lambda path: load_encoder(_backbone(), path),
    ),
    Reader("losses.csv", _losses, read_losses),
    Reader(MARK, lambda path: write_mark(path.parent, "features", {"seed": 1}), lambda path: read_mark(path.parent)),
    Reader("config.yaml", _shipped("configs", "anet_e2e.yaml"), load_config),
    Reader("sweep.yaml", _text(SWEEP), load_sweep),
    Reader(f"{PROFILE}.yaml", _shipped("profiles", f"{PROFILE}.yaml"), read_profile),
    Reader("profile.yaml", _shipped("profiles", f"{PROFILE}.yaml"), lambda path: load_profile(str(path))),
    Reader("factors.yaml", _shipped("profiles", "forecast/factors.yaml"), load_factors),
    Reader("prices.yaml", _text(PRICES), lambda path: read_prices(str(path))),
    Reader("table.csv", _text(THROUGHPUTS), read_table),
    Reader("gates.yaml", _text("gates: {step_s: {better: lower, minimum_effect: 0.05}}\n"), load_gates),
    Reader(
        "published.yaml",
        lambda path: path.write_bytes(sorted(resource_folder("published").glob("*.yaml"))[0].read_bytes()),
        lambda path: load_published(folder=path.parent),
    ),
    Reader("record.json", _record, _stored),
    Reader("decoded.npz", _write_decoded, _decoded),
    Reader("labelled.json", _annotations, read_labelled),
    # One of each format and kind of file.
    *(_import(number, one) for number, one in enumerate({(one.format, one.name): one for one in EXAMPLES}.values())),
)
