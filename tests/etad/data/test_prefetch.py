"""Augmentation on the device, and batches that are sent ahead: the same batches, in the same order."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from etad.config import load_config
from etad.data.batch import Batch, Sample, ahead
from etad.data.dataset import load, train_dataset
from etad.data.raw_clips import RawClips
from etad.data.synthetic import SyntheticSpec, write_dataset

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("rendered")
    write_dataset(folder, SyntheticSpec(videos=3), workers=1)
    return folder


def batches(root: Path, *assignments: str, workers: int = 0) -> list[Batch]:
    config = load_config("quickstart", [f"data.root={root}", "data.frames.augment=published", *assignments])
    return [batch.to(CPU) for batch in load(train_dataset(config), [[0, 1], [1]], workers)]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_device_makes_the_clips_that_the_host_makes(root: Path, workers: int) -> None:
    on_host = batches(root)
    on_device = batches(root, "data.augment_on=device", workers=workers)
    for expected, found in zip(on_host, on_device, strict=True):
        assert torch.equal(expected.input_, found.input_)
        assert expected.input_.shape[1:] == (32, 3, 8, 48, 48)
        assert not found.raw


def test_raw_frames_are_what_travels(root: Path) -> None:
    config = load_config("quickstart", [f"data.root={root}", "data.augment_on=device"])
    sample = train_dataset(config)[0]
    assert isinstance(sample.input_, RawClips)
    batch = Batch.collate([sample])
    assert batch.input_.numel() == 0
    assert len(batch.raw) == 1


class Device:
    """CUDA's streams as a log of what happens on them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.side, self.current = MagicMock(name="side"), MagicMock(name="current")
        self.current.wait_stream.side_effect = lambda stream: self.log.append("wait")
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: self.side)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.current)
        monkeypatch.setattr(torch.cuda, "stream", self._stream)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)

    @contextmanager
    def _stream(self, stream: Any) -> Iterator[None]:
        assert stream is self.side
        self.log.append("copy")
        yield


def test_a_batch_is_sent_before_the_one_in_front_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    nothing = torch.zeros(0, 2)
    samples = [Sample(str(i), i, 0.0, 1.0, torch.full((2,), float(i)), nothing, nothing[:, 0].long()) for i in range(3)]
    seen = []
    for batch in ahead([Batch.collate([sample]) for sample in samples], CPU):
        device.log.append(f"use {batch.indices[0]}")
        seen.append(batch.indices[0])
    assert seen == [0, 1, 2]
    assert device.log == ["copy", "copy", "wait", "use 0", "copy", "wait", "use 1", "wait", "use 2"]
    assert list(ahead([], CPU)) == []
