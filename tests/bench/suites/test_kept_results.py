"""A result that is kept stands for the data it was made from: after any change of it, the answer is a new one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from bench.cli import main
from bench.records.store import ResultStore
from etad.infer import Detecting
from tests.etad.small_runs import write_small_set


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, ``set``, and a run of it, ``runs``, that has detections of its own."""
    folder = tmp_path_factory.mktemp("kept")
    config = write_small_set(folder / "set")
    result = accuracy(config, folder / "runs")
    assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to change, whose config names the copied data."""
    folder = tmp_path / "kept"
    shutil.copytree(finished, folder)
    config = folder / "set" / "config.yaml"
    config.write_text(config.read_text().replace(str(finished), str(folder)))
    return folder


def accuracy(config: Path, out: Path, *more: object) -> Result:
    return run("accuracy", "-c", config, "-o", out, "--device", "cpu", "--format", "json", *more)


def score(result: Result) -> float:
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)
    return float(row["average_mAP_mean"])


def change_annotations(folder: Path, change: Callable[[str, dict[str, Any]], None]) -> None:
    path = folder / "set" / "annotations.json"
    tree = json.loads(path.read_text())
    for video_id, video in tree["database"].items():
        change(video_id, video)
    path.write_text(json.dumps(tree))


def moved(video_id: str, video: dict[str, Any]) -> None:
    if video["subset"] == "validation":
        video["annotations"][0]["segment"] = [9.8, 9.9]


def renamed(video_id: str, video: dict[str, Any]) -> None:
    for action in video["annotations"]:
        action["label"] = action["label"].replace("run", "walk")


def without_detecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detecting, "__call__", lambda *_: pytest.fail("a video was detected again"))


def the_run(folder: Path) -> Path:
    (path,) = (path.parent for path in (folder / "runs").glob("*/checkpoint.pt"))
    return path


# accuracy


def test_an_answer_from_the_store_says_so(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The settings name the folder, which is another one now, so the first answer is a new cell.
    accuracy(copy / "set" / "config.yaml", copy / "runs")
    without_detecting(monkeypatch)
    again = accuracy(copy / "set" / "config.yaml", copy / "runs")
    (line,) = again.stderr.splitlines()
    assert ": from the store, of 20" in line
    assert again.exit_code == 0


def test_moved_true_actions_are_scored_anew(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = copy / "set" / "config.yaml"
    before = score(accuracy(config, copy / "runs"))
    change_annotations(copy, moved)
    # Detections do not depend on true actions: only the score is new.
    without_detecting(monkeypatch)
    after = accuracy(config, copy / "runs")
    assert score(after) == 0.0 < before
    assert "annotations changed since 20" in after.stderr
    assert "are there already, detected with the same weights, inputs and settings" in after.stderr


def test_other_features_are_trained_and_detected_anew(copy: Path) -> None:
    config, checkpoint = copy / "set" / "config.yaml", the_run(copy)
    accuracy(config, copy / "runs")
    for path in (copy / "set" / "features").iterdir():
        np.save(path, np.zeros_like(np.load(path)))
    after = accuracy(config, copy / "runs")
    assert after.exit_code == 0, after.stderr
    assert "features changed since 20" in after.stderr
    assert "features of 6 videos (first: video0), changed since it was trained; trained again" in after.stderr
    aside = checkpoint.with_name(f"earlier-1-{checkpoint.name}")
    assert (aside / "checkpoint.pt").is_file(), "nobody's training is deleted"
    # What was detected in nothing is the same for every video, up to its length.
    found = json.loads((checkpoint / "predictions.json").read_text())["results"]
    assert len({json.dumps([one["label"] for one in found[video_id]]) for video_id in found}) == 1


def test_test_features_alone_are_detected_anew(copy: Path) -> None:
    config, checkpoint = copy / "set" / "config.yaml", the_run(copy)
    accuracy(config, copy / "runs")
    weights = (checkpoint / "checkpoint.pt").read_bytes()
    np.save(copy / "set" / "features" / "video7.npy", np.zeros((27, 6), np.float32))
    after = accuracy(config, copy / "runs")
    assert after.exit_code == 0, after.stderr
    assert f"{checkpoint / 'detections.jsonl'}: features changed since; detected again" in after.stderr
    assert (checkpoint / "checkpoint.pt").read_bytes() == weights, "the training read none of it"


def test_detections_without_their_record_are_taken_over_and_it_is_said(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy / "set" / "config.yaml"
    first = score(accuracy(config, copy / "runs"))
    shutil.rmtree(copy / "runs" / "results")
    without_detecting(monkeypatch)
    again = accuracy(config, copy / "runs")
    assert score(again) == first
    assert "6 of 6 test videos are there already" in again.stderr


def test_a_record_tells_the_data_by_content_not_by_place(finished: Path, copy: Path) -> None:
    config = copy / "set" / "config.yaml"
    accuracy(config, copy / "elsewhere")
    inputs = []
    for folder in (finished / "runs" / "results", copy / "elsewhere" / "results"):
        (record,) = ResultStore(folder).records()
        inputs.append({name: one.verdict for name, one in record.findings.items() if name.startswith("inputs.")})
    assert inputs[0] == inputs[1]
    assert set(inputs[0]) == {"inputs.annotations", "inputs.features"}


# train, infer, evaluate


def test_half_a_training_does_not_go_on_with_other_data(copy: Path) -> None:
    config, out = copy / "set" / "config.yaml", copy / "out"
    assert run("train", "-c", config, "-o", out, "--device", "cpu").exit_code == 0
    np.save(copy / "set" / "features" / "video2.npy", np.zeros((22, 6), np.float32))
    refused = run("train", "-c", config, "-o", out, "--device", "cpu", "--set", "train.epochs=3")
    assert refused.exit_code == 2
    assert "was trained on other data (features of 1 videos (first: video2)); give another --out" in refused.stderr


def test_stale_predictions_are_not_scored(copy: Path) -> None:
    config, out = copy / "set" / "config.yaml", copy / "out"
    assert run("train", "-c", config, "-o", out, "--device", "cpu").exit_code == 0
    assert run("infer", "--run", out, "--device", "cpu").exit_code == 0
    assert run("evaluate", "--run", out).exit_code == 0
    np.save(copy / "set" / "features" / "video8.npy", np.zeros((28, 6), np.float32))
    refused = run("evaluate", "--run", out)
    assert refused.exit_code != 0
    assert "features changed since it was made; detect again: etad-bench infer --run" in refused.stderr
    assert run("infer", "--run", out, "--device", "cpu").exit_code == 0
    assert run("evaluate", "--run", out).exit_code == 0


# Classes


@pytest.fixture
def trained(copy: Path) -> Path:
    out = copy / "out"
    assert run("train", "-c", copy / "set" / "config.yaml", "-o", out, "--device", "cpu").exit_code == 0
    return out


DIFFERENCE = "only the weights know run; only the annotations have walk; renamed since, from run to walk?"


def test_a_renamed_class_is_refused_everywhere(copy: Path, trained: Path) -> None:
    config = copy / "set" / "config.yaml"
    assert run("infer", "--run", trained, "--device", "cpu").exit_code == 0
    change_annotations(copy, renamed)
    weights = trained / "checkpoint.pt"
    commands: list[list[object]] = [
        ["train", "-c", config, "-o", trained, "--set", "train.epochs=3", "--device", "cpu"],
        ["infer", "--run", trained, "--device", "cpu"],
        ["evaluate", "--run", trained],
        ["infer", "--checkpoint", weights, "-c", config, "-o", copy / "found.json", "--device", "cpu"],
        ["accuracy", "-c", config, "--from-checkpoint", weights, "-o", copy / "half", "--device", "cpu"],
    ]
    for command in commands:
        result = run(*command)
        assert result.exit_code in (2, 3), command
        assert result.stdout == ""
        assert DIFFERENCE in result.stderr, command
    assert not (copy / "found.json").exists()


def test_labels_that_nobody_trains_on_change_nothing(copy: Path, trained: Path) -> None:
    config = copy / "set" / "config.yaml"
    path = copy / "set" / "annotations.json"
    tree = json.loads(path.read_text())
    tree["database"]["other"] = {
        "subset": "nobody's",
        "duration": 10.0,
        "annotations": [{"segment": [1.0, 2.0], "label": "swim"}],
    }
    for video in tree["database"].values():
        if video["subset"] == "validation":
            video["annotations"] = []
    path.write_text(json.dumps(tree))
    weights = trained / "checkpoint.pt"
    found = run("infer", "--checkpoint", weights, "-c", config, "-o", copy / "found.json", "--device", "cpu")
    assert found.exit_code == 0, found.stderr
    assert run("infer", "--run", trained, "--device", "cpu").exit_code == 0
    more = run("train", "-c", config, "-o", trained, "--set", "train.epochs=3", "--device", "cpu")
    assert more.exit_code == 0, more.stderr


def test_a_class_of_the_test_set_alone_counts_as_missed(copy: Path) -> None:
    config = copy / "set" / "config.yaml"
    before = score(accuracy(config, copy / "runs"))

    def third(video_id: str, video: dict[str, Any]) -> None:
        if video_id == "video6":
            video["annotations"].append({"segment": [1.0, 2.0], "label": "swim"})

    change_annotations(copy, third)
    after = accuracy(config, copy / "runs")
    assert score(after) == pytest.approx(before * 2 / 3)
    assert "1 classes of the test set are none of the 2 trained for (first: swim)" in after.stderr


def test_weights_without_names_tell_each_choice_once(copy: Path, trained: Path) -> None:
    """As a published file has them: several sets of weights, no names."""
    state = torch.load(trained / "checkpoint.pt", weights_only=False)["state_dict"]
    path = copy / "published.pt"
    torch.save({"state_dict": state, "state_dict_ema": state}, path)
    config = copy / "set" / "config.yaml"
    found = run("infer", "--checkpoint", path, "-c", config, "-o", copy / "found.json", "--device", "cpu")
    assert found.exit_code == 0, found.stderr
    assert found.stderr.splitlines() == [
        f"etad-bench: {path}: holds state_dict_ema and state_dict; state_dict_ema is loaded, the moving average of the "
        "weights (another one by its weights key)",
        f"etad-bench: {path}: holds no class names; its 2 classes are taken to be the data's, in this order: jump, run",
    ]


def test_the_order_of_the_classes_is_the_checkpoints(copy: Path, trained: Path) -> None:
    """An annotation file that lists its labels otherwise numbers nothing anew."""
    config, weights = copy / "set" / "config.yaml", trained / "checkpoint.pt"
    plain = run("infer", "--checkpoint", weights, "-c", config, "-o", copy / "one.json", "--device", "cpu")
    listed = ["--set", "data.classes=[run, jump]"]
    other = run("infer", "--checkpoint", weights, "-c", config, *listed, "-o", copy / "two.json", "--device", "cpu")
    assert (plain.exit_code, other.exit_code) == (0, 0)
    one, two = (json.loads((copy / name).read_text())["results"] for name in ("one.json", "two.json"))
    assert one == two


def test_listed_classes_have_to_hold_what_is_trained(copy: Path) -> None:
    config = copy / "set" / "config.yaml"
    (copy / "names.txt").write_text("jump\n\nrun\n")
    named = ["--set", f"data.classes={copy / 'names.txt'}"]
    result = run("train", "-c", config, *named, "-o", copy / "named", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    content = torch.load(copy / "named" / "checkpoint.pt", weights_only=False)
    assert content["classes"] == ["jump", "run"]
    lacking = run("train", "-c", config, "--set", "data.classes=[jump]", "-o", copy / "lacking", "--device", "cpu")
    assert (lacking.exit_code, lacking.stdout) == (2, "")
    assert "data.classes: lacks 1 labels of the training subsets (first: run); add them" in lacking.stderr
