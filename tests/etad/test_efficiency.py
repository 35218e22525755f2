"""Every form of a step computes the published numbers: losses, gradients and updates."""

from contextlib import nullcontext
from typing import Any
from unittest.mock import MagicMock, patch

import pytest
import torch
from torch import Tensor

from etad.config import Config
from etad.errors import ConfigError
from etad.infer import Detecting
from etad.models.compiled import GraphedForward, compile_module
from etad.models.etad import Etad
from etad.offload.gradients import GradientSums
from etad.offload.optimizers import BLOCK, Int8Adam, OffloadedAdam, StoredAdam
from etad.offload.placement import Placement
from etad.phases import Phase
from etad.step import TrainingStep
from etad.train import build_optimizer
from etad.variants import VARIANTS, settings_without_effect, with_variant
from tests.etad.test_step import RecordGradients, assert_same, batch_of, streams_of, take_step, tiny

BATCH_NORM = {"name": "r2plus1d_18", "frozen_stages": 2}
TINY = {"frozen_stages": 1}


def formed(config: Config, **efficiency: Any) -> Config:
    return config.model_copy(update={"efficiency": config.efficiency.model_copy(update=efficiency)})


class Smooth(torch.nn.Softplus):
    """Takes the place of ReLU, whose gradient jumps: rounding alone can change it by a thousandth."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()


def smooth_step(config: Config) -> RecordGradients:
    with patch.object(torch.nn, "ReLU", Smooth):
        return take_step(config)[0]


@pytest.fixture(scope="module")
def published() -> RecordGradients:
    """The published step of an encoder with BatchNorm."""
    return smooth_step(tiny(encoder=BATCH_NORM, snippet_ratio=0.5))


@pytest.mark.parametrize(
    "efficiency",
    [
        {"fold_norm": True},
        {"planar_convolutions": True},
        # The detector's forms apply ReLU by themselves.
        {**VARIANTS["fast"].model_dump(), "roi_align": "published", "linear": "published"},
    ],
    ids=["folded", "planar", "fast"],
)
def test_forms_of_the_encoder_give_the_published_gradient(efficiency: dict[str, Any], published: Any) -> None:
    config = formed(tiny(encoder=BATCH_NORM, snippet_ratio=0.5), **efficiency)
    assert_same(smooth_step(config).gradients, published.gradients)


@pytest.mark.parametrize("form", ["kept", "offloaded"])
@pytest.mark.parametrize("sampler", ["random", "uniform", "block", "fps", "dpp", "gradient"])
def test_a_kept_prefix_gives_the_same_gradient_for_every_sampler(sampler: str, form: str) -> None:
    config = tiny(encoder=TINY, snippet_ratio=0.5, snippet_sampler=sampler)
    listener, result = take_step(config)
    kept, kept_result = take_step(formed(config, frozen_prefix=form))
    assert kept.phases == listener.phases
    assert kept_result.snippets == result.snippets
    # Not only close: the same draws, and the same operations on the same numbers.
    for name, gradient in listener.gradients.items():
        assert torch.equal(kept.gradients[name], gradient), name


@pytest.mark.parametrize("strategy", ["sequential", "joint", "checkpointed", "frozen"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_strategy_goes_with_a_kept_prefix(strategy: str, precision: str) -> None:
    # The last chunk is smaller than the others.
    config = tiny(encoder=TINY, strategy=strategy, precision=precision, chunk=3)
    kept = formed(config, frozen_prefix="offloaded", frames_on="host")
    assert_same(take_step(kept)[0].gradients, take_step(config)[0].gradients)


def test_the_frozen_stages_run_once_where_their_output_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    config = tiny(encoder=TINY, snippet_ratio=0.5)
    for efficiency in ({}, {"frozen_prefix": "kept"}):
        torch.manual_seed(0)
        model = Etad(formed(config, **efficiency), classes=2).train()
        assert model.feature_extractor is not None
        first = model.feature_extractor.model["backbone"][0]
        count = [0]
        first.register_forward_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.0), formed(config, **efficiency))
        step(batch_of(config), streams_of(batch_of(config)))
        calls.append(count[0])
    # Four chunks of two snippets, of which two are drawn.
    assert calls == [6, 4]


class TwoMemories(Placement):
    """Pretends that host and device are apart, and refuses to compute on what lies on the host."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.on_host: set[int] = set()

    def empty_on_host(self, like: Tensor, rows: int | None = None) -> Tensor:
        host = super().empty_on_host(like, rows)
        self.on_host.add(host.untyped_storage().data_ptr())
        return host

    def to_host(self, tensor: Tensor) -> Tensor:
        return self.empty_on_host(tensor).copy_(tensor)

    def to_device(self, tensor: Tensor) -> Tensor:
        return tensor.clone()

    def is_away(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.on_host


@pytest.mark.parametrize("strategy", ["sequential", "checkpointed"])
def test_two_memories_give_the_same_gradient(strategy: str) -> None:
    config = tiny(encoder=TINY, snippet_ratio=0.5, strategy=strategy)
    apart = formed(config, frames_on="host", frozen_prefix="offloaded")
    torch.manual_seed(0)
    model = Etad(apart, classes=2).train()
    listener, placement = RecordGradients(model), TwoMemories()
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.0), apart, [listener], placement=placement)
    batch = batch_of(apart)
    placement.on_host.add(batch.input_.untyped_storage().data_ptr())
    step(batch, streams_of(batch))
    assert_same(listener.gradients, take_step(config)[0].gradients)


