"""``etad-bench throughput`` as a person runs it, and the records it leaves."""

import csv
import io
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from bench.cli import main
from bench.forms import side_by_side as variants_module
from bench.forms.goals import GOALS, goal_cell, with_verdict
from bench.forms.loops import LOOP_ROWS, LoopRow, time_loops
from bench.machine import processes
from bench.machine.clocks import HostClock, Round, Stopwatch
from bench.machine.environment import collect_environment, gpu_name
from bench.machine.processes import Outcome
from bench.measure import roofs, timing
from bench.measure.roofs import device_precision, measure_roof
from bench.measure.rounds import MOST_ROUNDS, Limits, take_rounds
from bench.measure.timing import Timing, pooled
from bench.measure.workload import Amounts, amounts_of
from bench.predict import step_costs
from bench.predict.roofline import Roof
from bench.predict.step_costs import Cost, Counts, ForwardMacs
from bench.records.record import Finding, Metric, Record
from bench.records.sanity import check
from bench.records.store import ResultStore
from bench.report.terminal.variants import format_variants
from bench.suites import suite
from bench.suites import throughput as throughput_module
from bench.suites.throughput import asked, expected_duration, throughput_cells, throughput_record
from etad.config import load_config
from etad.errors import ConfigError
from etad.sampling.proposals import proposal_count
from etad.sampling.snippets import snippet_count
from tests.bench.small_traces import VIDEOS, small
from tests.etad.small_runs import write_small_set

