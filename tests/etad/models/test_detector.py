"""The detector: its efficient forms give the published outputs and gradients, with the published parameters."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from etad.config import DetectorConfig, EfficiencyConfig
from etad.models import linear
from etad.models.detector import Detector, DetectorOutput
from etad.models.linear import OneDnnSequential, onednn_linear
from tests.etad.small_runs import SMALL_DETECTOR
from tests.paths import FIXTURES
from tests.reference_inputs import fill, uniform

FORMS = [
    EfficiencyConfig(roi_align=form, linear=library)
    for form, library in product(("published", "matrix", "gather", "projected", "auto"), ("published", "onednn"))
]
EACH_ONCE = [form for form in FORMS if form.linear == "onednn" and form.roi_align != "auto"]
CHANNELS, LENGTH = 6, 16


def small_detector(efficiency: EfficiencyConfig) -> Detector:
    """A small detector that always has the same parameters."""
    torch.manual_seed(0)
    return Detector(CHANNELS, DetectorConfig.model_validate(SMALL_DETECTOR), efficiency)


def inputs(batch: int = 2, proposals: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(batch, CHANNELS, LENGTH, generator=generator)
    return features, torch.rand(batch, proposals, 2, generator=generator).sort(-1).values


def parts(output: DetectorOutput) -> dict[str, Tensor]:
    named = {"boundary_maps": output.boundary_maps}
    for number, stage in enumerate(output.stages):
        named |= {f"stage{number}.{name}": value for name, value in vars(stage).items()}
    return named


def loss_of(output: DetectorOutput) -> Tensor:
    """A function that every parameter has a part in."""
    return sum((value.double().square().sum() for value in parts(output).values()), start=torch.zeros(()).double())


def run(detector: Detector, features: Tensor, proposals: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the outputs and, by name, the gradients of parameters and features."""
    features = features.clone().requires_grad_()
    detector.zero_grad()
    output = detector(features, proposals)
    loss_of(output).backward()
    assert features.grad is not None
    gradients = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in parts(output).items()}, gradients | {"features": features.grad}


@pytest.mark.parametrize("efficiency", FORMS, ids=lambda form: f"{form.roi_align}-{form.linear}")
def test_all_forms_are_one_computation(efficiency: EfficiencyConfig) -> None:
    # In double precision: in single, a unit whose input cancels to nearly 0 may be on in one form and off in another.
    published, detector = small_detector(EfficiencyConfig()).double(), small_detector(efficiency).double()
    assert list(detector.state_dict()) == list(published.state_dict())
    features, proposals = inputs()
    expected, expected_gradients = run(published, features.double(), proposals)
    outputs, gradients = run(detector, features.double(), proposals)
    for name, value in outputs.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-6, msg=lambda text, name=name: name + text)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        error = (gradient - expected_gradients[name]).norm() / expected_gradients[name].norm()
        assert float(error) < 1e-6, name