def trained(config: Config, steps: int = 3, placement: Placement | None = None) -> dict[str, Tensor]:
    """Return the weights after some steps."""
    torch.manual_seed(0)
    model = Etad(config, classes=2).train()
    step = TrainingStep(model, build_optimizer(model, config, placement), config, placement=placement)
    for number in range(steps):
        batch = batch_of(config, seed=number)
        step(batch, streams_of(batch))
    return model.state_dict()


def change(after: dict[str, Tensor], config: Config) -> Tensor:
    """Return what training changed in the weights, as one vector."""
    torch.manual_seed(0)
    before = Etad(config, classes=2).state_dict()
    return torch.cat([(after[name] - before[name]).double().flatten() for name in before])


TRAINING = {"encoder_lr": 1e-3, "detector_lr": 1e-3}


def training(**train: Any) -> Config:
    config = tiny(encoder=TINY, snippet_ratio=0.5)
    return config.model_copy(update={"train": config.train.model_copy(update={**TRAINING, **train})})


@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
@pytest.mark.parametrize("form", ["fused", "offloaded"])
def test_fused_and_offloaded_optimizers_make_the_published_update(form: str, optimizer: str) -> None:
    config = training(optimizer=optimizer)
    reference = change(trained(config), config)
    difference = change(trained(formed(config, optimizer=form), placement=TwoMemories()), config) - reference
    assert float(difference.norm()) <= 1e-4 * float(reference.norm())


def test_eight_bits_of_state_make_nearly_the_published_update() -> None:
    config = training()
    reference = change(trained(config, steps=6), config)
    quantised = change(trained(formed(config, optimizer="int8"), steps=6), config)
    # Stated tolerance: one part in twenty of the update, and the same direction.
    assert float((quantised - reference).norm()) <= 0.05 * float(reference.norm())
    assert float(torch.nn.functional.cosine_similarity(quantised, reference, dim=0)) > 0.998


@pytest.mark.parametrize("clip_norm", [None, 0.01])
@pytest.mark.parametrize("optimizer", ["published", "offloaded"])
def test_a_gradient_summed_on_the_host_makes_the_published_update(optimizer: str, clip_norm: float | None) -> None:
    config = training(clip_norm=clip_norm)
    other = formed(config, encoder_gradient="offloaded", optimizer=optimizer)
    reference = change(trained(config), config)
    difference = change(trained(other, placement=TwoMemories()), config) - reference
    assert float(difference.norm()) <= 1e-4 * float(reference.norm())


