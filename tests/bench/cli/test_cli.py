"""The command line as a person runs it: what it prints where, what it leaves behind, how it ends."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bench.cli import COMMANDS, main
from tests.etad.make_videos import write_sound, write_video
from tests.etad.small_runs import write_small_set


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def trained(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = run("train", "-c", config, "-o", folder, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{folder}/checkpoint.pt\n"
    return folder


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage:")


def test_train_infer_evaluate(trained: Path) -> None:
    inferred = run("infer", "--run", trained, "--device", "cpu")
    assert (inferred.exit_code, inferred.stdout) == (0, f"{trained}/predictions.json\n"), inferred.stderr
    submission = json.loads((trained / "predictions.json").read_text())
    assert len(submission["results"]) == 6

    table = run("evaluate", "--run", trained, "--per-class", "--errors")
    assert table.exit_code == 0, table.stderr
    assert "mAP@0.5" in table.stdout
    assert "jump" in table.stdout
    assert "double detection" in table.stdout
    record = json.loads((trained / "evaluation.json").read_text())
    as_json = run("evaluate", "--run", trained, "--format", "json")
    assert json.loads(as_json.stdout) == record
    assert 0 <= record["average_mAP"] <= 1


def test_evaluate_any_submission_against_a_config(trained: Path, config: Path, tmp_path: Path) -> None:
    truth = json.loads((config.parent / "annotations.json").read_text())["database"]
    perfect = {
        video_id: [{"label": a["label"], "score": 1.0, "segment": a["segment"]} for a in entry["annotations"]]
        for video_id, entry in truth.items()
        if entry["subset"] == "validation"
    }
    path = tmp_path / "perfect.json"
    path.write_text(json.dumps({"version": "VERSION 1.3", "results": perfect, "external_data": {}}))
    result = run("evaluate", "--predictions", path, "-c", config, "--format", "json")
    assert json.loads(result.stdout)["average_mAP"] == 1.0


def test_a_cross_validation_trains_and_averages_its_folds(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folds"
    settings = ["--set", "data.folds=[training, validation]", "--set", "train.epochs=1"]
    trained = run("train", "-c", config, *settings, "-o", folder, "--device", "cpu")
    assert trained.stdout.splitlines() == [f"{folder}/fold{k}/checkpoint.pt" for k in (1, 2)], trained.stderr
    assert run("infer", "--run", folder, "--device", "cpu").exit_code == 0
    result = run("evaluate", "--run", folder)
    assert "mean of 2 folds" in result.stdout, result.stderr
    summary = json.loads((folder / "evaluation.json").read_text())
    folds = [json.loads((folder / f"fold{k}" / "evaluation.json").read_text()) for k in (1, 2)]
    assert summary["average_mAP"] == pytest.approx(np.mean([fold["average_mAP"] for fold in folds]))


def test_plain_videos_from_a_checkpoint(tmp_path: Path) -> None:
    target = tmp_path / "set"
    made = run("synth", target, "--videos", 4, "--workers", 1)
    assert made.exit_code == 0, made.stderr
    settings = (f"data.root={target}", "train.epochs=1", "data.length=4", "step.chunk=2")
    quick = [part for setting in settings for part in ("--set", setting)]
    folder = tmp_path / "run"
    trained = run("train", "-c", "quickstart", *quick, "-o", folder, "--device", "cpu")
    assert trained.exit_code == 0, trained.stderr

    videos = tmp_path / "videos"
    videos.mkdir()
    write_video(videos / "plain.mp4", 30)
    write_sound(videos / "sound.mp4")
    result = run("infer", videos, "--run", folder, "--plot", tmp_path / "plots", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    submission = json.loads(result.stdout)
    assert list(submission["results"]) == ["plain"]
    assert list(submission["missing"]) == [str(videos / "sound.mp4")]
    assert "sound.mp4" in result.stderr
    assert (tmp_path / "plots" / "plain.png").read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_keeps_the_checkpoint_and_ends_with_130(config: Path, tmp_path: Path) -> None:
    arguments = [
        "train",
        "-c",
        str(config),
        "-o",
        str(tmp_path / "run"),
        "--device",
        "cpu",
        "--set",
        "train.epochs=500",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.splitlines()[-1].startswith("Error: interrupted; what is done is kept")
    assert "Traceback" not in stderr
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    assert not list((tmp_path / "run").glob(".*")), "a temporary file was left behind"


def test_config_prints_the_resolved_yaml() -> None:
    result = run("config", "anet_e2e", "--set", "step.snippet_ratio=0.5")
    assert "snippet_ratio: 0.5" in result.stdout
    listing = run("config")
    assert "anet_features" in listing.stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "complaint"),
    [
        (["train"], 2, "Missing option '--config'"),
        (["train", "-c", "nowhere"], 2, "no such config file"),
        (["train", "-c", "anet_features", "--set", "step.chnk=2"], 2, "did you mean chunk"),
        (["train", "-c", "CONFIG", "--device", "cuda:9"], 6, "cuda:9"),
        (["train", "-c", "CONFIG", "--device", "abacus"], 6, "unknown; use auto"),
        (["train", "-c", "CONFIG", "--set", "data.train_subsets=[traning]"], 5, "traning"),
        (["train", "-c", "CONFIG", "--set", "data.channels=7"], 2, "7"),
        (["train", "-c", "CONFIG", "--gpus", "4", "--device", "cpu"], 2, "does not divide"),
        (["infer", "--run", "EMPTY"], 5, "holds no checkpoint.pt"),
        (["infer"], 2, "Give either --run"),
        (["evaluate", "--run", "RUN", "--set", "data.test_subsets=[nothing]"], 5, "nothing"),
        (["evaluate", "--predictions", "ABSENT", "-c", "CONFIG"], 2, "absent.json"),
        (["compare", "ABSENT", "EMPTY"], 2, "absent.json: no such folder or file of results"),
        (["compare", "EMPTY", "ABSENT"], 4, "nothing to compare with"),
        (["report", "EMPTY", "-o", "page.pdf"], 2, "write it as .html or .md"),
        (["unknown"], 2, "No such command"),
    ],
)
def test_mistakes_get_one_line_and_their_exit_code(
    arguments: list[str], exit_code: int, complaint: str, config: Path, trained: Path, tmp_path: Path
) -> None:
    places = {"CONFIG": config, "EMPTY": tmp_path, "RUN": trained, "ABSENT": tmp_path / "absent.json"}
    extra = ["-o", tmp_path / "out"] if arguments[0] == "train" else []
    result = run(*[places.get(argument, argument) for argument in arguments], *extra)
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr
