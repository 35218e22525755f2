"""``etad-bench accuracy``: the data is looked at first, stages resume, one can enter half-way, records say it all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bench.cli import main
from bench.measure.data_check import check_data
from bench.records.record import Record
from bench.records.store import ResultStore
from bench.suites import accuracy
from etad.config import load_config
from etad.data import annotations
from etad.data.synthetic_mark import write_mark
from etad.infer import Detecting
from etad.variants import VARIANTS
from tests.etad.make_videos import write_video
from tests.etad.small_runs import write_small_set


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def record_in(folder: Path) -> Record:
    (record,) = ResultStore(folder).records()
    return record


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run, with its record in ``results``."""
    folder = tmp_path_factory.mktemp("runs")
    result = run("accuracy", "-c", config, "-o", folder, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    return folder


def test_it_is_measured_once_per_cell(config: Path, tmp_path: Path) -> None:
    command = ["accuracy", "-c", config, "--ratio", "0,1.0", "--seeds", 2, "-o", tmp_path / "runs", "--device", "cpu"]
    command += ["--set", "train.epochs=1", "--plot", tmp_path / "plot.png"]
    first = run(*command)
    assert first.exit_code == 0, first.stderr
    head, _, *rows, empty, low, high = first.stdout.splitlines()
    assert head.startswith("| snippet ratio | average mAP | mAP@0.5 |")
    assert [line.split("|")[1].strip() for line in rows] == ["0", "1"]
    assert all("±" in line for line in rows)
    assert empty == ""
    assert low == "- snippet ratio 0: not comparable: no published figure belongs to the config config"
    assert high.startswith("- snippet ratio 1: not comparable")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    records = list((tmp_path / "runs" / "results").rglob("*.json"))
    assert len(records) == 4
    times = [path.stat().st_mtime_ns for path in records]
    again = run(*command)
    assert again.stdout == first.stdout
    assert [line.split(": from the store, of ")[0] for line in again.stderr.splitlines()] == [
        f"etad-bench: ratio{ratio}-seed{seed}" for ratio in ("0", "1.0") for seed in (2023, 2024)
    ]
    assert [path.stat().st_mtime_ns for path in records] == times
    as_json = json.loads(run(*command, "--format", "json").stdout)
    assert [(row["snippet_ratio"], row["seeds"], row["verdict"]) for row in as_json] == [
        (0.0, 2, "not comparable"),
        (1.0, 2, "not comparable"),
    ]


def test_the_record_says_what_it_took_and_what_was_used(finished: Path) -> None:
    record = record_in(finished / "results")
    metrics = record.metrics
    assert len(metrics["epoch_s"].samples) == 2
    assert metrics["train_s"].value is not None
    assert sum(metrics["epoch_s"].samples) <= metrics["train_s"].value
    for name in ("infer_s", "evaluate_s"):
        value = metrics[name].value
        assert value is not None
        assert value > 0
    expected = {
        "proposal_ratio_used": 0.5,
        "snippet_ratio_used": 0.0,  # features: no encoder runs
        "training_videos": 6,
        "training_actions": 6,
        "training_videos_missing": 0,
        "test_videos": 6,
        "test_actions": 6,
        "test_classes": 2,
        "files_checked": 12,
        "detections_in_unknown_videos": 0,
    }
    assert {name: metrics[name].value for name in expected} == expected
    assert record.findings["classifier"].verdict == "snippet"
    assert str(record.findings["verdict"]).startswith("not comparable: no published figure")


def test_a_command_reads_the_annotation_file_once(
    config: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    load = annotations.load_annotations
    monkeypatch.setattr(annotations, "load_annotations", lambda path, **known: read.append(path) or load(path, **known))
    folds = ["-c", config, "--set", "data.folds=[training, validation]", "--set", "train.epochs=1"]
    trained = finished / "ratio0.3-seed2023"
    commands: list[list[object]] = [
        ["train", *folds, "-o", tmp_path / "folds"],
        ["infer", "--run", tmp_path / "folds"],
        ["evaluate", "--run", tmp_path / "folds"],
        ["infer", "--checkpoint", trained / "checkpoint.pt", "-c", config, "-o", tmp_path / "predictions.json"],
        ["accuracy", *folds, "--ratio", "0.5,1.0", "-o", tmp_path / "accuracy"],
    ]
    for command in commands:
        result = run(*command)
        assert result.exit_code == 0, result.output
        assert read == [config.parent / "annotations.json"], command
        read.clear()


def test_inference_goes_on_where_it_stopped(
    finished: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = record_in(finished / "results")
    monkeypatch.setattr(Detecting, "__call__", lambda *_: pytest.fail("a video was detected again"))
    result = run("accuracy", "-c", config, "-o", finished, "--store", tmp_path, "--device", "cpu")
    assert result.exit_code == 0, result.output
    again = record_in(tmp_path)
    for name in ("average_mAP", "train_s", "infer_s"):
        assert again.metrics[name] == first.metrics[name]


def test_one_can_begin_with_weights_or_with_detections(finished: Path, config: Path, tmp_path: Path) -> None:
    trained = record_in(finished / "results")
    run_folder = finished / "ratio0.3-seed2023"
    entries: dict[str, tuple[str, list[str]]] = {
        "--from-checkpoint": ("checkpoint.pt", ["train_s", "epoch_s", "proposal_ratio_used"]),
        "--predictions": ("predictions.json", ["train_s", "epoch_s", "proposal_ratio_used", "infer_s"]),
    }
    ids = {trained.cell_id}
    for option, (name, absent) in entries.items():
        folder = tmp_path / name
        result = run("accuracy", "-c", config, option, run_folder / name, "-o", folder, "--device", "cpu")
        assert result.exit_code == 0, result.output
        record = record_in(folder / "results")
        ids.add(record.cell_id)
        assert record.metrics["average_mAP"] == trained.metrics["average_mAP"]
        assert {key: record.metrics[key].value for key in absent} == dict.fromkeys(absent)
        assert all("begun with" in str(record.metrics[key].reason) for key in absent)
        assert record.measurement[option.removeprefix("--from-").removeprefix("--")] == name
    assert len(ids) == 3


def test_another_form_is_another_cell(finished: Path, config: Path, tmp_path: Path) -> None:
    weights = finished / "ratio0.3-seed2023" / "checkpoint.pt"
    arguments = ("-c", config, "--from-checkpoint", weights, "-o", tmp_path, "--device", "cpu", "--variant", "fast")
    result = run("accuracy", *arguments)
    assert result.exit_code == 0, result.output
    assert "efficiency.frozen_prefix" in result.stderr, "features need no encoder"
    record = record_in(tmp_path / "results")
    assert record.config["efficiency"] == VARIANTS["fast"].model_dump()
    assert "--variant fast" in record.command
    expected = record_in(finished / "results").metrics["average_mAP"].value
    assert record.metrics["average_mAP"].value == pytest.approx(expected, abs=1e-3)


def test_what_is_odd_about_detections_is_said(finished: Path, config: Path, tmp_path: Path) -> None:
    tree = json.loads((finished / "ratio0.3-seed2023/predictions.json").read_text())
    tree["results"]["video0"] = tree["results"].pop("video7")
    (tmp_path / "mixed.json").write_text(json.dumps(tree))
    result = run("accuracy", "-c", config, "--predictions", tmp_path / "mixed.json", "-o", tmp_path)
    assert "1 videos outside the subset validation (first: video0; 1 of subset training)" in result.stderr
    assert "1 videos of the subset validation have no detection (first: video7)" in result.stderr
    record = record_in(tmp_path / "results")
    assert record.metrics["test_videos_without_detections"].value == 1
    assert record.metrics["detections_in_unknown_videos"].value == len(tree["results"]["video0"])
    assert record.findings["classifier"].verdict == "not said in the submission"
    assert len(record.warnings) == 2


def test_synthetic_data_is_said_at_every_entry(config: Path, finished: Path, tmp_path: Path) -> None:
    write_mark(tmp_path, "drawn for a test", {})
    (tmp_path / "annotations.json").write_bytes((config.parent / "annotations.json").read_bytes())
    predictions = finished / "ratio0.3-seed2023/predictions.json"
    run("accuracy", "-c", config, "--set", f"data.root={tmp_path}", "--predictions", predictions, "-o", tmp_path)
    assert record_in(tmp_path / "results").findings["data.synthetic"].verdict == "drawn for a test"
    (tmp_path / "features").symlink_to(config.parent / "features")
    checked = run("accuracy", "-c", config, "--set", f"data.root={tmp_path}", "--check-only")
    assert checked.stdout.startswith("SYNTHETIC: drawn for a test\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--from-checkpoint", "a", "--predictions", "b"], "not both"),
        (["--predictions", "nowhere.json"], "nowhere.json: no such file"),
        (["--from-checkpoint", "nowhere.pt", "--seeds", "2"], "are for training"),
        (["--predictions", "x", "--set", "data.folds=[training, validation]"], "set data.fold"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], complaint: str, config: Path) -> None:
    result = run("accuracy", "-c", config, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in result.stderr


def test_what_is_wrong_with_the_data_is_said_before_training(tmp_path: Path) -> None:
    config = write_small_set(tmp_path / "set")
    root = tmp_path / "set"
    np.save(root / "features/video3.npy", np.full((20, 6), np.nan, dtype=np.float32))
    (root / "features/video2.npy").write_bytes(b"not an array")
    (root / "features/video7.npy").unlink()
    np.save(root / "features/video1.npy", np.zeros((90, 6), dtype=np.float32))
    tree = json.loads((root / "annotations.json").read_text())
    tree["database"]["video8"]["annotations"][0]["label"] = "swim"
    (root / "annotations.json").write_text(json.dumps(tree))
    settings = ["--set", "data.blocked=[video0, v_video9]"]

    result = run("accuracy", "-c", config, *settings, "--check-only")
    assert result.exit_code == 2
    *lines, error = result.stdout.splitlines()
    assert lines == [
        "training: 5 of 6 videos of training (1 blocked, 0 without a file), 5 actions; 5 samples",
        "test: 4 of 6 videos of validation (1 blocked, 1 without a file), 5 actions; 4 samples",
        "2 classes",
        "9 of 9 files looked at: features of 6 channels, 24 to 90 steps, one for 0.357 s",
        "warning: 1 videos of validation have no file and get no detection (first: video7)",
        "warning: 1 classes of the test set are none of the 2 trained for (first: swim): their 1 actions count in mAP, "
        "as missed where nothing else finds them",
        "warning: 1 files do not fit their annotated duration, by up to 22.1 s "
        "(first: video1: 32.1 s, annotated 10.0 s)",
    ]
    assert error.startswith(f"error: 2 files cannot be used (first: {root}/features/video2.npy: cannot be read as")
    out = tmp_path / "run"
    refused = run("accuracy", "-c", config, *settings, "-o", out, "--device", "cpu")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "2 files cannot be used" in refused.stderr.splitlines()[-1]
    assert not out.exists()
    quick = run("accuracy", "-c", config, *settings, "--check-only", "--check-files", 1)
    assert "1 of 9 files looked at" in quick.stdout
    assert quick.exit_code == 0, quick.output


def test_a_classifier_file_of_another_split_is_refused(config: Path, tmp_path: Path) -> None:
    rows = {f"v_video{number}": [0.9, 0.1] for number in [*range(6), 6, 7]}
    (tmp_path / "scores.json").write_text(json.dumps({"class": ["jump", "run"], "results": rows}))
    settings = ["--set", "postprocess.classes=external"]
    named = [*settings, "--set", f"postprocess.class_scores={tmp_path / 'scores.json'}"]
    result = run("accuracy", "-c", config, *named, "--check-only")
    assert result.exit_code == 2
    assert "classifier scores.json: lacks 4 test videos, right for 50.0 % of the rest; has 6 others" in result.stdout
    assert "scores.json: lacks 4 of 6 test videos (first: video8) and has 6 others; is it of another split?" in (
        result.stderr
    )
    unnamed = run("accuracy", "-c", config, *settings, "--check-only")
    assert "postprocess.class_scores is not set" in unnamed.stderr


def test_a_subset_trained_and_tested_on_is_said(config: Path) -> None:
    check = check_data(load_config(config, ["data.test_subsets=[training]"]), 0)
    assert "subset training is both trained and tested on" in check.warnings


def test_every_fold_is_looked_at_and_files_once(config: Path) -> None:
    checks = accuracy.check_parts(load_config(config, ["data.folds=[training, validation]"]), None)
    assert [check.test.subsets for check in checks] == [("training",), ("validation",)]
    assert [check.files.opened for check in checks] == [12, 0]


def test_headers_of_videos_are_compared_with_the_annotations(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name, frames in (("a", 75), ("b", 30), ("c", 75)):
        # The sound of b is as long as the annotation says; its picture is not.
        sound_s = 5.0 if name == "b" else 0.0
        write_video(tmp_path / "videos" / f"{name}.mp4", frames=frames, fps=15, sound_s=sound_s)
    still_ms = [*range(0, 3000, 1000), *range(3000, 5000, 100)]
    write_video(tmp_path / "videos" / "e.mp4", frames=len(still_ms), fps=10, times_ms=still_ms)
    (tmp_path / "videos/d.mp4").write_bytes(b"no video")
    entry: dict[str, Any] = {"duration": 5.0, "annotations": [{"segment": [1.0, 3.0], "label": "run"}]}
    subsets = {"a": "training", "b": "training", "c": "validation", "d": "validation", "e": "validation"}
    database = {name: {**entry, "subset": subset} for name, subset in subsets.items()}
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}))
    check = check_data(load_config("quickstart", [f"data.root={tmp_path}"]), None)
    assert check.files.content == (
        "videos, 3 at 15 frames/s, 1 at a variable rate (1 to 10 frames/s); taken at 15 frames/s"
    )
    assert check.files.misfits == 1
    assert check.files.warnings == (
        "1 pictures do not end with their annotated duration, by up to 3.0 s (first: b: 2.0 s, annotated 5.0 s); "
        "positions follow the picture",
        "1 videos have fewer than 15 frames/s (data.frames.fps), down to 4.6: frames are repeated (first: e, 4.6)",
    )
    assert set(check.files.warnings) <= set(check.warnings)
    (unusable,) = check.files.unusable
    assert "d.mp4: cannot be opened as a video" in unusable
    weights = ["model.encoder.name=r2plus1d_34_tsp", "model.encoder.weights=nowhere.pth"]
    lacking = check_data(load_config("quickstart", [f"data.root={tmp_path}", *weights]), 0)
    assert "nowhere.pth: no such file of encoder weights (model.encoder.weights)" in lacking.errors