def test_a_gradient_summed_in_bf16_is_nearly_the_published_one() -> None:
    config = tiny(encoder=TINY)
    reference, _ = take_step(config)

    class RecordSums(RecordGradients):
        def begin(self, phase: Phase) -> None:
            super().begin(phase)
            if phase is Phase.UPDATE_ENCODER:
                assert step.encoding.gradient_sums is not None
                names = {p: name for name, p in self.model.named_parameters()}
                self.gradients |= {names[p]: total.float() for p, total in step.encoding.gradient_sums.sums.items()}

    torch.manual_seed(0)
    other = formed(config, encoder_gradient="bf16")
    model = Etad(other, classes=2).train()
    listener = RecordSums(model)
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.0), other, [listener])
    step(batch_of(config), streams_of(batch_of(config)))
    assert listener.gradients.keys() == reference.gradients.keys()
    for name, gradient in reference.gradients.items():
        # Stated tolerance: 1 % of the norm. A number in bf16 is exact to 0.4 %, and four are added.
        assert float((listener.gradients[name] - gradient).norm()) <= 0.01 * float(gradient.norm()) + 1e-9, name
    assert all(p.grad is None for p in model.parameters())


def test_sums_of_several_processes_are_averaged() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    sums = GradientSums([parameter], "offloaded", TwoMemories())
    (parameter * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    sums.average(lambda tensor: tensor * 3, world=2)
    torch.testing.assert_close(sums.pop(parameter), torch.tensor([1.5, 3.0, 4.5]))
    assert parameter.grad is None
    assert not sums.sums


@pytest.mark.parametrize("kind", [OffloadedAdam, Int8Adam])
def test_stored_state_survives_a_checkpoint_bit_for_bit(kind: type[StoredAdam]) -> None:
    def run(interrupted: bool) -> Tensor:
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(BLOCK + 5, 2))
        optimizer = kind([{"params": [weight], "lr": 0.1}], True, 0.01, TwoMemories())
        for number in range(4):
            if interrupted and number == 2:
                saved, state = optimizer.state_dict(), torch.get_rng_state()
                optimizer = kind([{"params": [weight], "lr": 0.1}], True, 0.01, TwoMemories())
                optimizer.load_state_dict(saved)
                torch.set_rng_state(state)
            weight.grad = torch.randn(BLOCK + 5, 2, generator=torch.Generator().manual_seed(number))
            optimizer.step()
        return weight.detach()

    assert torch.equal(run(interrupted=False), run(interrupted=True))


def test_state_of_another_form_is_refused() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    groups = [{"params": [weight], "lr": 0.1}]
    offloaded = OffloadedAdam(groups, True, 0.0, Placement(torch.device("cpu")))
    offloaded.step()
    with pytest.raises(ValueError, match="exp_avg_codes"):
        Int8Adam(groups, True, 0.0, Placement(torch.device("cpu"))).load_state_dict(offloaded.state_dict())


def test_a_moment_too_small_for_eight_bits_does_not_make_a_step_infinite() -> None:
    weight = torch.nn.Parameter(torch.zeros(BLOCK))
    optimizer = Int8Adam([{"params": [weight], "lr": 0.1}], True, 0.0, Placement(torch.device("cpu")))
    for _ in range(5):
        weight.grad = torch.full((BLOCK,), 1e-6).index_fill_(0, torch.tensor([0]), 1.0)
        optimizer.step()
    # Five steps of at most five times the learning rate, where Adam itself allows three.
    assert float(weight.detach().abs().max()) <= 5 * 0.5


def test_the_state_dict_is_that_of_the_published_form() -> None:
    with torch.device("meta"):
        published, fast = (Etad(with_variant(tiny(encoder=BATCH_NORM), name), 2) for name in ("published", "fast"))
    expected, actual = published.state_dict(), fast.state_dict()
    assert list(actual) == list(expected)
    assert all(actual[name].shape == expected[name].shape for name in expected)
    assert [name for name, _ in fast.named_parameters()] == [name for name, _ in published.named_parameters()]


