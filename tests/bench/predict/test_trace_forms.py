"""The trace of a step in other forms than the published one: against executed steps, and what the device holds."""

from typing import Any

import pytest

from bench.predict.memory import predict_from_trace
from bench.predict.recorder import Category, Trace
from etad.config import Config
from etad.models.etad import Etad
from etad.phases import Phase
from etad.variants import VARIANTS
from tests.bench.predict.test_trace import alive, executed_peaks, timeline, traced_peaks
from tests.bench.small_traces import VIDEOS, small, traced

FROZEN = {"frozen_stages": 1}
PREFIX_BYTES = 16 * 2 * 12 * 12 * 4
"""Of one snippet behind the second stage of the tiny encoder: 16 channels, 2 frames of 12 pixels square, in float32."""


def formed(config: Config, **efficiency: Any) -> Config:
    return config.model_copy(update={"efficiency": config.efficiency.model_copy(update=efficiency)})


@pytest.mark.parametrize(
    "efficiency",
    [
        {"frozen_prefix": "kept", "optimizer": "fused"},
        {"planar_convolutions": True, "channels_last": True, "encoder_gradient": "bf16"},
        # On a CPU, host and device share one memory; and how much its RoIAlign takes depends on the proposals.
        {**VARIANTS["leanest"].model_dump(), "roi_align": "published"},
    ],
    ids=["kept-fused", "planar-bf16", "leanest"],
)
def test_predicted_and_executed_peaks_agree_in_other_forms(efficiency: dict[str, Any]) -> None:
    config = formed(small(FROZEN), **efficiency)
    executed, predicted = executed_peaks(config), traced_peaks(traced(config, "cpu"))
    assert [phase for phase, _ in executed] == [phase for phase, _ in predicted]
    for (phase, really), (_, size_bytes) in zip(executed, predicted, strict=True):
        assert size_bytes == pytest.approx(really, rel=0.01), phase


@pytest.mark.parametrize("name", ["fast", "leanest"])
def test_tracing_equal_chunks_once_changes_nothing_in_other_forms(name: str) -> None:
    config = formed(small(FROZEN), **VARIANTS[name].model_dump())
    full, short = traced(config, shortcut=False), traced(config)
    assert timeline(full) == timeline(short)
    assert short.operators < full.operators


def before(trace: Trace, phase: Phase) -> dict[Category, int]:
    """Return what is alive when a phase of the second step begins, by category."""
    number = next(n for n, part in enumerate(trace.steady) if part.phase is phase)
    return alive(trace, [trace.setup, *(part.events for part in (*trace.first, *trace.steady[:number]))])


def test_what_the_host_holds_is_not_counted() -> None:
    held = {
        name: before(traced(formed(small(FROZEN), **VARIANTS[name].model_dump())), Phase.UPDATE_ENCODER)
        for name in ("lean", "leanest")
    }
    config = small(FROZEN)
    model = Etad(config, classes=2)
    assert model.feature_extractor is not None
    static = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    trained = [p.nbytes for p in model.parameters() if p.requires_grad]
    of_encoder = sum(p.nbytes for p in model.feature_extractor.parameters() if p.requires_grad)
    counters = 4 * len(trained)
    assert held["lean"][Category.OPTIMIZER_STATE] == 2 * sum(trained) + counters
    assert held["lean"][Category.GRADIENT] == of_encoder
    assert held["leanest"][Category.OPTIMIZER_STATE] == counters
    assert Category.GRADIENT not in held["leanest"]
    for categories in held.values():
        assert categories[Category.PARAMETER] == static
        # Of the batch, only the actions.
        assert categories[Category.INPUT] < 200


@pytest.mark.parametrize(("sampler", "snippets"), [("random", 4), ("fps", 8)])
def test_a_prefix_kept_on_the_device_costs_what_it_is(sampler: Any, snippets: int) -> None:
    kept, offloaded = (
        predict_from_trace(
            traced(formed(small(FROZEN, snippet_sampler=sampler, snippet_ratio=0.5), frozen_prefix=form))
        ).low.steady
        for form in ("kept", "offloaded")
    )
    assert kept is not None
    assert offloaded is not None
    for phase in ("detect", "backpropagate"):
        difference = kept.phases[phase].requested_bytes - offloaded.phases[phase].requested_bytes
        assert difference == VIDEOS * snippets * PREFIX_BYTES