QUICK = ("--min-time", 0, "--rounds", 3, "--device", "cpu")
SNIPPETS = 8
COUNT_CELL = step_costs.count_cell
POWER = (("energy_per_video_j", 2.5, "J"), ("power_mean_w", 300.0, "W"), ("power_peak_w", 350.0, "W"))
MADE_UP = Counts(
    {"encode": Cost(flops=10**8, moved_bytes=10**6, operators=10)}, ForwardMacs({"conv": 10**8 // 2}, {"aten::lstm": 2})
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["throughput", *(str(argument) for argument in arguments)])


def records_of(result: Result) -> list[Record]:
    assert result.exit_code == 0, result.stderr
    return [Record.model_validate(tree) for tree in json.loads(result.stdout)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(small(snippets=SNIPPETS).resolved()))
    return path


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the cells here, and know the roof and the counts: processes, calibration and counting cost seconds."""

    def run_here(function: Any, *arguments: Any, timeout_s: float) -> Any:
        return Outcome("ok", function(*arguments), "", datetime.now(UTC), 1.0)

    for module in (processes, suite):
        monkeypatch.setattr(module, "run_all", processes.run_here)
    monkeypatch.setattr(variants_module, "run_isolated", run_here)
    for module in (throughput_module, variants_module):
        monkeypatch.setattr(module, "count_cell", lambda config, what: MADE_UP)
    for module in (timing, variants_module):
        monkeypatch.setattr(module, "measure_roof", lambda device, config: Roof(1e11, 1e10, 1e-6, "made up"))
    monkeypatch.setattr(throughput_module, "matmul_flops_per_s", lambda device, dtype, size: 1e11)


# Rounds -------------------------------------------------------------------------------------------------------------


def rounds_of(*durations_s: float) -> list[Round]:
    return [Round(duration_s, duration_s, {}) for duration_s in durations_s]


def test_rounds_are_taken_until_time_and_number_are_reached() -> None:
    limits = Limits(min_time_s=3.0, rounds=4, max_time_s=100.0)
    assert not limits.reached(rounds_of(1.0, 1.0, 1.0), 3.0)
    assert limits.reached(rounds_of(1.0, 1.0, 1.0, 1.0), 4.0)
    assert not limits.reached(rounds_of(*[0.1] * 10), 1.0)
    # A warm-up counts for neither.
    assert not limits.reached(rounds_of(5.0, 1.0, 1.0, 1.0), 8.0)
    # The most is taken for enough, except for a single round, which may be the warm-up.
    assert limits.reached(rounds_of(60.0, 60.0), 120.0)
    assert not limits.reached(rounds_of(120.0), 120.0)
    assert limits.reached(rounds_of(*[1e-4] * MOST_ROUNDS), 0.1)


def test_several_calls_take_turns_from_both_ends() -> None:
    called: list[str] = []
    calls = [lambda name=name: called.append(name) for name in "ab"]
    watches = [Stopwatch(HostClock()) for _ in calls]
    taken = take_rounds(calls, watches, Limits(0.0, 4, 1.0))  # type: ignore[arg-type]
    assert len(taken[0]) == len(taken[1]) >= 4
    assert "".join(called).startswith("abbaabba")


def test_processes_share_the_time_and_their_rounds_are_put_together() -> None:
    assert Limits(6.0, 10, 30.0, processes=3).of_one_process() == Limits(2.0, 4, 10.0)
    fast = replace(timing_of(roof=Roof(1e12, 1e9, 2e-6, "made up")), rounds=tuple(rounds_of(9.0, 1.0, 1.1, 1.0)))
    slow = replace(timing_of(roof=Roof(1e11, 1e10, 1e-6, "made up")), rounds=tuple(rounds_of(2.0, 2.1)))
    both = pooled([fast, slow])
    assert [one.duration_s for one in both.warmup] == [9.0]
    # In turn: what differs between processes must not look like a drift.
    assert [one.duration_s for one in both.counted] == [1.0, 2.0, 1.1, 2.1, 1.0]
    assert both.roof == Roof(1e12, 1e10, 1e-6, "made up")
    assert "2 processes" in both.method
    assert pooled([fast]).counted == fast.counted


def test_the_first_process_that_fails_ends_the_cell() -> None:
    ends = iter(
        Outcome(status, value, message, datetime.now(UTC), 1.0)  # type: ignore[arg-type]
        for status, value, message in (("ok", timing_of(), ""), ("error", None, "died"), ("ok", timing_of(), ""))
    )

    def runner(function: Any, calls: Any, timeout_s: float, workers: int = 1) -> Any:
        return (next(ends) for _ in calls)

    limits = Limits(processes=3)
    outcome = timing.time_in_processes(load_config("quickstart"), "train", "cpu", limits, False, runner)
    assert (outcome.status, outcome.value, outcome.message, outcome.duration_s) == ("error", None, "died", 2.0)
    assert len(list(ends)) == 1


def test_threads_are_those_asked_for(config: Path) -> None:
    before = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    try:
        (record,) = records_of(run("-c", config, *QUICK, "--threads", 1, "--format", "json"))
        assert record.environment["torch"]["threads"] == 1
        assert "--threads 1" in record.command
        # Processes that start from here on know it from there.
        assert os.environ["OMP_NUM_THREADS"] == "1"
    finally:
        torch.set_num_threads(before[0])
        os.environ.pop("OMP_NUM_THREADS") if before[1] is None else os.environ.update(OMP_NUM_THREADS=before[1])


# Records ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment() -> Any:
    return collect_environment()


def record_from(found: Timing | None, environment: Any, counts: Counts | None = None, message: str = "") -> Record:
    (cell,) = throughput_cells("quickstart", {}, (), "train", "cpu")
    status: Any = "ok" if found else "error"
    outcome = Outcome(status, found, message, datetime.now(UTC), 1.0)
    question = asked("train", False, environment, "cpu")
    return throughput_record(cell, outcome, counts, question, environment, Limits(rounds=3))


def timing_of(device: str | None = None, roof: Roof | None = None, issued: float = 0.5) -> Timing:
    durations = [9.0, 1.0, 1.02, 0.98, 1.01, 1.0]
    rounds = tuple(Round(one, issued * one, {"encode": 0.6 * one, "detect": 0.3 * one}) for one in durations)
    return Timing(rounds, Amounts(2, 64, 512, 264), roof or Roof(1e12, 1e11, 1e-6, "made up"), "clock", 1e-6, device)


def test_a_record_has_samples_interval_scatter_and_rates(environment: Any) -> None:
    record = record_from(timing_of(), environment)
    step = record.metrics["step_s"]
    assert (step.value, len(step.samples)) == (1.0, 5)
    assert step.low is not None
    assert step.high is not None
    assert 0.98 <= step.low <= 1.0 <= step.high <= 1.02
    assert record.metrics["step_mad_s"].value == pytest.approx(0.01)
    assert record.metrics["warmup_rounds"].value == 1
    assert record.metrics["warmup_step_s"].samples == (9.0,)
    assert [record.metrics[f"{name}_per_s"].value for name in ("videos", "snippets", "frames", "proposals")] == [
        *(2.0, 64.0, 512.0, 264.0)
    ]
    # Three pairs of marks of a microsecond each in a second.
    assert record.metrics["measuring_overhead_ratio"].value == pytest.approx(3e-6)
    assert record.findings["stability.step_s"].verdict == "stable"
    assert {name: metrics["time_s"].value for name, metrics in record.phases.items()} == {
        "encode": pytest.approx(0.6),
        "detect": pytest.approx(0.3),
        "other": pytest.approx(0.1),
    }
    assert "torch_counter_flops" not in record.metrics
    assert check(record) == []


def test_arithmetic_meets_time(environment: Any) -> None:
    cost = Cost(flops=6 * 10**11, excess_flops=10**11, lstm_flops=10**11, moved_bytes=10**10, operators=50)
    cost.uncounted.update({"relu": 3, "add": 7})
    record = record_from(timing_of(), environment, Counts({"encode": cost}, None, "fvcore cannot follow"))
    metrics = record.metrics
    assert metrics["achieved_flops_per_s"].value == pytest.approx(6e11)
    assert metrics["mfu_ratio"].value == pytest.approx(0.6)
    assert metrics["arithmetic_intensity_flops_per_byte"].value == pytest.approx(60)
    assert metrics["fvcore_forward_macs"].reason == "fvcore cannot follow"
    assert metrics["torch_counter_flops"].exact
    assert record.phases["encode"]["moved_bytes"].value == 10**10
    assert record.findings["uncounted.torch_counter_flops"].verdict == "add x7, relu x3"
    assert str(record.findings["bound"]).startswith("compute: of the step, ")


def test_on_an_unknown_gpu_mfu_is_null_with_the_reason(environment: Any) -> None:
    unknown = Roof(None, None, 1e-6, "RTX 9090 has no hardware profile")
    cost = Cost(flops=10**11, moved_bytes=10**9, operators=9)
    record = record_from(timing_of("RTX 9090", unknown), environment, Counts({"encode": cost}, None))
    assert record.device == "rtx-9090"
    assert record.metrics["mfu_ratio"].value is None
    assert "RTX 9090 has no hardware profile" in str(record.metrics["mfu_ratio"].reason)
    assert record.metrics["peak_flops_per_s"].value is None
    assert record.metrics["issue_s"].value == pytest.approx(0.5)


def test_a_gpu_that_waits_for_the_host_is_bound_by_it(environment: Any) -> None:
    cost = Cost(flops=10**9, moved_bytes=10**9, operators=10)
    record = record_from(timing_of("NVIDIA H100", issued=0.97), environment, Counts({"encode": cost}, None))
    assert str(record.findings["bound"]).startswith("host: the GPU waits while the host issues, 97%")


def test_a_step_that_could_not_be_counted_is_still_timed(environment: Any) -> None:
    record = record_from(timing_of(), environment, Counts(None, None, "counting failed: out of luck"))
    assert record.status == "ok"
    assert record.metrics["mfu_ratio"].reason == "counting failed: out of luck"
    assert "bound" not in record.findings


def test_a_cell_that_died_says_how(environment: Any) -> None:
    record = record_from(None, environment, message="its process was ended by SIGKILL")
    assert record.status == "error"
    assert record.failure is not None
    assert record.device == throughput_module.device_slug(environment)


def test_a_peak_that_was_measured_too_low_is_said(environment: Any) -> None:
    cost = Cost(flops=2 * 10**12, moved_bytes=10**10, operators=50)
    record = record_from(timing_of(), environment, Counts({"encode": cost}, None))
    assert record.warnings[0].startswith("MFU is 200%: the peak was measured too low")


def test_too_few_rounds_are_said(environment: Any) -> None:
    found = timing_of()
    short = Timing(found.rounds[:2], *list(vars(found).values())[1:])
    record = record_from(short, environment)
    assert record.warnings == ("1 of 3 rounds: --max-time 120 was over",)
    assert record.metrics["step_s"].low is None
    assert str(record.findings["stability.step_s"]).startswith("noisy: 1 rounds")


# The device ---------------------------------------------------------------------------------------------------------


def test_the_roof_of_a_gpu_is_its_data_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(roofs, "_operator_s", lambda device, clock: 4e-6)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=85_000_000_000)
    )
    roof = measure_roof(torch.device("cuda", 0), small(precision="bf16"))
    assert roof.source == "data sheet of h100_sxm_80g, bf16"
    assert roof.operator_s == 4e-6
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Future 1")
    assert "no hardware profile" in measure_roof(torch.device("cuda", 0), small()).source


def test_the_roof_of_a_cpu_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(roofs, "matmul_flops_per_s", lambda device, dtype, size: 5e10)
    monkeypatch.setattr(roofs, "copy_bytes_per_s", lambda device, size_bytes: 1e10)
    roof = measure_roof(torch.device("cpu"), small())
    assert (roof.peak_flops_per_s, roof.bandwidth_bytes_per_s) == (5e10, 1e10)
    assert roof.source.startswith("measured here: ")
    assert 0 < roof.operator_s < 1e-3


def test_fp32_means_tf32_where_the_gpu_and_the_flags_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "conv", SimpleNamespace(fp32_precision="tf32"), raising=False)
    assert device_precision("fp32", "9.0") == "tf32"
    assert device_precision("fp32", "7.5") == "fp32"
    assert device_precision("bf16", "9.0") == "bf16"
    monkeypatch.setattr(torch.backends.cudnn, "conv", SimpleNamespace(fp32_precision="ieee"), raising=False)
    assert device_precision("fp32", "9.0") == "fp32"


def test_the_gpu_of_a_cell_that_died_is_named_by_nvml() -> None:
    def machine(*names: str, cuda: bool = True) -> Any:
        found = tuple(SimpleNamespace(name=name) for name in names)
        return SimpleNamespace(gpus=SimpleNamespace(found=found), torch=SimpleNamespace(cuda_available=cuda))

    assert gpu_name(machine("first", "second"), "cuda:1") == "second"
    assert gpu_name(machine("first"), "auto") == "first"
    assert gpu_name(machine("first", cuda=False), "auto") is None
    assert gpu_name(machine("first"), "cpu") is None
    assert gpu_name(machine(), "cuda") is None


# The command --------------------------------------------------------------------------------------------------------


def test_a_training_step(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput_module, "count_cell", COUNT_CELL)
    store, plot = tmp_path / "results", tmp_path / "roof.svg"
    result = run("-c", config, *QUICK, "--format", "json", "--store", store, "--roofline", plot)
    (record,) = records_of(result)
    assert (record.suite, record.kind, record.status) == ("throughput", "measured", "ok")
    assert list(record.phases) == [*("encode", "detect", "update_detector", "backpropagate", "update_encoder", "other")]
    assert record.metrics["snippets_per_s"].method == f"{VIDEOS * SNIPPETS} snippets / step_s"
    assert record.metrics["fvcore_forward_macs"].value
    assert len(record.metrics["step_s"].samples) >= 3
    assert "--what train" in record.command
    (stored,) = ResultStore(store).records()
    assert stored.cell_id == record.cell_id
    assert "arithmetic intensity" in plot.read_text()


def test_the_report_of_one_cell(config: Path) -> None:
    result = run("-c", config, *QUICK, "--what", "infer", "--ratio", "0.5")
    assert result.exit_code == 0, result.stderr
    for text in (
        "small, detection of a batch: ",
        "note: --ratio has no effect: detection judges all proposals and trains nothing",
        "encode",
        "rounds after",
        "videos/s",
        "multiply-adds forward by fvcore",
        "of 100 GFLOP/s (made up)",
        "bound        ",
        "not counted  by fvcore_forward_macs: aten::lstm x2",
    ):
        assert text in result.stdout


def test_energy_is_a_pass_of_its_own(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(call: Any, videos: int, gpu: Any, host: Any, wait: Any) -> Any:
        call()
        metrics = {name: Metric(value=value, unit=unit) for name, value, unit in POWER}
        return metrics | {"host_energy_per_video_j": Metric(value=None, unit="J", reason="no RAPL")}, {
            "throttling": "hot"
        }

    monkeypatch.setattr(timing, "measure_energy", measured)
    result = run("-c", config, *QUICK, "--what", "infer", "--energy")
    assert result.exit_code == 0, result.stderr
    for text in (
        "energy       2.5 J a video",
        "not known: no RAPL",
        "300 W on average, 350 W at most",
        "throttling   hot",
    ):
        assert text in result.stdout


def test_several_cells_are_a_table(config: Path) -> None:
    result = run("-c", config, *QUICK, "--what", "infer", "--batch", "1,2", "--format", "csv")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["batch"] for row in rows] == ["1", "2"]
    for row in rows:
        assert float(row["95_%_interval_s_low"]) <= float(row["step_s"]) <= float(row["95_%_interval_s_high"])


@pytest.mark.parametrize("classes", ["external", "snippet", "agnostic"])
def test_post_processing_runs_no_network(config: Path, classes: str) -> None:
    settings = ["--set", f"postprocess.classes={classes}"]
    if classes == "snippet":
        settings += ["--set", "model.classifier.hidden=4"]
    result = run("-c", config, *QUICK, *settings, "--what", "post", "--chunk", 4, "--format", "json")
    (record,) = records_of(result)
    assert list(record.phases) == ["detections", "other"]
    assert record.metrics["proposals_per_s"].value
    assert record.warnings == ("--chunk has no effect: --what post runs no network",)


def test_data_is_read_from_the_data_set(tmp_path: Path) -> None:
    config = write_small_set(tmp_path)
    (record,) = records_of(run("-c", config, *QUICK, "--what", "data", "--format", "json"))
    assert list(record.phases) == ["read", "collate", "other"]
    assert record.metrics["videos_per_s"].value
    (trained,) = records_of(run("-c", config, *QUICK, "--real-data", "--format", "json"))
    assert "data_wait" in trained.phases
    assert trained.measurement["real_data"] is True


def test_without_the_data_set_one_line_says_so(tmp_path: Path) -> None:
    config = write_small_set(tmp_path)
    (tmp_path / "annotations.json").unlink()
    result = run("-c", config, *QUICK, "--what", "data")
    assert result.exit_code == 2
    assert "annotations.json" in result.stderr


def test_a_heavy_cell_is_announced(config: Path) -> None:
    limits = Limits(5.0, 10, 120.0)
    heavy = throughput_cells("anet_features", {}, (), "train", "cpu")
    warning = expected_duration(heavy, "train", "cpu", limits)
    assert warning is not None
    assert "a step takes about" in warning
    assert "--snippets 8" in warning
    light = throughput_cells(str(config), {}, (), "infer", "cpu")
    assert expected_duration(light, "infer", "cpu", limits) is None


def test_users_mistakes_are_one_line(config: Path, tmp_path: Path) -> None:
    for arguments, code, text in (
        (["-c", config, "--roofline", tmp_path / "roof.doc"], 2, "name a file that ends in"),
        (["-c", config, "--device", "tpu"], 6, "unknown"),
        (["-c", config, "--variants", "published,slow"], 2, "variant slow: not "),
        (["-c", config, "--variants", "published,fast", "--what", "post"], 2, "compares --what train"),
        (["--variants", "published,fast", "--batch", "2"], 2, "--batch: the targets' settings are fixed"),
    ):
        result = run(*arguments)
        assert result.exit_code == code
        assert text in result.stderr
        assert "Traceback" not in result.stderr


# Variants -----------------------------------------------------------------------------------------------------------


def test_variants_side_by_side(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants_module, "predicted_peaks", lambda config, task: {"allocated": 7, "reserved": 9})
    result = run("-c", config, *QUICK, "--variants", "published,published:bf16,lean", "--format", "json")
    reference, other, same = records_of(result)
    assert reference.measurement["variant"] == "published"
    assert other.config["step"]["precision"] == "bf16"  # type: ignore[index, call-overload]
    assert reference.cell_id != other.cell_id
    assert other.command.endswith("--variants published,published:bf16,lean")
    assert reference.metrics["speedup_ratio"].value == 1.0
    ratio = other.metrics["speedup_ratio"]
    assert len(ratio.samples) >= 3
    assert other.metrics["predicted_allocated_peak_bytes"].value == 7
    for name in ("feature_cosine", "encoder_gradient_cosine", "detector_gradient_cosine", "score", "segment"):
        value = other.metrics[f"{name}_difference"].value
        assert value is not None
        assert 0 < value < 0.1, name
        assert f"{name}_difference" not in reference.metrics
    for part in ("encoder", "detector"):
        assert same.metrics[f"{part}_gradient_difference_float64"].value < 1e-12  # type: ignore[operator]
        assert 0 < reference.metrics[f"{part}_gradient_rounding"].value < 0.02  # type: ignore[operator]
        assert f"{part}_gradient_rounding" not in other.metrics
    table = format_variants([reference, other], "table")
    assert "times faster" in table
    assert "encoder gradient rounding" in table
    assert "gradient rounding: of the form in fp32 against the reference in float64" in table
    assert "small, training step  published:bf16  ok" in table


def test_a_comparison_in_float64_that_failed_says_why(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome("error", None, "its process was ended by SIGKILL", datetime.now(UTC), 1.0)
    monkeypatch.setattr(variants_module, "run_isolated", lambda *_, timeout_s: outcome)
    forms = {"published": small(), "lean": small()}
    metrics = variants_module.float64_metrics(forms, "train", "cpu")
    for of_form in metrics.values():
        assert "SIGKILL" in str(of_form["detector_gradient_rounding"].reason)
    assert list(metrics) == ["published", "lean"]


def test_a_variant_with_impossible_settings_is_refused() -> None:
    (cell,) = throughput_cells("quickstart", {}, ("model.encoder.norm_eval=false",), "train", "cpu")
    with pytest.raises(ConfigError, match="norm_eval"):
        variants_module.variant_cells(cell, ["published", "fast"])


def test_a_target_is_reached_missed_or_open() -> None:
    (cell,) = throughput_cells("quickstart", {}, (), "train", "cpu")

    def verdict(low: float, value: float, high: float) -> str:
        ratio = Metric(value=value, low=low, high=high, unit="1")
        record = Record(
            status="ok",
            kind="measured",
            suite="throughput",
            device="cpu",
            config=cell.config.resolved(),
            measurement={"task": "train", "variant": "fast", "variants": ["published", "fast"]},
            metrics={"speedup_ratio": ratio},
            findings={"bound": Finding(verdict="compute", why="of the step")},
            environment={},
            command=cell.command,
            started_at=datetime.now(UTC),
            duration_s=1.0,
        )
        return str(with_verdict(record, 4.0).findings["target"])

    assert verdict(4.1, 4.5, 5.0) == "reached: 4.50 times, 4 wanted"
    assert verdict(2.0, 2.5, 3.0) == "missed: 2.50 times, 4 wanted; compute: of the step"
    assert verdict(3.9, 4.1, 4.3).startswith("open: 3.90 to 4.30 times")


def test_the_targets_are_settings_that_load() -> None:
    for target in GOALS:
        for device_type in ("cpu", "cuda"):
            config = goal_cell(target, device_type).config
            assert variants_module.variant_cells(goal_cell(target, device_type), ["published", "fast"])
            if target.config == "anet_e2e":
                drawn = snippet_count(config.data.length, config.step.snippet_ratio, config.step.chunk)
                assert drawn / config.data.length == pytest.approx(0.3, abs=0.02)
    assert proposal_count(goal_cell(GOALS[0], "cpu").config) == 495
    assert amounts_of(goal_cell(GOALS[1], "cpu").config, task="infer").proposals == 8256


@pytest.mark.parametrize("row", LOOP_ROWS, ids=lambda row: row.task)
def test_loops_and_vectorised_forms_agree(row: LoopRow) -> None:
    config = goal_cell(GOALS[0], "cpu").config
    rounds, difference = time_loops(row, config, Limits(0.0, 1, 0.0))
    assert len(rounds) == 2
    assert difference < 1e-9
