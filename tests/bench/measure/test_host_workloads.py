"""Where batches and raw outputs wait for what is timed."""

from pathlib import Path

import pytest
import torch

from bench.batches import placed
from bench.machine.clocks import HostClock, Stopwatch
from bench.measure import host_workloads
from bench.measure.host_workloads import Postprocessing, RealBatches
from etad.config import Config, load_config
from etad.data.batch import Batch
from etad.detections.batched_postprocess import RawTensors
from tests.etad.small_runs import write_small_set
from tests.etad.test_step import batch_of, tiny

CUDA = torch.device("cuda")


def with_frames_on(config: Config, where: str) -> Config:
    return config.model_copy(update={"efficiency": config.efficiency.model_copy(update={"frames_on": where})})


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened to batches, which stay where they are."""
    happened: list[str] = []

    def pin_memory(batch: Batch) -> Batch:
        happened.append("pinned")
        return batch

    def to(batch: Batch, device: torch.device, with_input: bool = True) -> Batch:
        happened.append("moved" if with_input else "moved without its frames")
        return batch

    monkeypatch.setattr(Batch, "pin_memory", pin_memory)
    monkeypatch.setattr(Batch, "to", to)
    return happened


@pytest.mark.parametrize(("where", "expected"), [("host", ["pinned"]), ("device", ["moved"])])
def test_a_random_batch_waits_where_a_step_on_a_gpu_finds_it(where: str, expected: list[str], moves: list[str]) -> None:
    config = with_frames_on(tiny(), where)
    placed(batch_of(config), config, CUDA)
    assert moves == expected


def test_on_a_cpu_nothing_is_pinned(moves: list[str]) -> None:
    config = with_frames_on(tiny(), "host")
    placed(batch_of(config), config, torch.device("cpu"))
    assert moves == []


@pytest.mark.parametrize(("where", "expected"), [("host", "moved without its frames"), ("device", "moved")])
def test_frames_of_real_batches_stay_on_the_host_where_the_step_takes_them_from_there(
    where: str, expected: str, moves: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[bool] = []
    load = host_workloads.load
    monkeypatch.setattr(
        host_workloads, "load", lambda *given, pin_memory: loads.append(pin_memory) or load(*given, pin_memory=False)
    )
    config = with_frames_on(load_config(write_small_set(tmp_path)), where)
    RealBatches(config, CUDA, Stopwatch(HostClock()))()
    assert loads == [True]
    assert moves == [expected]


def test_post_processing_is_what_inference_does_on_that_device(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RawTensors] = []
    monkeypatch.setattr(host_workloads, "postprocess", lambda videos, *_: seen.extend(videos["0"]))
    Postprocessing(tiny(), Stopwatch(HostClock()), torch.device("meta"))()
    (one,) = seen
    assert {one.segments.device.type, one.scores.device.type, one.start.device.type, one.end.device.type} == {"meta"}
