"""Times of what a training run spends its time on; small sizes, so that all of them take a few seconds.

No time is asserted here: ``etad-bench gate`` compares two revisions on one machine.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.records.record import Metric, Record
from bench.records.store import ResultStore
from etad.config import Config, parse_config
from etad.data.batch import Batch
from etad.detections.detections import Detections
from etad.detections.soft_nms import soft_nms
from etad.evaluation.average_precision import evaluate
from etad.models.detector import ProposalHead
from etad.models.etad import Etad
from etad.models.roi_align import roi_align_1d
from etad.seeding import stream
from etad.step import TrainingStep

pytestmark = pytest.mark.benchmark(min_rounds=5, max_time=0.3, warmup=True, warmup_iterations=1, disable_gc=True)

LENGTH = 128
PROPOSALS = 100


def segments(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(1, count, 2, generator=generator).sort(-1).values


def test_roi_align(benchmark: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 64, LENGTH, generator=generator, requires_grad=True)
    proposals = segments(PROPOSALS, generator)

    def forward_and_backward() -> None:
        roi_align_1d(features, proposals, bins=24).sum().backward()

    benchmark(forward_and_backward)


def small(channels: int, **sections: Any) -> Config:
    detector = {"hidden": 64, "groups": 1, "norm_groups": 16, "proposal_channels": channels, "proposal_hidden": 128}
    model = {"encoder": {"name": "tiny", "frozen_stages": 0}, "detector": detector}
    return parse_config({"name": "small", "model": model} | sections, source="benchmark")


def test_proposal_head(benchmark: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    # A head as the model makes it, whatever that takes.
    head = next(module for module in Etad(small(32), 2).modules() if isinstance(module, ProposalHead))
    features = torch.randn(1, 64, LENGTH, generator=generator)
    proposals = segments(PROPOSALS, generator)

    def forward_and_backward() -> None:
        output = head(features, proposals)
        (output.tiou.sum() + output.start_end.sum() + output.centre_width.sum()).backward()

    benchmark(forward_and_backward)


def test_soft_nms(benchmark: Any) -> None:
    random = np.random.default_rng(0)
    candidates = np.sort(random.uniform(0, 100, (4000, 2)))
    scores = random.uniform(0, 1, 4000)
    kept, _ = benchmark(soft_nms, candidates, scores, sigma=0.35, max_segments=100)
    assert len(kept) == 100


def test_evaluation(benchmark: Any) -> None:
    random = np.random.default_rng(0)
    classes = tuple(f"class{number}" for number in range(10))
    truth, found = {}, {}
    for number in range(40):
        actions = np.sort(random.uniform(0, 100, (3, 2)))
        truth[f"video{number}"] = (actions, random.integers(0, 10, 3))
        guesses = np.concatenate([actions, np.sort(random.uniform(0, 100, (57, 2)))])
        found[f"video{number}"] = Detections(guesses, random.uniform(0, 1, 60), random.integers(0, 10, 60))
    assert benchmark(evaluate, truth, found, classes).counts.detections == 2400


def test_training_step(benchmark: Any) -> None:
    frames = {"clip_frames": 4, "crop": 16, "resize_height": 16, "resize_width": 16}
    config = small(
        8,
        data={"input": "frames", "length": 8, "frames": frames},
        step={"chunk": 2, "snippet_ratio": 0.5, "proposal_ratio": 0.5},
        train={"batch": 1},
    )
    torch.manual_seed(0)
    model = Etad(config, 2).train()
    batch = Batch(
        video_ids=("a",),
        indices=(0,),
        starts_s=(0.0,),
        durations_s=(10.0,),
        input_=torch.zeros(1, 8, 3, 4, 16, 16, dtype=torch.uint8),
        segments=(torch.tensor([[0.1, 0.6], [0.7, 0.9]]),),
        labels=(torch.tensor([0, 1]),),
    )
    step = TrainingStep(model, torch.optim.AdamW(model.parameters()), config)
    benchmark(step, batch, lambda purpose: [stream("benchmark", purpose)])


def test_record_loading(benchmark: Any, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    step_s = Metric(value=0.5, unit="s", samples=tuple(0.5 + 0.001 * number for number in range(50)))
    for number in range(20):
        store.write(
            Record(
                status="ok",
                kind="measured",
                suite="throughput",
                device="cpu",
                config={"name": "tiny", "train": {"seed": number}},
                measurement={},
                metrics={"step_s": step_s},
                phases={phase: {"time_s": step_s} for phase in ("encode", "detect", "backpropagate")},
                environment={},
                command="etad-bench throughput",
                started_at=datetime(2026, 1, 1, tzinfo=UTC),
                duration_s=1.0,
            )
        )
    assert len(benchmark(store.records)) == 20
