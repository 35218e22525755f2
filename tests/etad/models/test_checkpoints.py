"""Weight files: the published layouts load, everything that does not fit is named."""

from pathlib import Path

import pytest
import torch
from torchvision.models import video

from etad.config import EncoderConfig, FramesConfig, load_config
from etad.errors import DataError
from etad.models.checkpoints import load_encoder, load_model, read_checkpoint, save_checkpoint
from etad.models.encoders import SnippetEncoder
from etad.models.etad import Etad
from tests.reference_inputs import fill


def backbone(name: str) -> torch.nn.Module:
    encoder = SnippetEncoder(EncoderConfig.model_validate({"name": name}), FramesConfig())
    return encoder.model["backbone"]


def filled(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: fill(name, tuple(value.shape)) for name, value in module.state_dict().items()}


def assert_loaded(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_the_tsp_file_loads(tmp_path: Path) -> None:
    target = backbone("r2plus1d_34_tsp")
    state = filled(target)
    heads = {"fc1.weight": torch.zeros(200, 512), "fc2.bias": torch.zeros(2), "features.fc.weight": torch.zeros(1)}
    torch.save({"model": {f"features.{name}": value for name, value in state.items()} | heads}, tmp_path / "tsp.pth")
    load_encoder(target, tmp_path / "tsp.pth")
    assert_loaded(target, state)


@pytest.mark.parametrize("name", ["r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t"])
def test_torchvision_state_dicts_load_without_their_heads(name: str, tmp_path: Path) -> None:
    source = getattr(video, name)()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    target = backbone(name)
    load_encoder(target, tmp_path / "weights.pth")
    assert_loaded(target, source.state_dict())


def test_a_published_etad_file_loads_whole_and_as_encoder(tmp_path: Path) -> None:
    config = load_config("anet_e2e")
    model = Etad(config, classes=200)
    state = filled(model)
    path = tmp_path / "etad.pth"
    # Published files were saved from DataParallel in some versions.
    torch.save({"epoch": 5, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    load_model(model, read_checkpoint(path), path)
    assert_loaded(model, state)
    target = backbone("r2plus1d_34_tsp")
    load_encoder(target, path)
    prefix = "feature_extractor.model.backbone."
    assert_loaded(target, {name.removeprefix(prefix): value for name, value in state.items()})


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    target = backbone("tiny")
    state = filled(target)
    state["0.0.weight"] = torch.zeros(1, 2)
    del state["1.0.weight"]
    state["stranger"] = torch.zeros(1)
    torch.save(state, tmp_path / "tiny.pth")
    with pytest.raises(DataError) as caught:
        load_encoder(target, tmp_path / "tiny.pth")
    message = str(caught.value)
    assert "1 missing (1.0.weight)" in message
    assert "1 unexpected (stranger)" in message
    assert "1 mis-shaped (0.0.weight is [1, 2], the model's is [8, 3, 1, 3, 3])" in message
    assert "\n" not in message


class Payload:
    """An object that a weight file has no business to hold."""


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "truncated"),
        (b"PK\x03\x04 cut short", "truncated"),
        ({"state_dict": Payload()}, "more than weights"),
        ([1, 2], "not a mapping"),
        ({"state_dict": {"a": 1}}, "no state dict"),
    ],
)
def test_files_that_are_no_weights_are_refused(content: object, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(DataError, match=complaint) as caught:
        load_encoder(backbone("tiny"), path)
    assert str(path) in str(caught.value)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    save_checkpoint(path, {"state_dict": filled(backbone("tiny"))})
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"cut\.pth.*truncated"):
        read_checkpoint(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "absent.pth")
