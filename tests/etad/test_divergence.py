"""A training that diverges ends at once, says where, and keeps its last good checkpoint."""

from pathlib import Path

import pytest
import torch

from etad.config import Config, load_config
from etad.data.dataset import train_dataset
from etad.distributed import World
from etad.divergence import LONGEST, SKIPPED_STEPS, DivergenceWatch, _limited
from etad.errors import DivergedError
from etad.models.checkpoints import read_checkpoint
from etad.phases import Phase
from etad.train import CHECKPOINT, build_model, train
from tests.etad.small_runs import write_small_set

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_set(tmp_path_factory.mktemp("set"))


@pytest.mark.parametrize("rate", [0.3, 1, 1e30])
def test_a_learning_rate_far_too_high_ends_in_one_line(path: Path, rate: float, tmp_path: Path) -> None:
    config = load_config(path, [f"train.detector_lr={rate}", "train.epochs=60"])
    with pytest.raises(DivergedError) as caught:
        train(config, train_dataset(config), tmp_path, ALONE)
    message = str(caught.value)
    assert message.startswith("config: training diverged in epoch ")
    assert message.endswith("begin anew; a checkpoint written before, if any, is kept")
    assert f"lower train.detector_lr ({rate:g})" in message
    assert caught.value.exit_code == 3
    if (tmp_path / CHECKPOINT).exists():
        state = read_checkpoint(tmp_path / CHECKPOINT)["state_dict"]
        assert all(value.isfinite().all() for value in state.values())


class SpoilsAGradient:
    """Makes a gradient of a chosen step NaN."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.parameter: torch.nn.Parameter | None = None

    def begin(self, phase: Phase) -> None:
        if phase is Phase.UPDATE_DETECTOR:
            self.left -= 1
            if not self.left:
                assert self.parameter is not None
                assert self.parameter.grad is not None
                self.parameter.grad.fill_(torch.nan)

    def end(self, phase: Phase) -> None:
        pass


def test_a_gradient_that_is_not_finite_reaches_no_checkpoint(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiler = SpoilsAGradient(step=2)

    def build(config: Config, *others: object) -> torch.nn.Module:
        model = build_model(config, *others)  # type: ignore[arg-type]
        spoiler.parameter = model.base_detector.tem[2].bias
        return model

    monkeypatch.setattr("etad.train.build_model", build)
    config = load_config(path)
    with pytest.raises(DivergedError, match=r"epoch 1, step 2: the gradient is not finite.*weights base_detector.tem"):
        train(config, train_dataset(config), tmp_path, ALONE, [spoiler])
    assert read_checkpoint(tmp_path / CHECKPOINT)["step"] == 1


def test_fp16_may_leave_out_steps_but_not_all(path: Path) -> None:
    config = load_config(path, ["step.precision=fp16"])
    watch = DivergenceWatch(build_model(config, ["a"], torch.device("cpu")), config)
    overflow = {"tem": torch.tensor(torch.inf), "loss": torch.tensor(torch.inf)}
    for step in range(SKIPPED_STEPS):
        watch.add(0, step, overflow)
    watch.check()
    watch.add(0, SKIPPED_STEPS, {"loss": torch.tensor(1.0)})
    watch.add(0, SKIPPED_STEPS + 1, overflow)
    watch.check()
    for step in range(SKIPPED_STEPS):
        watch.add(1, step, overflow)
    with pytest.raises(DivergedError, match="the loss term tem is inf"):
        watch.check()


def test_on_a_gpu_proposals_far_away_are_limited_and_others_left_alone() -> None:
    x, segments = torch.zeros(1), torch.tensor([[0.25, 0.75], [-3.0, 1e30], [-torch.inf, 5.0]])
    _, limited = _limited(torch.nn.Identity(), (x, segments))
    assert torch.equal(limited, torch.tensor([[0.25, 0.75], [-3.0, LONGEST], [-LONGEST, 5.0]]))