@pytest.mark.parametrize("efficiency", FORMS, ids=lambda form: f"{form.roi_align}-{form.linear}")
def test_all_forms_agree_in_single_precision_with_and_without_gradient(efficiency: EfficiencyConfig) -> None:
    published, detector = small_detector(EfficiencyConfig()), small_detector(efficiency)
    features, proposals = inputs()
    with torch.no_grad():
        expected, inferred = published(features, proposals), detector(features, proposals)
    trained = detector(features, proposals)
    for output in (inferred, trained):
        for name, value in parts(output).items():
            torch.testing.assert_close(value.detach(), parts(expected)[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("efficiency", EACH_ONCE, ids=lambda form: form.roi_align)
def test_all_forms_give_the_published_outputs(efficiency: EfficiencyConfig) -> None:
    """Fixture: outputs of the published implementation (fp32, CPU)."""
    expected = np.load(FIXTURES / "detector_forward.npz")
    detector = Detector(512, DetectorConfig(), efficiency)
    state = detector.state_dict()
    detector.load_state_dict({name: fill(f"base_detector.{name}", tuple(v.shape)) for name, v in state.items()})
    with torch.no_grad():
        output = detector(
            (uniform("features", (2, 512, 128)) - 0.5) * 4, uniform("anchors", (2, 96, 2)).sort(-1).values
        )
    for number, stage in enumerate(output.stages):
        found = {
            "anchors": stage.segments,
            "iou": stage.tiou,
            "reg": torch.cat((stage.start_end, stage.centre_width, stage.boundary), dim=-1),
        }
        for name, value in found.items():
            published = torch.from_numpy(expected[f"{name}{number}"])
            torch.testing.assert_close(value.flatten(), published.flatten(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("efficiency", EACH_ONCE, ids=lambda form: form.roi_align)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_all_forms_run_under_autocast(efficiency: EfficiencyConfig, dtype: torch.dtype) -> None:
    detector = small_detector(efficiency)
    features, proposals = inputs()
    with torch.no_grad():
        expected = detector(features, proposals)
    with torch.autocast("cpu", dtype=dtype):
        output = detector(features.requires_grad_(), proposals)
    loss_of(output).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    # The first stage: later ones are given other proposals.
    torch.testing.assert_close(output.stages[0].tiou, expected.stages[0].tiou, rtol=0, atol=0.05)


@pytest.mark.parametrize("efficiency", EACH_ONCE, ids=lambda form: form.roi_align)
def test_all_forms_run_on_tensors_without_values(efficiency: EfficiencyConfig) -> None:
    with FakeTensorMode():
        detector = small_detector(efficiency)
        features, proposals = torch.zeros(2, CHANNELS, LENGTH, requires_grad=True), torch.zeros(2, 40, 2)
        output = detector(features, proposals)
        loss_of(output).backward()
        assert output.segments.shape == (2, 40, 2)
        assert features.grad is not None


@pytest.mark.parametrize("efficiency", EACH_ONCE, ids=lambda form: form.roi_align)
def test_a_second_run_repeats_the_first_to_the_bit(efficiency: EfficiencyConfig) -> None:
    detector = small_detector(efficiency)
    first, second = run(detector, *inputs()), run(detector, *inputs())
    for ours, theirs in zip(first, second, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_videos_do_not_see_each_other() -> None:
    detector = small_detector(EfficiencyConfig(roi_align="projected", linear="onednn"))
    features, proposals = inputs(batch=3)
    with torch.no_grad():
        together = detector(features, proposals)
        for number in range(3):
            alone = detector(features[number : number + 1], proposals[number : number + 1])
            torch.testing.assert_close(alone.scores, together.scores[number : number + 1], rtol=1e-5, atol=1e-5)


# --- linear layers by oneDNN ---


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_onednn_is_there_and_used() -> None:
    # The operator is not a public one of torch. Without it this form would silently be the published one.
    assert linear.usable(torch.zeros(1, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not linear.usable(torch.zeros(1, 1))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5), (0, 5)])
def test_onednn_linear_equals_torch(relu: bool, bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    arguments = [torch.randn(shape), torch.randn(4, 5), *([torch.randn(4)] if bias else [])]
    arguments = [argument.requires_grad_() for argument in arguments]
    expected = nn.functional.linear(*arguments)
    expected = expected.relu() if relu else expected
    actual = onednn_linear(*arguments, relu=relu)
    torch.testing.assert_close(actual, expected)
    weight = torch.randn(expected.shape)
    for ours, theirs in zip(
        torch.autograd.grad((actual * weight).sum(), arguments),
        torch.autograd.grad((expected * weight).sum(), arguments),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_onednn_gives_no_gradient_to_what_wants_none() -> None:
    layers = OneDnnSequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    layers[0].requires_grad_(False)
    layers(torch.randn(3, 5)).sum().backward()
    assert layers[0].weight.grad is None
    assert layers[2].weight.grad is not None


def test_onednn_sequential_is_sequential() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 3), nn.ReLU(inplace=True))
    layers = OneDnnSequential(*plain)
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(layers(x), plain(x))
    torch.testing.assert_close(layers[:2](x), plain[:2](x))
    assert isinstance(layers[2:], OneDnnSequential)
