"""The scripts of examples/ run as their first lines say, here on small inputs."""

import ast
import json
import runpy
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.records.store import ResultStore
from tests.paths import ROOT

EXAMPLES = ROOT / "examples"
MEASURED = ROOT / "results" / "measured"

Run = Callable[..., list[str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example with arguments; return the lines that it prints."""

    def run_(name: str, *arguments: object) -> list[str]:
        runpy.run_path(str(EXAMPLES / name))["main"]([str(argument) for argument in arguments])
        return capsys.readouterr().out.splitlines()

    return run_


def test_every_example_is_short_says_what_it_shows_and_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 60, path.name
        assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(text)) or ""), path.name
        assert f'run("{path.name}"' in here, f"{path.name}: no test runs it"


def test_will_it_fit(run: Run) -> None:
    gpu, *found = run("will_it_fit.py", "--config", "quickstart", "--batch", "1", "--gpu", "rtx_3060_laptop_6g")
    assert gpu == "rtx_3060_laptop_6g: 6144 MiB; predicted, in MiB"
    assert found[0].startswith("batch 1: ")
    assert found[0].endswith("fits: yes")


def test_results_in_pandas(run: Run, tmp_path: Path) -> None:
    lines = run("results_in_pandas.py", MEASURED, "--plot", tmp_path / "ratio.png")
    table = [line.split() for line in lines]
    found = {(row[0], float(row[1])): row[2:] for row in table if row[0] in ("random", "uniform", "block")}
    scores = []
    for record in ResultStore(MEASURED).records():
        step = record.config["step"]
        sampled = (step["snippet_sampler"], step["snippet_ratio"]) == ("random", 0.3)
        proposals = (step["proposal_sampler"], step["proposal_ratio"]) == ("random", 0.25)
        if record.suite == "accuracy" and record.config["name"] == "quickstart" and sampled and proposals:
            scores.append(record.metrics["average_mAP"].value)
    expected = [str(len(scores)), f"{statistics.mean(scores):.4f}", f"{statistics.stdev(scores):.4f}"]
    assert found["random", 0.3] == expected
    assert (tmp_path / "ratio.png").stat().st_size > 0


def test_train_on_features(run: Run, tmp_path: Path) -> None:
    settings = ("--set", "train.epochs=1", "--set", "data.length=16", "--set", "data.workers=0")
    lines = run("train_on_features.py", tmp_path, "--videos", 8, *settings)
    assert lines[0] == "6 videos to train on, 2 to test, classes ('jump', 'run')"
    assert lines[-1].startswith("average mAP ")
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    assert len(json.loads((tmp_path / "detections.json").read_text())["results"]) == 2


def test_score_detections(run: Run) -> None:
    lines = run("score_detections.py", "--videos", 10, "--proposals", 100)
    assert dict(zip(lines[1].split(), lines[2].split(), strict=True))["mAP@0.5"] == "100.00"


def test_time_two_forms(run: Run) -> None:
    limits = ("--set", "data.length=4", "--rounds", 3, "--max-time", 1)
    published, fast, compared = run("time_two_forms.py", "--forms", "published,fast", *limits)
    assert published.startswith("published: ")
    assert fast.startswith("fast: ")
    assert " times as fast as published " in compared
