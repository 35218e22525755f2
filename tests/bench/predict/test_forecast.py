"""The forecast of times: it finds the factors behind made-up measurements, and tells its own error."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bench.cli import main
from bench.machine.datasheets import load_profile
from bench.predict.forecast import calibrate
from bench.predict.roofline import Roof
from bench.predict.step_costs import Cost
from bench.records.record import Metric, Record
from bench.records.store import ResultStore
from bench.suites.forecast import roof_to_forecast, training_videos
from bench.suites.throughput import cost_metrics, roof_metrics
from etad.config import load_config
from etad.errors import NothingToDoError
from tests.bench.records.test_record import make_record

ROOF = Roof(peak_flops_per_s=1e12, bandwidth_bytes_per_s=1e11, operator_s=1e-5, source="made up")
FACTORS = np.array([1.6, 0.5, 2.0])


def made_up_record(seed: int, scatter: float = 0.0, **changes: Any) -> Record:
    """Return a record whose phases take exactly what FACTORS say, but for ``scatter``."""
    draw = np.random.default_rng(seed)
    phases = {}
    for name in ("encode", "detect", "backpropagate"):
        cost = Cost(
            flops=int(draw.integers(1e11, 9e11)),
            lstm_flops=int(draw.integers(1e9, 9e9)),
            moved_bytes=int(draw.integers(1e9, 9e10)),
            operators=int(draw.integers(100, 9000)),
        )
        least = np.array([cost.total_flops / 1e12, cost.moved_bytes / 1e11, cost.operators * 1e-5])
        time_s = float(least @ FACTORS) * (1 + scatter * float(draw.uniform(-1, 1)))
        phases[name] = {**cost_metrics(cost), "time_s": Metric(value=time_s, unit="s")}
    step = Metric(value=sum(phase["time_s"].value or 0 for phase in phases.values()), unit="s")
    fields: dict[str, Any] = {
        "suite": "throughput",
        "device": "cpu-x",
        "measurement": {"task": "train", "seed": seed},
        "metrics": {"step_s": step, **roof_metrics(ROOF)},
        "phases": phases,
    }
    return make_record(**(fields | changes))


def test_factors_behind_measurements_are_found() -> None:
    found = calibrate([made_up_record(seed) for seed in range(4)])
    assert [found.compute, found.memory, found.launch] == pytest.approx(list(FACTORS))
    assert found.worst_error == pytest.approx(0, abs=1e-9)
    assert (found.records, found.devices) == (4, ("cpu-x",))
    cost = Cost(flops=10**12, moved_bytes=10**11, operators=1000)
    assert found.step_s({"encode": cost}, ROOF)["encode"] == pytest.approx(1.6 + 0.5 + 0.02)


def test_the_error_is_that_on_unseen_records() -> None:
    found = calibrate([made_up_record(seed, scatter=0.3) for seed in range(6)])
    assert found.typical_error is not None
    assert found.worst_error is not None
    assert 0 < found.typical_error <= found.worst_error < 0.5
    assert calibrate([made_up_record(0)]).worst_error is None


def test_what_cannot_calibrate_is_left_out() -> None:
    unknown_peak = {**roof_metrics(ROOF), "peak_flops_per_s": Metric(value=None, unit="FLOP/s", reason="unknown GPU")}
    others = [
        made_up_record(7, suite="memory"),
        made_up_record(8, kind="predicted", status="predicted"),
        made_up_record(9, metrics=unknown_peak),
        made_up_record(10, phases={"load": {"time_s": Metric(value=1.0, unit="s")}}),
    ]
    assert calibrate([made_up_record(0), *others]).records == 1
    with pytest.raises(NothingToDoError, match="etad-bench throughput --store"):
        calibrate(others)


def test_the_roof_is_the_measured_one_where_there_is_one() -> None:
    profile = load_profile("rtx_3060_laptop_6g")
    assert roof_to_forecast(profile, "bf16").peak_flops_per_s == profile.peak_bf16_flops_per_s
    assert "data sheet" in roof_to_forecast(profile, "bf16").source
    measured = {
        "on": "2026-01-01",
        "driver": None,
        "torch": "2.11",
        "memory_bandwidth_bytes_per_s": 1e11,
        "matmul_fp32_flops_per_s": 1e12,
        "matmul_tf32_flops_per_s": None,
        "matmul_bf16_flops_per_s": 2e12,
        "matmul_fp16_flops_per_s": None,
    }
    tree = profile.model_dump() | {"measured": measured}
    assert roof_to_forecast(type(profile).model_validate(tree), "bf16").peak_flops_per_s == 2e12


def test_the_published_run_says_how_many_videos_an_epoch_has() -> None:
    assert training_videos(load_config("anet_features", ["data.root=/nowhere"])) == 9971
    assert training_videos(load_config("quickstart", ["data.root=/nowhere"])) is None


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for seed in range(3):
        ResultStore(tmp_path / "measured").write(made_up_record(seed, scatter=0.1))
    return tmp_path / "measured"


def test_command(store: Path, tmp_path: Path) -> None:
    arguments = ["forecast", "-c", "anet_features", "--batch", "1", "--hardware", "rtx_3060_laptop_6g,v100_sxm2_16g"]
    arguments += ["--calibrate", str(store), "--store", str(tmp_path / "predicted"), "--set", "data.root=/nowhere"]
    result = CliRunner().invoke(main, [*arguments, "--format", "json"])
    assert result.exit_code == 0, result.stderr
    records = [Record.model_validate(tree) for tree in json.loads(result.stdout)]
    assert {record.status for record in records} == {"predicted"}
    assert "no GPU was measured" in str(records[0].findings["calibration"])
    step, schedule = (records[0].metrics[name] for name in ("step_s", "schedule_s"))
    assert step.value
    assert schedule.value == pytest.approx(step.value * 9971 * load_config("anet_features").train.epochs)
    assert step.low is not None
    assert step.low < step.value
    assert len(ResultStore(tmp_path / "predicted").records()) == 2


def test_mistakes_are_one_line(store: Path, tmp_path: Path) -> None:
    for arguments, exit_code, words in (
        (["--calibrate", str(tmp_path / "none")], 5, "no result records"),
        (["--calibrate", str(store), "--hardware", "rtx_9999"], 2, "rtx_9999"),
        (["--calibrate", str(store), "--hardware", ","], 2, "empty"),
    ):
        result = CliRunner().invoke(main, ["forecast", *arguments])
        assert result.exit_code == exit_code
        assert words in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
