"""Synthetic features: what is said of them is true, they run with a shipped config, and they are marked as made up."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.cli import main
from etad.config import Config, load_config
from etad.data.annotations import Action, Video
from etad.data.dataset import evaluation_dataset as open_test_set
from etad.data.dataset import train_dataset
from etad.data.synthetic_features import (
    FeatureSpec,
    Layout,
    draw_class_scores,
    draw_features,
    draw_prototypes,
    lay_out,
    write_features,
)
from etad.data.synthetic_mark import MARK, synthetic_text
from etad.detections.class_scores import read_class_scores
from etad.errors import ConfigError, DataError

CLASSES = ("dance", "jump", "run")
VIDEO = Video("v", "training", 100.0, None, (Action(20.0, 50.0, "run"), Action(60.0, 80.0, "dance")))


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    database = {
        f"{subset}{number}": {
            "subset": subset,
            "duration": 20.0 + number,
            "annotations": [{"segment": [2.0, 30.0], "label": CLASSES[number % 3]}],
        }
        for subset in ("training", "validation", "testing")
        for number in range(6)
    }
    path = tmp_path / "real.json"
    path.write_text(json.dumps({"database": database}))
    return path


def features_config(root: Path, *settings: str) -> Config:
    return load_config("anet_features", [f"data.root={root}", "data.channels=8", "data.workers=0", *settings])


def test_without_noise_a_step_is_what_it_shows() -> None:
    spec = FeatureSpec(noise=0.0)
    prototypes = draw_prototypes(spec, 3, 64)
    features = draw_features(VIDEO, Layout(200, 0.0, 0.5), CLASSES, prototypes, spec)
    assert features.dtype == np.float32
    assert features[10] == pytest.approx(prototypes.background)
    assert features[70] == pytest.approx(prototypes.classes[2])
    assert features[140] == pytest.approx(prototypes.classes[0])
    # The step after the start shows the run in full, and most of the start's bump.
    bump = np.exp(-0.5 * (0.5 / 1.5) ** 2)
    assert features[40] == pytest.approx(prototypes.classes[2] + bump * prototypes.start, abs=1e-5)
    # One step over 10..30 s: half background, half run; its middle is the run's start.
    half = draw_features(VIDEO, Layout(1, 10.0, 20.0), CLASSES, prototypes, spec)[0]
    end = np.exp(-0.5 * (30 / 30) ** 2) * prototypes.end + np.exp(-0.5 * (60 / 30) ** 2) * prototypes.end
    start = prototypes.start + np.exp(-0.5 * (40 / 30) ** 2) * prototypes.start
    assert half == pytest.approx((prototypes.background + prototypes.classes[2]) / 2 + start + end, abs=1e-5)


def test_noise_is_as_strong_and_as_lasting_as_stated() -> None:
    spec, layout = FeatureSpec(noise=3.0, correlation_s=2.0), Layout(2000, 0.0, 1.0)
    video = Video("v", "training", 2000.0, None, ())
    prototypes = draw_prototypes(spec, 3, 64)
    noise = draw_features(video, layout, CLASSES, prototypes, spec) - prototypes.background
    assert noise.std() == pytest.approx(3.0, rel=0.03)
    assert noise[0].std() == pytest.approx(3.0, rel=0.3), "the first step is as noisy as the others"
    correlation = (noise[1:] * noise[:-1]).mean() / noise.var()
    assert correlation == pytest.approx(np.exp(-0.5), abs=0.02)


def test_a_video_depends_on_seed_and_id_alone() -> None:
    layout = Layout(50, 0.0, 2.0)
    drawn = [
        draw_features(video, layout, CLASSES, draw_prototypes(spec, 3, 8), spec)
        for video, spec in (
            (VIDEO, FeatureSpec()),
            (VIDEO, FeatureSpec(videos=3)),
            (VIDEO, FeatureSpec(seed=1)),
            (Video("w", "training", 100.0, None, VIDEO.actions), FeatureSpec()),
        )
    ]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).all()
    assert (drawn[0] != drawn[3]).all()


def test_steps_lie_where_the_data_set_expects_them() -> None:
    data = load_config("anet_features").data
    assert lay_out(VIDEO, data, FeatureSpec()) == Layout(94, 0.0, 100 / 94)
    assert lay_out(VIDEO, data, FeatureSpec(length=128)) == Layout(128, 0.0, 100 / 128)
    thumos = load_config("thumos_features").data
    with pytest.raises(ConfigError, match=r"no fps: set data\.fps"):
        lay_out(VIDEO, thumos, FeatureSpec())
    at_30 = Video("v", "Test", 100.0, 30.0, ())
    assert lay_out(at_30, thumos, FeatureSpec()) == Layout(748, 8 / 30, 4 / 30)


def test_class_scores_are_right_as_often_as_stated() -> None:
    spec = FeatureSpec(classifier_top1=0.7)
    videos = [Video(f"v{number}", "validation", 100.0, None, VIDEO.actions) for number in range(1000)]
    scores = np.array([draw_class_scores(video, CLASSES, spec) for video in videos])
    assert scores.sum(axis=1) == pytest.approx(1.0)
    assert (scores.argmax(axis=1) == CLASSES.index("run")).mean() == pytest.approx(0.7, abs=0.05)


def test_a_shipped_config_runs_on_them(annotations: Path, tmp_path: Path) -> None:
    config = features_config(tmp_path / "set")
    assert write_features(config, annotations, None, FeatureSpec()) == tmp_path / "set/activity_net.v1-3.min.json"
    for dataset in (train_dataset(config), open_test_set(config)):
        assert len(dataset) == 6
        assert not dataset.missing
        assert dataset.classes == CLASSES
        assert dataset[0].input_.shape == (8, 128)
    scores = read_class_scores(tmp_path / "set/cuhk_val_simp_7.json", CLASSES)
    assert not scores.missing([f"validation{number}" for number in range(6)])
    assert scores.missing(["training0"])
    text = synthetic_text(tmp_path / "set")
    assert text is not None
    assert "drawn at random, noise 16" in text
    assert text in json.loads((tmp_path / "set/activity_net.v1-3.min.json").read_text())["version"]
    assert synthetic_text(tmp_path) is None


def test_an_interrupted_set_goes_on(annotations: Path, tmp_path: Path) -> None:
    config = features_config(tmp_path / "set")
    write_features(config, annotations, None, FeatureSpec(videos=2))
    paths = sorted((tmp_path / "set/tsp_features").iterdir())
    assert [path.name for path in paths] == [f"v_{s}{n}.npy" for s in ("training", "validation") for n in (0, 3)]
    before = paths[1].read_bytes()
    paths[1].unlink()
    kept = paths[0].stat().st_mtime_ns
    write_features(config, annotations, None, FeatureSpec())
    assert len(list((tmp_path / "set/tsp_features").iterdir())) == 12
    assert paths[0].stat().st_mtime_ns == kept
    assert paths[1].read_bytes() == before


def test_nothing_real_is_written_over(annotations: Path, tmp_path: Path) -> None:
    config = features_config(tmp_path)
    with pytest.raises(DataError, match=f"holds files and no {MARK}"):
        write_features(config, annotations, None, FeatureSpec())
    config = features_config(tmp_path / "set")
    write_features(config, annotations, None, FeatureSpec(videos=1))
    with pytest.raises(DataError, match="holds features of another noise, seed"):
        write_features(config, annotations, None, FeatureSpec(noise=1.0, seed=1))
    (tmp_path / "set" / MARK).write_text("[]")
    with pytest.raises(DataError, match="cannot be read as the mark"):
        write_features(config, annotations, None, FeatureSpec(videos=1))


def test_no_id_leads_out_of_the_folder(annotations: Path, tmp_path: Path) -> None:
    tree = json.loads(annotations.read_text())
    tree["database"]["/../../../escaped"] = tree["database"].pop("training0")
    annotations.write_text(json.dumps(tree))
    with pytest.raises(DataError, match="leads out of") as caught:
        write_features(features_config(tmp_path / "set"), annotations, None, FeatureSpec())
    assert str(caught.value).startswith(str(annotations))
    assert list(tmp_path.rglob("*")) == [annotations]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["data.input=frames"], "reads frames"),
        (["data.pattern={id}.h5"], r"data\.pattern"),
        (["postprocess.class_scores=scores.npy"], r"postprocess\.class_scores"),
        (["data.annotations=a.json.gz"], "unpacked"),
    ],
)
def test_a_config_that_does_not_fit_is_named(
    settings: list[str], complaint: str, annotations: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        write_features(features_config(tmp_path / "set", *settings), annotations, None, FeatureSpec())


@pytest.mark.parametrize("change", [{"noise": -1.0}, {"noise": 1e5}, {"classifier_top1": 2.0}, {"length": 0}])
def test_bad_values_are_named(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        FeatureSpec(**change)  # type: ignore[arg-type]


def test_the_command(annotations: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(main, ["synth", *map(str, arguments)])
        return result.exit_code, result.stdout, result.stderr

    target = tmp_path / "set"
    code, out, err = run(target, "--features", "--annotations", annotations, "--set", "data.channels=4", "--videos", 3)
    assert (code, out) == (0, f"{target}/activity_net.v1-3.min.json\n")
    assert "no --blocked FILE" in err
    assert run(target, "--features")[0] == 2
    assert "--size does not go with --features" in run(target, "--features", "--size", 32)[2]
    assert "--noise needs --features" in run(target, "--noise", 1)[2]
    assert run(target, "--features", "--annotations", tmp_path / "absent.json")[0] == 2
