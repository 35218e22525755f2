"""``etad-bench gate``: what it does with two revisions, and that it would fail where it should."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import bench.compare.revisions
from bench.cli import main
from bench.compare.revisions import BenchmarkError, Checkout, Plan, run_benchmarks, run_gate
from bench.records.store import ResultStore

MODULE = "import time\n\n\ndef work():\n    time.sleep(0.002)\n\n\ndef other():\n    time.sleep(0.002)\n"
BENCHMARKS = """
import planted
import pytest

@pytest.mark.benchmark(min_rounds=3, max_time=0.01)
@pytest.mark.parametrize("name", ["work", "other"])
def test_speed(benchmark, name):
    benchmark(getattr(planted, name))
"""
CONFTEST = """
import planted

def pytest_benchmark_update_json(output_json):
    output_json["etad_folder"] = planted.__file__
"""
GATES = 'gates: {"*_s": {better: lower, minimum_effect: 0.5, significance: 0.4}}'
"""With two processes a side p is a third at best."""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two benchmarks, of which the last commit makes one slower."""
    root = tmp_path / "project"
    (root / "benchmarks").mkdir(parents=True)
    git(root.parent, "init", "--quiet", str(root))
    (root / "planted.py").write_text(MODULE)
    (root / "benchmarks" / "__init__.py").touch()
    (root / "benchmarks" / "conftest.py").write_text(CONFTEST)
    (root / "benchmarks" / "test_speed.py").write_text(BENCHMARKS)
    (root / "gates.yaml").write_text(GATES)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    (root / "planted.py").write_text(MODULE.replace("0.002", "0.02", 1))
    git(root, "commit", "--quiet", "--all", "-m", "slower")
    monkeypatch.chdir(root)
    return root


def run(*arguments: object) -> Result:
    line = ["gate", "--benchmarks", "benchmarks", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(main, line)


def test_a_planted_slowdown_fails_and_the_rest_passes(repository: Path) -> None:
    line = ["--base", "HEAD~1", "--head", "HEAD", "--rounds", 2, "--gates", "gates.yaml", "--store", "records"]
    result = run(*line, "--format", "json")
    assert result.exit_code == 1, result.stderr
    found = {item["cell"].split()[-1]: item for item in json.loads(result.stdout)["comparisons"]}
    assert found["test_speed[work]"]["verdict"] == "regressed"
    assert found["test_speed[other]"]["verdict"] in ("unchanged", "inconclusive")
    assert (found["test_speed[work]"]["base_count"], found["test_speed[work]"]["head_count"]) == (2, 2)
    assert "no deterministic quantities" in result.stderr
    assert git(repository, "worktree", "list").count("\n") == 0
    for name, revision in (("base", "HEAD~1"), ("head", "HEAD")):
        for record in ResultStore(repository / "records" / name).records():
            assert record.environment["code"]["git_sha"] == git(repository, "rev-parse", revision)  # type: ignore[index, call-overload]


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Benchmarks that take no time: noise of some percent around a centre of each side."""
    state: dict[str, Any] = {"centres": {}, "order": [], "failures": {}, "seed": 0}

    def simulate(checkout: Checkout, folder: Path) -> tuple[dict[str, float], str]:
        state["order"].append(checkout.name)
        random = np.random.default_rng([state["seed"], len(state["order"])])
        centre = state["centres"].get(checkout.name, 1.0)
        samples = {name: centre * float(random.lognormal(0, 0.03)) for name in ("test_step", "test_nms")}
        return samples, state["failures"].get(checkout.name, "")

    monkeypatch.setattr(bench.compare.revisions, "run_benchmarks", simulate)
    return state


@pytest.mark.usefixtures("repository")
def test_an_unchanged_tree_passes_and_a_doubled_time_does_not(simulated: dict[str, Any]) -> None:
    for seed in range(5):
        simulated["seed"] = seed
        result = run("--base", "HEAD")
        assert (result.exit_code, result.stdout) == (0, "2 unchanged\n")
    simulated["centres"]["working tree"] = 2.0
    result = run("--base", "HEAD")
    assert result.exit_code == 1
    assert "2 regressed" in result.stdout
    simulated["centres"]["working tree"] = 0.5
    assert "2 improved" in run("--base", "HEAD").stdout


@pytest.mark.usefixtures("simulated")
def test_the_sides_take_turns(repository: Path, simulated: dict[str, Any]) -> None:
    run_gate(Plan("HEAD", None, Path("benchmarks"), 4, True, "test"), repository)
    base, head = simulated["order"][:2]
    assert base.startswith("HEAD (")
    assert head == "working tree"
    assert simulated["order"] == [base, head, head, base, base, head, head, base]


def test_what_fails_is_told(repository: Path, simulated: dict[str, Any]) -> None:
    simulated["failures"]["working tree"] = "FAILED test_speed.py::test_step - ImportError"
    result = run("--base", "HEAD", "--rounds", 1)
    assert result.exit_code == 3
    assert "HEAD, working tree: FAILED test_speed.py::test_step" in result.stderr
    simulated["failures"] = {f"HEAD ({git(repository, 'rev-parse', 'HEAD')[:9]})": "FAILED test_new"}
    result = run("--base", "HEAD", "--rounds", 2)
    assert result.exit_code == 0
    assert result.stderr.count("BASE: FAILED test_new") == 1


@pytest.mark.usefixtures("simulated")
def test_mistakes_are_one_line(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = run("--base", "nowhere")
    assert unknown.exit_code == 2
    assert "nowhere: no such revision" in unknown.stderr
    without = run("--base", "HEAD", "--benchmarks", "none")
    assert without.exit_code == 5
    assert "none: no such folder in working tree" in without.stderr
    monkeypatch.chdir(tmp_path)
    outside = run("--base", "HEAD")
    assert outside.exit_code == 2
    assert "not a git repository" in outside.stderr


def test_measuring_another_checkout_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure_elsewhere(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        output = Path(command[-1].partition("=")[2])
        output.write_text(json.dumps({"etad_folder": "/usr/lib/etad", "benchmarks": []}))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(bench.compare.revisions.subprocess, "run", measure_elsewhere)
    with pytest.raises(BenchmarkError, match="measured /usr/lib/etad instead"):
        run_benchmarks(Checkout(tmp_path, "main", "0" * 40, False), tmp_path / "benchmarks")