def test_fast_detection_finds_the_same() -> None:
    found = []
    for config in (tiny(encoder=BATCH_NORM), with_variant(tiny(encoder=BATCH_NORM), "fast")):
        torch.manual_seed(0)
        found.append(Detecting(Etad(config, classes=2), config)(batch_of(config)))
    for one, same in zip(*found, strict=True):
        torch.testing.assert_close(same.scores, one.scores)
        torch.testing.assert_close(same.segments, one.segments)


def test_the_detector_can_stay_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision, expected in (("step", True), ("fp32", False)):
        config = formed(tiny(precision="bf16"), detector_precision=precision)
        model = Etad(config, classes=2).train()
        seen: list[bool] = []
        model.base_detector.register_forward_pre_hook(
            lambda *_, seen=seen: seen.append(torch.is_autocast_enabled("cpu"))
        )
        TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.0), config)(
            batch_of(config), streams_of(batch_of(config))
        )
        Detecting(model, config)(batch_of(config))
        assert seen == [expected, expected]


def test_encoder_and_detector_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    # The compiler itself takes half a minute.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, dynamic: compiled.append(type(module).__name__))
    config = formed(tiny(), compile=True)
    take_step(config)
    Detecting(Etad(config, classes=2), config)
    assert compiled == ["SnippetEncoder", "Detector"] * 2


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"efficiency\.compile: no C\+\+ compiler \(no-such-compiler\)"):
        compile_module(Etad(tiny(), classes=2))


class FakeGraph:
    """Stands for a CUDA graph: replaying it runs what was captured again."""

    replays = 0

    def replay(self) -> None:
        FakeGraph.replays += 1


def test_a_graph_is_captured_once_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("graph_pool_handle", "current_stream", "Stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    captures = []
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool: captures.append(graph) or nullcontext())
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **settings: nullcontext())
    module = torch.nn.Linear(3, 2)
    graphed = GraphedForward(module)
    FakeGraph.replays = 0
    with torch.no_grad():
        x = torch.randn(4, 3)
        first = graphed(x)
        second = graphed(x)
        graphed(torch.randn(1, 3))
    assert torch.equal(first, module(x))
    assert first.data_ptr() != second.data_ptr()
    assert (len(captures), FakeGraph.replays) == (2, 3)


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        ("encoder", {"norm_eval": False}, "need model.encoder.norm_eval"),
        ("step", {"precision": "fp16"}, "encoder_gradient must be fp32"),
    ],
)
def test_forms_that_would_change_numbers_are_refused(section: str, settings: dict[str, Any], message: str) -> None:
    config = tiny(encoder=settings if section == "encoder" else None, **(settings if section == "step" else {}))
    efficiency = {"fold_norm": True} if section == "encoder" else {"encoder_gradient": "bf16"}
    with pytest.raises(ValueError, match=message):
        Config.model_validate({**config.resolved(), "efficiency": efficiency})


def test_settings_without_effect_are_told() -> None:
    config = with_variant(tiny(), "fast")
    assert list(settings_without_effect(config)) == [
        "efficiency.fold_norm has no effect: tiny has no BatchNorm",
        "efficiency.frozen_prefix has no effect: model.encoder.frozen_stages is 0",
    ]
    assert not list(settings_without_effect(tiny(strategy="frozen"), "cpu"))
    leanest = with_variant(tiny(encoder=BATCH_NORM), "leanest")
    assert len(list(settings_without_effect(leanest, "cpu"))) == 4
    assert not list(settings_without_effect(leanest, "cuda"))
    assert list(settings_without_effect(formed(tiny(), cuda_graphs=True), "cpu")) == [
        "efficiency.cuda_graphs has no effect: the device is a CPU"
    ]


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ConfigError, match="published, fast, lean, leanest"):
        with_variant(tiny(), "quick")
