"""Running sweeps: what stays, what runs again, how cells end, and what is told. Cells run here without processes."""

import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from rich.console import Console

import bench.sweep.run as run_module
import bench.sweep.slurm as slurm_module
from bench.cli import main
from bench.machine.environment import collect_environment
from bench.machine.processes import Outcome
from bench.predict.fit import Target
from bench.records.files import write_record
from bench.records.record import Metric, Record
from bench.records.store import ResultStore
from bench.report.terminal.sweep_progress import Display
from bench.sweep.cells import SweepCell, sweep_cells
from bench.sweep.estimate import estimates, predicted_memory, skipped
from bench.sweep.file import load_sweep
from bench.sweep.run import check_data, check_writable, make_plan, run_cells, run_one
from bench.sweep.slurm import SlurmJobs
from etad.errors import ConfigError, DataError, DeviceError
from tests.bench.small_traces import small, traced
from tests.etad.small_runs import write_small_set

SWEEP = """
config: quickstart
parts:
  ratios: {suite: accuracy, seeds: 2, options: {device: cpu}, grid: {ratio: [0.0, 0.5]}}
"""
PARTS = "{a: {suite: accuracy, options: {device: cpu}, grid: {proposal-ratio: [0.25, 0.5]}}}"
ENVIRONMENT = collect_environment()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Answer = Callable[[SweepCell], Outcome[Record]]


def good(cell: SweepCell) -> Outcome[Record]:
    """A training whose accuracy is the ratio, a little different with every seed."""
    step, seed = cell.cell.config.step, cell.cell.config.train.seed
    record = Record(
        status="ok",
        kind="measured",
        suite="accuracy",
        device=cell.asked.device,
        config=cell.cell.config.resolved(),
        measurement={},
        metrics={
            "average_mAP": Metric(value=step.snippet_ratio + (seed - 2023) / 100, unit="1"),
            "train_s": Metric(value=10.0, unit="s"),
        },
        environment=ENVIRONMENT.model_dump(mode="json"),
        command=cell.cell.command,
        started_at=NOW,
        duration_s=12.0,
    )
    return Outcome("ok", record, "", NOW, 12.0)


def bad(cell: SweepCell) -> Outcome[Record]:
    return Outcome("error", None, "ZeroDivisionError: so it goes", NOW, 1.0)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Answer]:
    """What the next cells answer; the last one stays. No process is started."""
    queue: list[Answer] = [good]

    def answer(_: Any, cell: SweepCell, folder: Path, timeout_s: float) -> Outcome[Record]:
        folder.mkdir(parents=True, exist_ok=True)
        return (queue.pop(0) if len(queue) > 1 else queue[0])(cell)

    monkeypatch.setattr(run_module, "run_isolated", answer)
    monkeypatch.setattr("bench.cli.sweep.check_data", lambda cells: None, raising=False)
    monkeypatch.setattr(run_module, "check_data", lambda cells: None)
    return queue


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some.yaml"
    path.write_text(SWEEP)
    return path


@pytest.fixture
def cells(path: Path) -> list[SweepCell]:
    return sweep_cells(load_sweep(path), ENVIRONMENT)


def sweep(path: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["sweep", str(path), "-o", str(path.parent / "out"), *map(str, arguments)])


def test_a_sweep_runs_once_and_tells_what_came_out(path: Path, answers: list[Answer]) -> None:
    first = sweep(path)
    assert first.exit_code == 0, first.output
    assert [line.split() for line in first.stdout.splitlines()[:4]] == [
        ["ratios"],
        ["ratio", "status", "seeds", "average", "mAP", "[%]", "training", "[s]"],
        ["0.0", "ok", "2", "0.50", "±", "0.71", "10.0", "±", "0.0"],
        ["0.5", "ok", "2", "50.50", "±", "0.71", "10.0", "±", "0.0"],
    ]
    assert "some: 4 cells, 0 have a record, 4 to run" in first.stderr
    assert "[4/4] ok  ratios: ratio 0.5, seed 2024  average mAP [%] 51.00  (12 s)" in first.stderr
    answers[:] = [bad]
    again = sweep(path)
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert "4 have a record, 0 to run" in again.stderr


def test_formats(path: Path, answers: list[Answer]) -> None:
    sweep(path)
    markdown = sweep(path, "--format", "md").stdout
    assert markdown.startswith("**ratios**\n\n| ratio | status | seeds | average mAP [%] | training [s] |\n| --- |")
    header, *rows = sweep(path, "--format", "csv").stdout.splitlines()
    assert header == "part,ratio,status,seeds,average_mAP,average_mAP_sd,train_s,train_s_sd"
    assert rows[1].startswith("ratios,0.5,ok,2,0.505,0.00707")
    records = json.loads(sweep(path, "--format", "json").stdout)
    assert [record["suite"] for record in records] == ["accuracy"] * 4


