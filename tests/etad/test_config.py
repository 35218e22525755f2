"""Configuration: the shipped files hold the published settings, and a mistake gets one helpful line."""

from pathlib import Path

import pytest

from etad.config import load_config, parse_config
from etad.errors import ConfigError
from etad.resources import resource_folder

SHIPPED = sorted(path.stem for path in resource_folder("configs").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_load_and_survive_a_round_trip(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert parse_config(config.resolved(), "round trip") == config


def test_published_end_to_end_settings() -> None:
    config = load_config("anet_e2e")
    step, train = config.step, config.train
    assert (step.strategy, step.chunk, step.snippet_ratio, step.snippet_sampler) == ("sequential", 4, 0.3, "random")
    assert step.proposal_ratio == 0.06
    assert (train.batch, train.epochs, train.detector_lr, train.encoder_lr) == (4, 6, 5e-4, 5e-7)
    assert (train.optimizer, train.weight_decay, train.lr_drop_epochs, train.seed) == ("adamw", 1e-4, (5,), 2023)
    features = load_config("anet_features")
    assert (features.train.batch, features.train.detector_lr) == (16, 1e-3)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def test_children_override_their_parents(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        child="extends: parent.yaml\nstep: {chunk: 8}",
        parent="extends: anet_e2e\nname: parent\nstep: {chunk: 2, snippet_ratio: 0.5}",
    )
    config = load_config(path, ["train.detector_lr=1e-2", "data.fps=15"])
    assert config.name == "child"
    assert (config.step.chunk, config.step.snippet_ratio, config.train.batch) == (8, 0.5, 4)
    assert (config.train.detector_lr, config.data.fps) == (0.01, 15)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("step: {snipet_ratio: 0.3}", "step.snipet_ratio: unknown key; did you mean snippet_ratio?"),
        ("model: {encoder: {frozen: 2}}", "model.encoder.frozen: unknown key; did you mean frozen_stages?"),
        ("modle: {}", "modle: unknown key; did you mean model?"),
        ("zzz: 1", "zzz: unknown key; valid keys here: name, data"),
        ("train: {batch: many}", "train.batch: must be a whole number from 1 to 2147483647, not 'many'; for example 4"),
        ("train: {batch: 0}", "train.batch: must be a whole number from 1 to 2147483647, not 0"),
        ("step: {snippet_ratio: 1.5}", "step.snippet_ratio: must be a number from 0 to 1, not 1.5; for example 0.3"),
        ("step: {strategy: serial}", "step.strategy: must be 'sequential', 'joint'"),
        ("step: 3", "step: must be a mapping, not 3"),
        ("- a\n- b", "must hold a mapping, not list"),
        ("", "is empty; it must hold a mapping"),
        ("step: [", "line 2: not valid YAML"),
        ("name: 2026-13-45", "holds a value that YAML cannot read"),
        ("data: {blocked: 3}", "data.blocked: must be a list of texts, or a path, not 3"),
        ("data: {blocked: [1]}", "data.blocked.0: must be text, not 1"),
        ("extends: [a, b]", "extends: must be one file name"),
        ("extends: nowhere.yaml", "no such config file"),
        ("data: {folds: [a, b], fold: 3}", "fold is 3, but folds lists 2"),
        ("postprocess: {classes: snippet}", "needs the section model.classifier"),
        ("data: {input: frames, window: {}}", "data.window works on features only"),
    ],
)
def test_a_mistake_gets_one_line(text: str, complaint: str, tmp_path: Path) -> None:
    path = write(tmp_path, wrong=text + "\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert complaint in message
    assert "\n" not in message


def test_a_loop_of_parents_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path, a="extends: b.yaml", b="extends: c.yaml", c="extends: a.yaml")
    with pytest.raises(ConfigError, match=r"loop \(a\.yaml -> b\.yaml -> c\.yaml -> a\.yaml\)"):
        load_config(path)


def test_an_unknown_config_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean anet_e2e"):
        load_config("anet_e2")


@pytest.mark.parametrize("assignment", ["step.chunk", "=3", "step.chunk: 3"])
def test_a_malformed_assignment_says_how_to_write_it(assignment: str) -> None:
    with pytest.raises(ConfigError, match="write it as key=value"):
        load_config("anet_e2e", [assignment])


@pytest.mark.parametrize("setting", ["voting_tiou=0.9", "windows=each"])
def test_opentads_post_processing_needs_one_score_a_segment(setting: str) -> None:
    assert load_config("anet_features", [f"postprocess.{setting}"])
    with pytest.raises(ConfigError, match=f"postprocess.{setting.split('=')[0]} is for one score a segment; leave it"):
        load_config("quickstart", [f"postprocess.{setting}"])


def test_thumos_features_has_opentads_settings() -> None:
    # configs/etad/thumos_i3d.py over configs/_base_/models/etad.py, sming256/OpenTAD, commit 3dd7b03.
    config = load_config("thumos_features")
    detector, post = config.model.detector, config.postprocess
    assert config.data.window is not None
    assert (config.data.length, config.data.window.overlap, config.data.window.min_action_inside) == (128, 0.5, 0.9)
    assert (config.data.channels, config.data.stride_frames, config.data.offset_frames) == (2048, 4, 8)
    assert (detector.bins, detector.proposal_channels, detector.proposal_hidden) == (16, 256, 256)
    assert (detector.head_hidden, detector.max_duration, detector.extension) == (128, 64, 0.5)
    assert (config.step.proposal_ratio, config.train.batch, config.train.epochs) == (0.1, 16, 8)
    assert (config.train.optimizer, config.train.detector_lr, config.train.weight_decay) == ("adam", 1e-4, 1e-4)
    assert (config.train.lr_drop_epochs, config.train.lr_drop, config.train.clip_norm) == ((5,), 0.1, 1.0)
    assert (post.soft_nms_sigma, post.max_segments, post.min_score, post.voting_tiou) == (0.3, 200, 1e-4, 0.95)
    assert (post.classes_per_segment, post.windows, config.evaluate.remove_duplicates) == (2, "each", True)


@pytest.mark.parametrize("setting", ["train.epochs=true", "train.seed=false", "step.snippet_ratio=true"])
def test_true_is_no_number(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"must be a (whole )?number"):
        load_config("quickstart", [setting])
