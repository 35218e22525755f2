"""``etad-bench export``: what other programs read back."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from bench.cli import main
from bench.records.record import Failure, Metric
from bench.records.store import ResultStore
from tests.bench.records.test_record import make_record


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *(str(argument) for argument in arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cell that succeeded, and one that did not; a setting is a number in one, a word in the other."""
    store = ResultStore(tmp_path / "results")
    step_s = Metric(value=0.5, unit="s", samples=(0.4, 0.5, 0.6), low=0.4, high=0.6)
    store.write(make_record(metrics={"step_s": step_s}, findings={"stability.step_s": {"verdict": "stable"}}))
    failure = Failure(message="does not fit")
    store.write(make_record(measurement={"steps": "all"}, status="oom", failure=failure, metrics={}, phases={}))
    return store.root


@pytest.mark.parametrize(("form", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_tables_are_read_back(folder: Path, tmp_path: Path, form: str, read: Any) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / "new" / f"records.{form}"
    result = run(folder, "--to", form, "-o", path)
    assert result.exit_code == 0, result.stderr
    assert "2 of 2 records written" in result.stderr
    frame = read(path).set_index("status")
    assert frame.loc["ok", "metrics.step_s"] == 0.5
    assert frame.loc["ok", "metrics.step_s.high"] == 0.6
    assert sorted(frame["measurement.steps"]) == ["2", "all"]
    assert frame.loc["oom", "failure"] == "does not fit"


def test_mlflow_has_a_run_a_record_once(folder: Path, tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    assert "2 of 2 records" in run(folder, "--to", "mlflow", "-o", tmp_path / "mlruns").stderr
    assert "0 of 2 records" in run(folder, "--to", "mlflow", "-o", tmp_path / "mlruns").stderr
    client = tracking.MlflowClient((tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("memory")
    runs = {run.info.status: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"FINISHED", "FAILED"}
    done = runs["FINISHED"]
    assert done.data.metrics["step_s"] == 0.5
    assert done.data.params["config.step.snippet_ratio"] == "0.3"
    assert done.data.tags["finding.stability.step_s"] == "stable"
    assert [p.value for p in client.get_metric_history(done.info.run_id, "step_s.samples")] == [0.4, 0.5, 0.6]
    assert [artifact.path for artifact in client.list_artifacts(done.info.run_id)] == ["record.json"]


def test_mlflow_says_why_it_refuses(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow.tracking")
    result = run(folder, "--to", "mlflow", "-o", "nonsense://nowhere")
    assert result.exit_code == 2
    assert "MLflow says" in result.stderr


def test_tensorboard_has_a_run_a_record(folder: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):
        assert run(folder, "--to", "tensorboard", "-o", tmp_path / "board").exit_code == 0
    record = next(record for record in ResultStore(folder).records() if record.succeeded)
    events = EventAccumulator(str(tmp_path / "board" / record.device / record.suite / record.cell_id))
    events.Reload()
    assert [event.value for event in events.Scalars("all/step_s.samples")] == pytest.approx([0.4, 0.5, 0.6])
    assert [event.value for event in events.Scalars("metrics/step_s")] == [0.5]


@pytest.mark.parametrize(("form", "package"), [("parquet", "pyarrow"), ("mlflow", "mlflow.exceptions")])
def test_a_missing_extra_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = run(folder, "--to", form, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert f"pip install 'etad-bench[{form}]'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_nothing_to_export(tmp_path: Path) -> None:
    assert run(tmp_path, "--to", "csv", "-o", tmp_path / "out.csv").exit_code == 5
