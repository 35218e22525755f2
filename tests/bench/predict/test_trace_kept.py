"""Tensors that live on after their step, as those that a model keeps for the next one."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.predict import trace as tracing
from bench.predict.memory import predict_from_trace
from bench.predict.recorder import Trace
from bench.predict.trace import trace_inference, trace_training
from etad.config import Config
from etad.models.etad import Etad
from tests.bench.predict.test_trace import timeline
from tests.bench.small_traces import RULES, small

KEPT_BYTES = 4000


class Keeping(Etad):
    """Its encoder or its detector keeps tensors of ``KEPT_BYTES`` from one call to the next."""

    part = "base_detector"
    habit = "none"

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__(config, classes)
        self.kept: list[Tensor] = []
        self.calls = 0
        getattr(self, self.part).register_forward_pre_hook(lambda *_: getattr(self, self.habit)())

    def none(self) -> None:
        pass

    def lazy(self) -> None:
        self.kept = self.kept or [torch.empty(KEPT_BYTES // 4)]

    def replaced(self) -> None:
        self.kept = [torch.empty(KEPT_BYTES // 4)]

    def collected(self) -> None:
        self.kept.append(torch.empty(KEPT_BYTES // 4))

    def given_up(self) -> None:
        self.calls += 1
        self.kept = [torch.empty(KEPT_BYTES // 4)] if self.calls == 1 else []


def with_habit(monkeypatch: pytest.MonkeyPatch, habit: str, part: str = "base_detector") -> None:
    monkeypatch.setattr(tracing, "Etad", type("Model", (Keeping,), {"habit": habit, "part": part}))


def held_after_steps(trace: Trace, steps: int) -> list[int]:
    """Return the bytes that are alive after each step."""
    alive = {event.key: event.size_bytes for event in trace.setup}
    held = []
    for _, parts in zip(range(steps), trace.steps(), strict=False):
        for event in (event for part in parts for event in part.events):
            if event.size_bytes:
                assert event.key not in alive
                alive[event.key] = event.size_bytes
                assert trace.allocation(event.key).size_bytes == event.size_bytes
            else:
                del alive[event.key]
        held.append(sum(alive.values()))
    return held


@pytest.mark.parametrize(
    ("habit", "kept_after_steps"),
    [("lazy", [1, 1, 1, 1]), ("replaced", [1, 1, 1, 1]), ("collected", [1, 2, 3, 4]), ("given_up", [1, 0, 0, 0])],
)
def test_what_a_detector_keeps(habit: str, kept_after_steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    with_habit(monkeypatch, "none")
    without = held_after_steps(trace_inference(small(), rules=RULES["cuda"]), 4)
    with_habit(monkeypatch, habit)
    trace = trace_inference(small(), rules=RULES["cuda"])
    kept = [held - other for held, other in zip(held_after_steps(trace, 4), without, strict=True)]
    assert kept == [number * KEPT_BYTES for number in kept_after_steps]
    prediction = predict_from_trace(trace)
    assert prediction.low.settled
    assert prediction.composition is not None
    assert sum(prediction.composition.categories.values()) == prediction.composition.requested_bytes


@pytest.mark.parametrize(
    ("habit", "strategy"), [("lazy", "checkpointed"), ("replaced", "sequential"), ("replaced", "checkpointed")]
)
def test_what_an_encoder_keeps(habit: str, strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_habit(monkeypatch, habit, "feature_extractor")
    config = small(snippets=12, strategy=strategy)
    full, short = (trace_training(config, 2, RULES["cuda"], shortcut) for shortcut in (False, True))
    assert timeline(full) == timeline(short)
    assert predict_from_trace(short).fits == "yes"
    with_habit(monkeypatch, "none")
    without = held_after_steps(trace_training(config, 2, RULES["cuda"]), 3)
    assert [held - other for held, other in zip(held_after_steps(short, 3), without, strict=True)] == [KEPT_BYTES] * 3
