"""Which weights of a file are loaded, and what else may lie beside them."""

import argparse
import collections
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from etad.errors import DataError
from etad.models.checkpoints import load_model, read_checkpoint, state_dict_of


def net(value: float) -> nn.Linear:
    layer = nn.Linear(2, 1)
    nn.init.constant_(layer.weight, value)
    nn.init.constant_(layer.bias, value)
    return layer


def state(value: float) -> dict[str, Tensor]:
    return dict(net(value).state_dict())


def loaded(path: Path, content: Any, key: str | None = None) -> float:
    torch.save(content, path)
    model = net(0.0)
    load_model(model, read_checkpoint(path), path, key)
    assert torch.equal(model.weight.flatten().unique(), model.bias)
    return model.bias.item()


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (state(1), 1),
        ({"state_dict": state(1), "epoch": 5}, 1),
        ({"state_dict_ema": state(2)}, 2),
        ({"state_dict": state(1), "state_dict_ema": state(2)}, 2),
        ({"state_dict_ema": state(2), "state_dict": state(1)}, 2),
        ({"model": state(1), "model_ema": state(2)}, 2),
        ({"model": state(1), "ema": {"module": state(2), "decay": 0.999}}, 2),
        ({"model_state": state(1), "optimizer": {"state": state(3)}}, 1),
        ({"state_dict": {f"module.{name}": value for name, value in state(1).items()}}, 1),
        ({"ema": {"n_averaged": torch.tensor(7), **{f"module.{k}": v for k, v in state(2).items()}}}, 2),
    ],
)
def test_the_moving_average_comes_first(content: Any, value: float, tmp_path: Path) -> None:
    """As OpenTAD tests its ETAD: tools/test.py takes ``state_dict_ema`` where the config has ``solver.ema``."""
    assert loaded(tmp_path / "weights.pt", content) == value


def test_a_choice_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.pt"
    loaded(path, {"state_dict": state(1), "state_dict_ema": state(2)})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"etad-bench: {path}: holds state_dict_ema and state_dict; state_dict_ema is loaded")
    loaded(path, {"state_dict": state(1), "epoch": 3})
    assert capsys.readouterr().err == "", "there was no choice"


def test_a_key_chooses(tmp_path: Path) -> None:
    content = {"state_dict": state(1), "state_dict_ema": state(2), "ema": {"module": state(3)}}
    path = tmp_path / "weights.pt"
    assert loaded(path, content, "state_dict") == 1
    assert loaded(path, content, "ema.module") == 3
    with pytest.raises(
        DataError, match=r"no weights under the key 'model'; there are: state_dict, state_dict_ema, ema"
    ):
        loaded(path, content, "model")


@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=1e-4, name="tsp", milestones=[4, 6]),
        np.float64(0.5),
        np.int64(3),
        np.arange(3),
        np.array(["a", "b"]),
        pathlib.Path("data/activitynet"),
        collections.OrderedDict(a=1),
        collections.defaultdict(list, {}),
        {"nested": argparse.Namespace(value=np.float32(1.5))},
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_may_lie_beside_weights(beside: Any, tmp_path: Path) -> None:
    """TSP's own train.py writes its command line, an ``argparse.Namespace``, under ``args``."""
    assert loaded(tmp_path / "weights.pt", {"model": state(1), "args": beside}) == 1


class Touch:
    """Runs something when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_code_does_not_run_and_the_refusal_is_ours(tmp_path: Path) -> None:
    path, mark = tmp_path / "weights.pt", tmp_path / "ran"
    torch.save({"model": state(1), "args": Touch(mark)}, path)
    with pytest.raises(DataError) as refusal:
        read_checkpoint(path)
    message = str(refusal.value)
    assert not mark.exists()
    assert message.startswith(f"{path}: not loaded, since it holds more than weights and plain values (")
    assert "weights_only" not in message
    assert "\n" not in message


def test_what_is_let_through_for_a_file_is_not_for_the_program(tmp_path: Path) -> None:
    # torch keeps them as a set and lists them in any order.
    before = set(torch.serialization.get_safe_globals())
    loaded(tmp_path / "weights.pt", {"model": state(1), "args": argparse.Namespace(lr=1.0)})
    assert set(torch.serialization.get_safe_globals()) == before
    assert state_dict_of({"model": state(1)}, tmp_path).keys() == {"weight", "bias"}