def test_failures_are_records_that_stay_until_asked(path: Path, answers: list[Answer]) -> None:
    answers[:] = [bad, good]
    first = sweep(path)
    assert first.exit_code == 3
    assert "1 error, 1 ok" in first.stdout or "1 ok, 1 error" in first.stdout
    assert "ZeroDivisionError: so it goes" in first.stdout
    assert "1 of 4 cells failed; --rerun failed tries them again" in first.stderr
    assert sweep(path).exit_code == 3
    again = sweep(path, "--rerun", "failed")
    assert again.exit_code == 0
    assert "3 have a record, 1 to run" in again.stderr


def test_rerun_all_forgets_what_cells_left_behind(path: Path, answers: list[Answer], cells: list[SweepCell]) -> None:
    sweep(path)
    left = path.parent / "out" / "cells" / cells[0].cell_id / "checkpoint.pt"
    left.touch()
    sweep(path, "--rerun", "failed")
    assert left.exists()
    assert "0 have a record, 4 to run" in sweep(path, "--rerun", "all").stderr
    assert not left.exists()


def test_stale_is_another_commit_or_torch(cells: list[SweepCell], tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    made_by = ENVIRONMENT.model_dump(mode="json")
    for cell, section, key in ((cells[0], "code", "git_sha"), (cells[1], "torch", "version")):
        environment = {**made_by, section: {**made_by[section], key: "another", "unknown": {}}}
        record = good(cell).value
        assert record is not None
        store.write(record.model_copy(update={"environment": environment}))
    same = good(cells[2]).value
    assert same is not None
    store.write(same)
    plan = make_plan(cells, store, ENVIRONMENT, "stale")
    assert [cell.cell_id for cell, _ in plan.kept] == [cells[2].cell_id]
    assert len(make_plan(cells, store, ENVIRONMENT).kept) == 3


def test_records_of_other_machines_count_only_when_it_is_open_where_cells_run(
    cells: list[SweepCell], tmp_path: Path
) -> None:
    record = good(cells[0]).value
    assert record is not None
    ResultStore(tmp_path).write(record.model_copy(update={"device": "nvidia-h100-80gb-hbm3"}))
    assert len(make_plan(cells, ResultStore(tmp_path), ENVIRONMENT).kept) == 0
    assert len(make_plan(cells, ResultStore(tmp_path), ENVIRONMENT, anywhere=True).kept) == 1


def test_a_mistake_of_the_user_in_a_cell_does_not_end_the_others(
    cells: list[SweepCell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Outcome[Record]:
        raise DeviceError("--device cuda: there is none")

    monkeypatch.setattr(run_module, "run_isolated", refuse)
    record = run_one(cells[0], tmp_path, ENVIRONMENT)
    assert record.status == "error"
    assert record.failure is not None
    assert record.failure.message == "--device cuda: there is none"


def test_a_process_of_its_own_writes_a_log(cells: list[SweepCell], tmp_path: Path) -> None:
    lost = replace(cells[0], suite="throughput")  # whose options are others, so it dies
    record = run_one(lost, tmp_path, ENVIRONMENT)
    log = tmp_path / lost.cell_id / "log.txt"
    assert record.status == "error"
    assert record.failure is not None
    assert record.failure.message.endswith(f"(its log: {log})")
    assert "Traceback" in log.read_text()


def test_a_gpu_that_is_full_is_a_result(
    cells: list[SweepCell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def run(self, *_: Any) -> Record:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(run_module, "SUITES", {"accuracy": Full()})
    record = run_module.measure(cells[0], tmp_path)
    assert (record.status, record.cell_id) == ("oom", cells[0].cell_id)
    assert record.failure is not None
    assert record.failure.message == "CUDA out of memory. Tried to allocate 2 GiB"


def test_ctrl_c_keeps_what_is_done(path: Path, answers: list[Answer], cells: list[SweepCell]) -> None:
    def interrupt(cell: SweepCell) -> Outcome[Record]:
        raise KeyboardInterrupt

    answers[:] = [good, good, interrupt]
    stopped = sweep(path)
    assert stopped.exit_code == 130
    assert "what is done is kept" in stopped.stderr
    kept = len(ResultStore(path.parent / "out" / "results").paths())
    assert 1 <= kept <= 2
    answers[:] = [good]
    assert f"{kept} have a record" in sweep(path).stderr


def test_workers_share_the_cores(cells: list[SweepCell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(_: Any, cell: SweepCell, folder: Path, timeout_s: float) -> Outcome[Record]:
        seen.append(run_module.os.environ.get("OMP_NUM_THREADS"))
        return good(cell)

    monkeypatch.setattr(run_module, "run_isolated", look)
    monkeypatch.setattr(run_module, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    mixed = [*cells[:2], *(replace(cell, workers=4) for cell in cells[2:])]
    list(run_cells(mixed, ResultStore(tmp_path), tmp_path, ENVIRONMENT, _silent()))
    assert seen == [None, None, "2", "2"]
    assert "OMP_NUM_THREADS" not in run_module.os.environ


def test_data_is_checked_once_for_all_cells(cells: list[SweepCell], monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    class Checking:
        def check(self, config: Any, options: Any) -> None:
            looked.append(config.data.root)

    monkeypatch.setattr(run_module, "SUITES", {"accuracy": Checking()})
    check_data(cells)
    assert len(looked) == 1


def test_a_folder_that_cannot_be_written_is_found_at_once(path: Path, answers: list[Answer], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        check_writable(tmp_path / "file" / "results")
    result = sweep(path, "--store", tmp_path / "file" / "results")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert "to run" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--shard", "3"], 2, "write it as 1/4"),
        (["--shard", "9/9"], 5, "this shard is empty"),
        (["--skip-unfit"], 2, "with --hardware NAME"),
        (["--slurm", "time=5"], 2, "goes with --launcher slurm"),
        (["--part", "ratio"], 2, "did you mean ratios?"),
        (["--plot", "file.docx"], 2, "name a file that ends in .png"),
        (["--set", "train.epoch=1"], 2, "did you mean epochs?"),
        (["--hardware", "h101", "--dry-run"], 2, "no such hardware profile"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], exit_code: int, message: str, path: Path, answers: list[Answer]
) -> None:
    result = sweep(path, *arguments)
    assert result.exit_code == exit_code
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_dry_run_lists_what_is_expected_and_runs_nothing(
    path: Path, answers: list[Answer], cells: list[SweepCell], monkeypatch: pytest.MonkeyPatch
) -> None:
    _predict_here(monkeypatch)
    sweep(path, "--shard", "1/4")
    answers[:] = [bad]
    lines = sweep(path, "--dry-run", "--hardware", "rtx_3060_laptop_6g").stdout.splitlines()
    assert lines[0].split() == ["cell", "so", "far", "reserved", "[MiB]", "fits", "time"]
    first, second, third = (line.split() for line in lines[1:4])
    assert (first[-5], first[-3:]) == ("ok", ["yes", "12.00", "s"])
    # The same with another seed takes as long.
    assert (second[-5], second[-3:]) == ("-", ["yes", "12.00", "s"])
    assert third[-2:] == ["yes", "unknown"]
    assert lines[-1] == "3 cells without a record: 12.00 s one after the other, and 2 of unknown duration"
    rows = json.loads(sweep(path, "--dry-run", "--format", "json").stdout)
    assert [row["cell_id"] for row in rows] == [cell.cell_id for cell in cells]
    assert rows[0]["predicted_reserved_peak_bytes"] > 0
    assert len(ResultStore(path.parent / "out" / "results").paths()) == 1


def test_what_does_not_fit_is_skipped_with_the_reason(
    cells: list[SweepCell], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _predict_here(monkeypatch)
    tiny = Target.of_size(2**20)
    assert list(skipped(cells, tiny, ENVIRONMENT)) == []  # they run on the CPU
    on_gpu = [replace(cell, options=cell.options.model_copy(update={"device": "cuda"})) for cell in cells]
    found = list(skipped(on_gpu, tiny, ENVIRONMENT))
    assert len(found) == 4
    cell, record = found[0]
    assert (record.status, record.device, record.cell_id) == ("skipped", tiny.device, cell.cell_id)
    assert record.failure is not None
    assert "does not fit" in record.failure.message
    # A cell that was skipped was never tried.
    store = ResultStore(tmp_path)
    store.write(record)
    assert len(make_plan(on_gpu, store, ENVIRONMENT, anywhere=True).todo) == 4
    assert list(skipped(on_gpu, Target.of_size(2**34), ENVIRONMENT)) == []


def test_a_damaged_record_is_named(cells: list[SweepCell], tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    record = good(cells[0]).value
    assert record is not None
    write_record(store.path_of(record), record)
    store.path_of(record).write_text("{")
    with pytest.raises(DataError, match="not valid JSON, or cut off, at line 1"):
        make_plan(cells, store, ENVIRONMENT)
    assert len(estimates([], make_plan([], store, ENVIRONMENT), store, None, ENVIRONMENT)) == 0


def test_the_live_table_shows_what_runs(cells: list[SweepCell]) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200, highlight=False, color_system=None)
    with Display(4, console) as display:
        display.begin(cells[0])
        display.begin(cells[1])
        record = good(cells[0]).value
        assert record is not None
        display.end(cells[0], record)
    text = screen.getvalue()
    assert "running  ratios: ratio 0.0, seed 2024" in text
    assert "[1/4] ok  ratios: ratio 0.0, seed 2023  average mAP [%] 0.00  (12 s)" in text
    assert "1 of 4 cells done (1 ok), 0 s so far, about 0 s left" in text


def test_jobs_write_the_records_themselves(
    cells: list[SweepCell], tmp_path: Path, answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    store = ResultStore(tmp_path / "results")
    written = []
    monkeypatch.setattr(slurm_module.ResultStore, "write", lambda self, record: written.append((self.root, record)))
    jobs = SlurmJobs(tmp_path / "slurm", ["partition=gpu", "cpus-per-task=2"], cluster="debug")
    done = list(jobs.run(cells, store, tmp_path / "cells", _silent()))
    assert [record.status for _, record in done] == ["ok"] * 4
    assert [(root, record.cell_id) for root, record in written] == [
        (tmp_path / "results", cell.cell_id) for cell in cells
    ]


def test_a_job_that_died_is_a_record(cells: list[SweepCell], tmp_path: Path) -> None:
    utils = pytest.importorskip("submitit.core.utils")

    class Dead:
        job_id, state = "17_0", "TIMEOUT"
        paths = type("Paths", (), {"stderr": "17_0.err"})

        def result(self) -> Record:
            raise utils.UncompletedJobError("Job 17\nslurmstepd: time limit")

    store = ResultStore(tmp_path)
    record = slurm_module._record_of(cells[0], Dead(), store)
    assert record.status == "timeout"
    assert record.failure is not None
    assert record.failure.message == "job 17_0 ended without a result (TIMEOUT); its log: 17_0.err"
    assert record.warnings == ("slurmstepd: time limit",)
    assert store.find(cells[0].cell_id) == record


def test_slurm_settings_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(ConfigError, match="--slurm partitoin: unknown; did you mean partition"):
        SlurmJobs(tmp_path, ["partitoin=gpu"], cluster="debug")
    with pytest.raises(ConfigError, match="write it as KEY=VALUE"):
        SlurmJobs(tmp_path, ["partition"], cluster="debug")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="--launcher slurm: "):
        SlurmJobs(tmp_path)


def test_a_cell_that_is_a_prediction_itself_is_expected_for_its_own_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _predict_here(monkeypatch)
    path = tmp_path / "some.yaml"
    path.write_text(
        "{config: quickstart, parts: {a: {suite: memory, grid: {hardware: [h100_sxm_80g, rtx_3060_laptop_6g]}}}}"
    )
    found = predicted_memory(sweep_cells(load_sweep(path), ENVIRONMENT), Target.of_size(2**30), ENVIRONMENT)
    assert [record.measurement["hardware"] for record in found] == ["h100_sxm_80g", "rtx_3060_laptop_6g"]


def _predict_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predict in this process, from the one small trace."""
    trace = traced(small())
    monkeypatch.setattr("bench.suites.memory_predicted.trace_for_cuda", lambda *_, **__: trace)
    monkeypatch.setattr(
        "bench.sweep.estimate.run_all",
        lambda function, calls, *_: [Outcome("ok", function(*arguments), "", NOW, 1.0) for arguments in calls],
    )


def _silent() -> Display:
    return Display(4, Console(file=io.StringIO()))


@pytest.mark.skipif(not os.environ.get("ETAD_BENCH_SLURM"), reason="set ETAD_BENCH_SLURM=1 where a Slurm runs")
def test_a_real_slurm(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(f"{{config: {write_small_set(tmp_path / 'set')}, parts: {PARTS}}}")
    first = sweep(path, "--launcher", "slurm", "--slurm", "cpus_per_task=1", "--slurm", "time=5")
    assert first.exit_code == 0, first.output
    assert "[2/2] ok" in first.stderr
    assert "2 have a record, 0 to run" in sweep(path).stderr
