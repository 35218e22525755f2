"""In float64, every form that claims the published numbers has the published gradient."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.batches import CLASSES, random_batch
from bench.forms.float64_gradients import SNIPPETS, compare_in_float64, gradients_in_float64, smaller
from bench.forms.goals import GOALS, goal_cell
from bench.forms.side_by_side import float64_metrics, variant_cells
from etad.config import Config, parse_config
from etad.models import convolutions
from etad.models.etad import Etad
from etad.variants import VARIANTS
from tests.etad.small_runs import SMALL_DETECTOR
from tests.etad.test_step import tiny

BATCH_NORM = smaller(tiny(encoder={"name": "r2plus1d_18", "frozen_stages": 2}))
FROM_FRAMES = smaller(tiny(encoder={"frozen_stages": 1}))
FROM_FEATURES = parse_config(
    {
        "name": "features",
        "data": {"channels": 6, "length": 32},
        "model": {"detector": SMALL_DETECTOR},
        "step": {"proposal_ratio": 0.5},
        "train": {"batch": 1},
    },
    source="test",
)
EXACT = 1e-12
"""Rounding of float64, over the some ten thousand additions of a step."""

Gradients = Mapping[str, Tensor]


def formed(config: Config, **efficiency: Any) -> Config:
    return config.model_copy(update={"efficiency": config.efficiency.model_copy(update=efficiency)})


def gradients(config: Config) -> Gradients:
    torch.manual_seed(0)
    return gradients_in_float64(config, Etad(config, CLASSES).state_dict(), random_batch(config))


@pytest.fixture(scope="module")
def with_batch_norm() -> Gradients:
    return gradients(BATCH_NORM)


def apart(config: Config, published: Gradients) -> float:
    """Return the largest difference over the largest gradient of the same tensor."""
    found = gradients(config)
    assert found.keys() == published.keys()
    return max(float((found[name] - one).abs().max() / one.abs().max()) for name, one in published.items() if one.any())


@pytest.mark.parametrize(
    "efficiency",
    [{"fold_norm": True}, {"planar_convolutions": True, "channels_last": True}],
    ids=["folded", "planar"],
)
def test_forms_of_convolutions_have_the_published_gradient(
    efficiency: dict[str, Any], with_batch_norm: Gradients
) -> None:
    assert apart(formed(BATCH_NORM, **efficiency), with_batch_norm) < EXACT


@pytest.mark.parametrize(
    "efficiency",
    [
        {"frozen_prefix": "kept"},
        {"frozen_prefix": "offloaded", "frames_on": "host", "encoder_gradient": "offloaded"},
        # From float64, linear: onednn is torch's own product; tests/etad/models/test_detector.py has it in float32.
        {"planar_convolutions": True, "channels_last": True, "roi_align": "projected", "linear": "onednn"},
    ],
    ids=["kept", "offloaded", "fast"],
)
def test_forms_of_the_step_have_the_published_gradient(efficiency: dict[str, Any]) -> None:
    published = gradients(FROM_FRAMES)
    assert any(name.startswith("feature_extractor.") for name in published)
    assert apart(formed(FROM_FRAMES, **efficiency), published) < EXACT


@pytest.mark.parametrize("form", ["matrix", "gather", "projected"])
def test_forms_of_roi_align_have_the_published_gradient(form: str) -> None:
    assert apart(formed(FROM_FEATURES, roi_align=form), gradients(FROM_FEATURES)) < EXACT


@pytest.fixture
def outputs() -> Iterator[set[torch.dtype]]:
    """The types that modules of the network put out."""
    seen: set[torch.dtype] = set()

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        seen.update(one.dtype for one in tensors if isinstance(one, Tensor))

    hook = nn.modules.module.register_module_forward_hook(look)
    yield seen
    hook.remove()


def test_all_of_the_step_is_in_float64(outputs: set[torch.dtype]) -> None:
    found = gradients(smaller(tiny()))
    assert outputs == {torch.float64}
    assert {one.dtype for one in found.values()} == {torch.float64}


def test_a_form_that_computes_something_else_is_found_where_float32_could_not(
    with_batch_norm: Gradients, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = convolutions.folded
    monkeypatch.setattr(convolutions, "folded", lambda weight, *others: folded(weight * (1 + 1e-8), *others))
    assert apart(formed(BATCH_NORM, fold_norm=True), with_batch_norm) > 1e-9


def test_what_float32_loses_is_no_matter_of_the_form() -> None:
    forms = {name: formed(FROM_FRAMES, **VARIANTS[name].model_dump()) for name in ("published", "fast")}
    found = compare_in_float64(forms)
    for part in ("encoder", "detector"):
        rounding = found["published"][f"{part}_gradient_rounding"]
        assert 1e-9 < rounding < 0.02
        # The form in float32 is off, too, although in float64 it is the same thing.
        assert 1e-9 < found["fast"][f"{part}_gradient_rounding"] < 0.02
        assert found["fast"][f"{part}_gradient_difference_float64"] < 1e-3 * rounding
        assert f"{part}_gradient_difference_float64" not in found["published"]


def test_the_step_is_small_but_of_the_same_form() -> None:
    full = variant_cells(goal_cell(GOALS[0], "cpu"), ["fast"])["fast"].config
    assert full.efficiency.roi_align == "auto"
    # From features, the detector sees what it sees when it is timed.
    found = smaller(full)
    assert (found.train.batch, found.data, found.step) == (1, full.data, full.step)
    assert found.efficiency.roi_align == "projected"
    from_frames = smaller(tiny(snippet_ratio=0.0))
    assert (from_frames.data.length, from_frames.step.snippet_ratio) == (SNIPPETS, 0.0)


def test_only_training_in_fp32_on_a_cpu_is_compared() -> None:
    published = tiny()
    bf16 = tiny(precision="bf16")
    assert float64_metrics({"published": published, "fast": published}, "infer", "cpu") == {}
    assert float64_metrics({"published": published, "published:bf16": bf16}, "train", "cpu") == {}
    assert float64_metrics({"published:bf16": bf16, "a": published, "b": published}, "train", "cpu") == {}
