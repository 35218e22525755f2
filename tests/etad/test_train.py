"""Training: what a run leaves behind, and that it goes on exactly where it stopped."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from etad.config import Config, load_config
from etad.data.dataset import train_dataset
from etad.distributed import World
from etad.errors import ConfigError, DataError
from etad.models.checkpoints import read_checkpoint
from etad.models.etad import Etad
from etad.phases import Phase
from etad.train import CHECKPOINT, LOSSES, build_optimizer, rate_factor, train
from tests.etad.small_runs import write_small_set

ALONE = World(0, 1, torch.device("cpu"))


class StopAt:
    """Raises in the middle of a chosen step, as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.left = step

    def begin(self, phase: Phase) -> None:
        if phase is Phase.UPDATE_DETECTOR:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    def end(self, phase: Phase) -> None:
        pass


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def config(config_path: Path) -> Config:
    return load_config(config_path)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(folder / CHECKPOINT)["state_dict"]
    return state


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(config, train_dataset(config), folder, ALONE)
    return folder


def test_a_run_leaves_checkpoint_curve_and_tensorboard(whole: Path) -> None:
    content = read_checkpoint(whole / CHECKPOINT)
    assert (content["epoch"], content["step"]) == (2, 0)
    assert content["classes"] == ["jump", "run"]
    assert len(content["epochs_s"]) == 2
    assert 0 < sum(content["epochs_s"]) <= content["trained_s"]
    rows = list(csv.DictReader((whole / LOSSES).open()))
    assert [(row["epoch"], row["step"]) for row in rows] == [(str(e), str(s)) for e in (1, 2) for s in (1, 2, 3)]
    losses = {"loss", "tem", "stage1", "stage2", "stage3", "classifier"}
    assert set(rows[0]) == {"epoch", "step", *losses, "snippet_ratio", "proposal_ratio"}
    assert {row["proposal_ratio"] for row in rows} == {"0.5"}
    assert list((whole / "tensorboard").iterdir())


def test_the_same_seed_gives_the_same_weights(config: Config, whole: Path, tmp_path: Path) -> None:
    train(config, train_dataset(config), tmp_path, ALONE)
    assert_equal(weights(whole), weights(tmp_path))


@pytest.mark.parametrize("step", [1, 2, 4, 6])
def test_an_interrupted_run_ends_with_the_same_weights(config: Config, whole: Path, tmp_path: Path, step: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(config, train_dataset(config), tmp_path, ALONE, [StopAt(step)])
    # Whatever the new process drew before it resumed must not matter.
    torch.rand(7)
    train(config, train_dataset(config), tmp_path, ALONE)
    assert_equal(weights(whole), weights(tmp_path))
    assert (tmp_path / LOSSES).read_text() == (whole / LOSSES).read_text()
    assert len(read_checkpoint(tmp_path / CHECKPOINT)["epochs_s"]) == 2


@pytest.mark.parametrize("optimizer", ["fused", "offloaded", "int8"])
def test_an_interrupted_run_with_another_optimizer_ends_with_the_same_weights(
    config: Config, whole: Path, tmp_path: Path, optimizer: str
) -> None:
    efficiency = config.efficiency.model_copy(update={"optimizer": optimizer})
    formed = config.model_copy(update={"efficiency": efficiency})
    train(formed, train_dataset(formed), tmp_path / "whole", ALONE)
    with pytest.raises(KeyboardInterrupt):
        train(formed, train_dataset(formed), tmp_path / "stopped", ALONE, [StopAt(5)])
    torch.rand(7)
    train(formed, train_dataset(formed), tmp_path / "stopped", ALONE)
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    # Its state is not that of the published optimizer.
    with pytest.raises(ConfigError, match=r"efficiency\.optimizer"):
        train(formed, train_dataset(formed), whole, ALONE)


def test_a_killed_run_ends_with_the_same_weights(config_path: Path, tmp_path: Path) -> None:
    def command(folder: Path) -> list[str]:
        arguments = ["train", "-c", str(config_path), "-o", str(folder), "--device", "cpu", "--set", "train.epochs=30"]
        return [sys.executable, "-m", "bench.cli", *arguments]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(tmp_path / "killed"), env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = read_checkpoint(tmp_path / "killed" / CHECKPOINT)
    assert before["epoch"] < 30, "the run was over before it was killed"
    both = [
        subprocess.Popen(
            command(tmp_path / name), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for name in ("killed", "whole")
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert_equal(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    assert (tmp_path / "killed" / LOSSES).read_text() == (tmp_path / "whole" / LOSSES).read_text()


def test_another_config_in_the_same_folder_is_refused(config: Config, whole: Path) -> None:
    other = config.model_copy(update={"train": config.train.model_copy(update={"detector_lr": 0.5})})
    with pytest.raises(ConfigError, match=r"train\.detector_lr"):
        train(other, train_dataset(other), whole, ALONE)


def test_more_epochs_continue_a_finished_run(config: Config, tmp_path: Path) -> None:
    train(config, train_dataset(config), tmp_path, ALONE)
    longer = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 3})})
    train(longer, train_dataset(longer), tmp_path, ALONE)
    assert read_checkpoint(tmp_path / CHECKPOINT)["epoch"] == 3


def test_a_checkpoint_of_an_earlier_version_goes_on(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config, train_dataset(config), tmp_path, ALONE)
    content = read_checkpoint(tmp_path / CHECKPOINT)
    del content["config"]["data"]["ignored_classes"], content["inputs"]
    torch.save(content, tmp_path / CHECKPOINT)
    longer = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 3})})
    train(longer, train_dataset(longer), tmp_path, ALONE)
    assert read_checkpoint(tmp_path / CHECKPOINT)["epoch"] == 3
    assert "of an earlier version, which does not tell the data; it is taken to be the same" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(config: Config, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match=CHECKPOINT):
        train(config, train_dataset(config), tmp_path, ALONE)


def test_a_full_disk_keeps_the_last_checkpoint(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(config, train_dataset(config), tmp_path, ALONE)
    before = (tmp_path / CHECKPOINT).read_bytes()

    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, _: save(content, Full()))
    longer = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 3})})
    with pytest.raises(OSError, match=rf"No space left.*{CHECKPOINT}"):
        train(longer, train_dataset(longer), tmp_path, ALONE)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert not list(tmp_path.glob(".*")), "a temporary file was left behind"


def test_published_optimizer_groups_and_schedule() -> None:
    config = load_config("anet_e2e")
    with torch.device("meta"):
        model = Etad(config, classes=200)
    groups = {group["name"]: group for group in build_optimizer(model, config).param_groups}
    assert {name: group["lr"] for name, group in groups.items()} == {
        "encoder": 5e-7,
        "feature": 5e-4,
        "tem": 5e-4,
        "cascade": 5e-4,
    }
    assert all(group["weight_decay"] == 1e-4 for group in groups.values())
    assert len(groups["encoder"]["params"]) == 114
    assert [rate_factor(config.train, epoch) for epoch in range(6)] == [1, 1, 1, 1, 1, 0.1]
