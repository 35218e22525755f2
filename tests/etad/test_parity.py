"""The network is the published one, to the number. Fixtures: outputs of the published implementation (fp32, CPU)."""

import csv

import numpy as np
import pytest
import torch
from torch import Tensor

from etad.config import Config, load_config
from etad.encoding import Encoding
from etad.losses import KEEP_DRAWS, detector_losses, make_targets
from etad.models.checkpoints import ENCODER_PREFIX
from etad.models.etad import Etad
from etad.seeding import stream
from etad.step import TrainingStep
from tests.paths import FIXTURES
from tests.reference_inputs import fill, uniform


def published_entries() -> dict[str, tuple[int, ...]]:
    with (FIXTURES / "official_state_dict.tsv").open() as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["name"]: tuple(int(size) for size in row["shape"].strip("[]").split(",") if size) for row in rows}


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("anet_e2e")


@pytest.fixture(scope="module")
def model(config: Config) -> Etad:
    model = Etad(config, classes=200)
    model.load_state_dict({name: fill(name, tuple(value.shape)) for name, value in model.state_dict().items()})
    return model


def test_state_dict_is_the_published_one(model: Etad) -> None:
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == published_entries()


def test_parameter_counts_are_the_published_ones(model: Etad) -> None:
    assert model.feature_extractor is not None
    assert round(sum(p.numel() for p in model.feature_extractor.parameters()) / 1e6, 1) == 63.5
    assert round(sum(p.numel() for p in model.base_detector.parameters()) / 1e6, 2) == 10.34


def detector_input() -> Tensor:
    return (uniform("features", (2, 512, 128)) - 0.5) * 4


def test_detector_forward(model: Etad) -> None:
    expected = np.load(FIXTURES / "detector_forward.npz")
    proposals = uniform("anchors", (2, 96, 2)).sort(-1).values
    with torch.no_grad():
        output = model.base_detector(detector_input(), proposals)

    def close(actual: Tensor, name: str) -> None:
        torch.testing.assert_close(actual.flatten(), torch.from_numpy(expected[name]).flatten(), atol=1e-5, rtol=0)

    close(output.boundary_maps, "tem")
    for number, stage in enumerate(output.stages):
        close(stage.segments, f"anchors{number}")
        close(stage.tiou, f"iou{number}")
        close(torch.cat((stage.start_end, stage.centre_width, stage.boundary), dim=-1), f"reg{number}")
    close(output.segments, "refined")


def test_encoder_forward(model: Etad, config: Config) -> None:
    expected = np.load(FIXTURES / "backbone_forward.npz")["features"]
    frames = (uniform("frames", (1, 2, 3, 16, 112, 112)) * 255).to(torch.uint8)
    features = Encoding(model, config).features(frames)
    assert np.abs(features.numpy() - expected).max() <= 1e-4 * np.abs(expected).max()


def test_loss_means(model: Etad) -> None:
    expected = np.load(FIXTURES / "loss.npz")
    true = [torch.tensor([[0.1, 0.35], [0.5, 0.9]]), torch.tensor([[0.2, 0.75]])]
    proposals = uniform("loss_anchors", (2, 495, 2)).sort(-1).values
    targets = make_targets(true, proposals, 128)
    for actual, name in ((targets.start, "gt_start"), (targets.end, "gt_end"), (targets.assigned, "gt_bbox")):
        torch.testing.assert_close(actual, torch.from_numpy(expected[name]), atol=1e-5, rtol=0)

    with torch.no_grad():
        output = model.base_detector(detector_input(), proposals)
    rows = []
    for draw in range(400):
        keep = torch.rand(3, KEEP_DRAWS, 2, 495, generator=stream("loss parity", draw))
        losses = detector_losses(output, targets, (0.7, 0.8, 0.9), keep, lambda count: count)
        rows.append([float(losses.total), float(losses.tem), *map(float, losses.stages)])
    mean, standard_error = np.mean(rows, axis=0), np.std(rows, axis=0) / np.sqrt(400)
    # Both means are of 400 draws, so the difference has the error of both. tem has no draw in it.
    tolerance = 3 * np.hypot(standard_error, expected["std"] / np.sqrt(400)) + 1e-5
    assert (np.abs(mean - expected["mean"]) <= tolerance).all(), (mean - expected["mean"]) / tolerance
    np.testing.assert_allclose(np.std(rows, axis=0), expected["std"], rtol=0.2, atol=1e-6)


def test_sampled_backward(config: Config) -> None:
    """Step 3 alone gives the published gradient for all 114 parameters."""
    expected = np.load(FIXTURES / "sampled_backward.npz")
    small = config.model_copy(update={"step": config.step.model_copy(update={"chunk": 2, "snippet_ratio": 0.5})})
    model = Etad(small, classes=200)
    model.load_state_dict({name: fill(name, tuple(value.shape)) for name, value in model.state_dict().items()})
    step = TrainingStep(model, torch.optim.SGD(model.parameters()), small)
    frames = (uniform("small_frames", (2, 8, 3, 16, 32, 32)) * 255).to(torch.uint8)
    gradient = (uniform("feature_gradient", (2, 512, 8)) - 0.5) * 1e-2

    step.encoding.backpropagate(frames, gradient, torch.from_numpy(expected["sampled"]), chunk=2)

    reached = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert sorted(reached) == sorted(expected["names"])
    for name, norm, total in zip(expected["names"], expected["grad_norm"], expected["grad_sum"], strict=True):
        actual = reached[name]
        assert float(actual.norm()) == pytest.approx(norm, rel=1e-4), name
        # A sum of many signed terms can cancel; its error is judged against the norm.
        assert float(actual.double().sum()) == pytest.approx(total, abs=1e-4 * norm * actual.numel() ** 0.5), name
    part = reached[f"{ENCODER_PREFIX}layer4.2.conv2.0.3.weight"]
    expected_part = torch.from_numpy(expected["grad_layer4_2_conv2_0_3"])
    assert (part[:8] - expected_part).norm() <= 1e-4 * expected_part.norm()
