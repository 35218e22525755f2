"""``etad-bench memory`` as a person runs it, and the records it leaves."""

import csv
import io
import json
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from bench.cells import KNOBS, make_cells
from bench.cli import main
from bench.machine import processes
from bench.machine.processes import Outcome
from bench.measure import memory_cpu
from bench.measure.memory_cpu import peaks
from bench.records.record import Record
from bench.records.store import ResultStore
from bench.report.terminal.memory import with_slopes
from bench.suites import memory_predicted as memory_prediction
from etad.config import load_config
from etad.errors import ConfigError, DeviceError
from tests.bench.fake_gpu import FakeGpu, gpu
from tests.bench.small_traces import small

__all__ = ["gpu"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["memory", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(small(snippets=8).resolved()))
    return path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the cells here: a process for each costs seconds, which two tests pay for all."""
    monkeypatch.setattr(processes, "run_all", processes.run_here)


@pytest.fixture(scope="module")
def predicted(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], Path]:
    """Two cells, predicted for a GPU, stored."""
    store = tmp_path_factory.mktemp("results")
    result = run("-c", config, "--batch", "1,3", "--hardware", "t4_16g", "--format", "json", "--store", store)
    assert result.exit_code == 0, result.stderr
    return [Record.model_validate(tree) for tree in json.loads(result.stdout)], store


def measure_without_a_gpu(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)


# Predicted ----------------------------------------------------------------------------------------------------------


def test_records_are_predicted_and_say_so(predicted: tuple[list[Record], Path]) -> None:
    records, store = predicted
    assert [record.config["train"]["batch"] for record in records] == [1, 3]  # type: ignore[index, call-overload]
    for record in records:
        assert (record.kind, record.status, record.suite, record.device) == (
            "predicted",
            "predicted",
            "memory",
            "tesla-t4",
        )
        assert "predicted, not yet validated on this device" in record.warnings
        assert list(record.phases) == ["encode", "detect", "update_detector", "backpropagate", "update_encoder"]
        assert record.metrics["fits"].value == 1
        assert record.metrics["process_peak_bytes"].value is None
        assert "not measured by us" in str(record.metrics["process_peak_bytes"].reason)
    # A cell's command is for that cell alone.
    assert "--batch 3" in records[1].command
    assert sorted(r.cell_id for r in ResultStore(store).records()) == sorted(r.cell_id for r in records)


def test_what_is_held_adds_up_to_the_peak(predicted: tuple[list[Record], Path]) -> None:
    for record in predicted[0]:
        held = [metric.value for name, metric in record.metrics.items() if name.startswith("held.category.")]
        assert sum(value or 0 for value in held) == record.metrics["steady_step_allocated_peak_bytes"].value


@pytest.mark.usefixtures("in_process")
def test_the_same_command_gives_the_same_bytes(predicted: tuple[list[Record], Path], config: Path) -> None:
    again = run("-c", config, "--batch", "1", "--hardware", "t4_16g", "--format", "jsonl")
    record = Record.model_validate(json.loads(again.stdout))
    first = predicted[0][0]
    # The slope belongs to the table of several batch sizes.
    metrics = {name: metric for name, metric in first.metrics.items() if "slope" not in name}
    assert (record.cell_id, record.metrics, record.phases) == (first.cell_id, metrics, first.phases)


@pytest.mark.usefixtures("in_process")
def test_the_report_of_one_cell(config: Path) -> None:
    result = run("-c", config, "--precision", "bf16", "--hardware", "t4_16g")
    assert result.exit_code == 0, result.stderr
    for text in (
        "precision bf16",
        "predicted, not yet validated on this device",
        "steady step",
        "  backpropagate",
        "not known: not measured by us",
        "peak / batch",
        "fits         t4_16g (15.00 GiB): yes; margin",
        "by category",
        "by module",
        "largest tensors",
    ):
        assert text in result.stdout


@pytest.mark.usefixtures("in_process")
def test_several_cells_are_a_table_with_a_slope(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    result = run("-c", config, "--batch", "1,2", "--strategy", "frozen", "--format", "csv", "-o", path)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [(row["strategy"], row["batch"]) for row in rows] == [("frozen", "1"), ("frozen", "2")]
    first, second = (int(row["allocated_bytes"]) for row in rows)
    assert float(rows[0]["slope_per_video_bytes"]) == float(rows[1]["slope_per_video_bytes"]) == second - first


def test_the_slope_is_over_cells_that_differ_in_the_batch_only(predicted: tuple[list[Record], Path]) -> None:
    one, three = predicted[0]
    slope = one.metrics["reserved_slope_per_video_bytes"]
    ends = [record.metrics["reserved_peak_bytes"].value or 0 for record in (one, three)]
    assert slope.value == pytest.approx((ends[1] - ends[0]) / 2)
    assert slope.method == "least squares over batch 1, 3"
    assert slope.exact
    other = three.model_copy(update={"measurement": {**three.measurement, "task": "infer"}})
    peaks_only = [{"reserved_peak_bytes": record.metrics["reserved_peak_bytes"]} for record in (one, other)]
    bare = [r.model_copy(update={"metrics": peak}) for r, peak in zip((one, other), peaks_only, strict=True)]
    assert all("reserved_slope_per_video_bytes" not in record.metrics for record in with_slopes(bare))


@pytest.mark.usefixtures("in_process")
def test_inference_has_one_phase(config: Path) -> None:
    result = run("-c", config, "--inference", "--ratio", "0.5", "--format", "json")
    [tree] = json.loads(result.stdout)
    assert list(tree["phases"]) == ["inference"]
    assert any(warning.startswith("--ratio has no effect") for warning in tree["warnings"])


@pytest.mark.usefixtures("in_process")
def test_what_does_not_fit_is_a_result(config: Path, tmp_path: Path) -> None:
    profile = yaml.safe_load((Path("profiles") / "t4_16g.yaml").read_text())
    profile |= {"name": "toy", "memory_bytes": 2**20, "usable_memory_bytes": 2**20}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(profile))
    result = run("-c", config, "--hardware", tmp_path / "toy.yaml", "--store", tmp_path / "results")
    assert result.exit_code == 0, result.stderr
    [record] = ResultStore(tmp_path / "results").records()
    assert record.status == "oom"
    assert record.failure is not None
    assert record.failure.phase is not None
    assert "does not fit toy" in result.stdout
    assert "toy (1.0 MiB): no" in result.stdout


# Measured on the CPU ------------------------------------------------------------------------------------------------


def test_a_step_is_measured_on_the_cpu(config: Path) -> None:
    result = run("-c", config, "--device", "cpu", "--format", "json")
    assert result.exit_code == 0, result.stderr
    [measured] = [Record.model_validate(tree) for tree in json.loads(result.stdout)]
    assert (measured.kind, measured.status) == ("measured", "ok")
    assert measured.device.startswith("cpu-")
    assert measured.metrics["reserved_peak_bytes"].value is None
    peak, static = (measured.metrics[f"requested_{what}_bytes"].value for what in ("peak", "static"))
    assert peak is not None
    assert static is not None
    assert peak > static > 0
    assert list(measured.phases)[:2] == ["encode", "detect"]


@pytest.mark.usefixtures("in_process")
def test_inference_is_measured_on_the_cpu(config: Path) -> None:
    table = run("-c", config, "--device", "cpu", "--inference")
    assert "measured for cpu-" in table.stdout
    assert "  inference" in table.stdout


def test_peaks_are_cut_at_the_marks() -> None:
    def change(ts: float, size_bytes: int) -> dict[str, Any]:
        return {"name": "[memory]", "ts": ts, "args": {"Bytes": size_bytes}}

    def mark(ts: float, dur: float, name: str) -> dict[str, Any]:
        return {"cat": "user_annotation", "name": f"etad-bench {name}", "ts": ts, "dur": dur}

    events = [
        change(0, 100),
        mark(1, 10, "step"),
        mark(2, 2, "encode"),
        change(3, 50),
        change(3.5, -50),
        mark(5, 3, "detect"),
        change(6, 20),
        change(9, -20),
    ]
    static, [step] = peaks(events)
    assert static == 100
    assert step.phases == {"encode": 150, "detect": 120}
    assert step.peak_bytes == 150


def test_what_the_machine_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    found = memory_cpu.collect_environment()
    little = found.model_copy(update={"memory": found.memory.model_copy(update={"available_bytes": 2**10})})
    monkeypatch.setattr(memory_cpu, "collect_environment", lambda: little)
    with pytest.raises(DeviceError, match="--device predict needs none of it"):
        memory_cpu.refuse_what_does_not_fit(load_config(config), task="train")


# Mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message", "exit_code"),
    [
        (["--hardware", "rtx_3060_labtop_6g"], "did you mean rtx_3060_laptop_6g?", 2),
        (["--ratio", "1.3"], "--ratio 1.3: must be a number from 0 to 1, not 1.3", 2),
        (["--ratio", "0.1,,0.3"], "--ratio '0.1,,0.3': a value is empty", 2),
        (["--chunk", "0"], "--chunk 0: must be a whole number from 1 to 2147483647, not 0", 2),
        (["--chunk", "200"], "--chunk 200: a video has 128 snippets only", 2),
        (["--precision", "fp8"], "--precision fp8: must be 'fp32', 'bf16' or 'fp16'", 2),
        (["--config", "anet_e3e"], "did you mean anet_e2e?", 2),
        (["--device", "cpu", "--hardware", "t4_16g"], "--hardware: goes with a prediction", 2),
        (["--device", "cuda"], "there is no CUDA GPU here; use --device predict", 6),
        (["--device", "cuda", "--hardware", "t4_16g"], "cuda measures the GPU that is here", 2),
        (["--ratio", "0.1,0.3", "--snapshot", "s.pickle"], "--snapshot: shows one cell, and the comma lists make 2", 2),
        (["--device", "cpu", "--timeline", "t.png"], "--timeline: shows what a GPU's allocator does", 2),
        (["--timeline", "t.bmp"], "--timeline t.bmp: write it as .png or .svg", 2),
    ],
)
def test_a_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str, exit_code: int
) -> None:
    measure_without_a_gpu(monkeypatch, there=False)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("in_process")
def test_with_a_gpu_auto_measures_and_gives_the_slope(gpu: FakeGpu, config: Path, tmp_path: Path) -> None:
    result = run("-c", config, "--batch", "1,2", "--store", tmp_path, "--format", "csv")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["result"] for row in rows] == ["ok", "ok"]
    # The pretended step does not depend on the batch.
    assert {float(row["slope_per_video_bytes"]) for row in rows} == {0.0}
    stored = ResultStore(tmp_path).records()
    assert {record.device for record in stored} == {"nvidia-h100-80gb-hbm3"}
    # The slope belongs to the table of several batch sizes, not to a cell.
    assert not any("slope" in name for record in stored for name in record.metrics)
    for level in ("requested", "allocated", "active", "reserved"):
        assert all(f"{level}_slope_per_video_bytes" in record.metrics for record in with_slopes(stored))
    one = run("-c", config, "--device", "cuda", "--timeline", tmp_path / "t.bmp")
    assert (one.exit_code, one.stdout) == (2, "")
    report = run("-c", config, "--device", "cuda")
    assert "measured for nvidia-h100-80gb-hbm3" in report.stdout
    assert "CUDA context not known:" in report.stdout


@pytest.mark.usefixtures("in_process")
def test_pictures_of_a_predicted_cell(config: Path, tmp_path: Path) -> None:
    snapshot, timeline = tmp_path / "s.pickle", tmp_path / "t.svg"
    result = run("-c", config, "--batch", "2", "--snapshot", snapshot, "--timeline", timeline, "--published")
    assert result.exit_code == 0, result.stderr
    assert "1.3 GB per video" in result.stdout
    picture = timeline.read_text()
    assert all(f"<!-- {text} -->" in picture for text in ("activation", "reserved", "backpropagate"))
    assert pickle.loads(snapshot.read_bytes())["segments"]


def test_settings_without_effect_are_named() -> None:
    [cell] = make_cells(["x"], "anet_features", {"ratio": "0.5", "chunk": "200", "batch": "2"})
    assert [warning.split(":")[0] for warning in cell.warnings] == ["--ratio has no effect", "--chunk has no effect"]
    [cell] = make_cells(["x"], "anet_e2e", {"strategy": "frozen", "ratio": "0.5"})
    assert cell.warnings == ("--ratio has no effect: the strategy is frozen",)


def test_another_encoder_and_size_change_what_belongs_to_them() -> None:
    [cell] = make_cells(["x"], "anet_e2e", {"encoder": "r2plus1d_18", "size": "224"})
    assert cell.config.model.encoder.weights is None
    frames = cell.config.data.frames
    assert (frames.crop, frames.resize_height, frames.resize_width) == (224, 256, 342)


def test_lists_are_multiplied_in_the_order_given() -> None:
    cells = make_cells(["x"], "anet_e2e", {"batch": "1,2,1", "strategy": "joint,sequential"})
    assert [tuple(cell.chosen.values()) for cell in cells] == [
        ("1", "joint"),
        ("1", "sequential"),
        ("2", "joint"),
        ("2", "sequential"),
    ]


def test_every_knob_is_a_setting() -> None:
    tree = load_config("anet_e2e").resolved()
    for key in KNOBS.values():
        value: Any = tree
        for part in key.split("."):
            value = value[part]
    with pytest.raises(ConfigError, match="--batch x: must be a whole number from 1 to 2147483647, not 'x'"):
        make_cells(["x"], "anet_e2e", {"batch": "x"})


def test_cells_that_differ_in_nothing_are_predicted_once(config: Path) -> None:
    asked: list[float] = []

    def run_here(function: Any, calls: Any, timeout_s: float, workers: int = 1) -> Any:
        for cell_config, _, _ in calls:
            asked.append(cell_config.step.snippet_ratio)
            yield Outcome("error", None, "a test", datetime.now(UTC), 1.0)

    cells = make_cells(["x"], str(config), {"strategy": "checkpointed,joint", "ratio": "0.1,0.3"})
    records = list(memory_prediction.predict_cells(cells, None, runner=run_here))
    assert len(records) == len({record.cell_id for record in records}) == 4
    assert len(asked) == 3
