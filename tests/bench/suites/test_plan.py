"""``etad-bench plan``: the border of what fits, its order, and the inverse question; the count of arithmetic."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from torch.utils.flop_counter import FlopCounterMode

from bench.cli import main
from bench.machine.datasheets import CONTEXT_ALLOWANCE_BYTES, load_profile
from bench.machine.processes import Outcome
from bench.predict.fit import Fit, Target, judge_fit, judge_within, predict_within
from bench.predict.memory import predict_from_trace
from bench.predict.quick_flops import arithmetic_per_video
from bench.records.record import Record
from bench.records.sanity import check
from bench.suites import plan as planning
from bench.suites.plan import Search, explore, peak_flops_per_s
from bench.units import MIB
from etad.config import Config
from etad.models.etad import Etad
from etad.step import TrainingStep
from etad.train import build_optimizer
from tests.bench.predict.test_trace import real_batch, streams
from tests.bench.small_traces import VIDEOS, small, traced


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search here: a process for each family costs seconds."""

    def run_here(function: Any, calls: Any, timeout_s: float, workers: int = 1) -> Any:
        for arguments in calls:
            yield Outcome("ok", function(*arguments), "", datetime.now(UTC), 1.0)

    monkeypatch.setattr(planning, "run_all", run_here)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(small(snippets=8).resolved()))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["plan", *(str(argument) for argument in arguments)])


def target(memory_bytes: int, context_bytes: int | None = 0) -> Target:
    return Target("toy", "toy", memory_bytes, context_bytes, "" if context_bytes is not None else "a test", (8, 0))


# The search ---------------------------------------------------------------------------------------------------------


def test_the_border_of_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a toy rule: batch x chunk up to 8 fits, up to 16 perhaps, with recomputation twice as much."""
    tried: list[tuple[bool, int, int]] = []

    def size(config: Config, target: Target) -> Any:
        recompute = config.model.encoder.checkpointing
        tried.append((recompute, config.train.batch, config.step.chunk))
        return config.train.batch * config.step.chunk / (2 if recompute else 1)

    def verdict(load: Any, target: Target) -> Fit:
        return Fit("yes" if load <= 8 else "uncertain" if load <= 16 else "no", "", None)

    monkeypatch.setattr(planning, "trace_for_cuda", lambda config, compute_capability: config)
    monkeypatch.setattr(planning, "predict_within", size)
    monkeypatch.setattr(planning, "judge_within", verdict)
    options = explore(small(snippets=8), target(0), Search(), "sequential", "fp32")
    found = [
        (o.config.model.encoder.checkpointing, o.config.train.batch, o.config.step.chunk, o.found.fit.verdict)
        for o in options
        if o.found.fit is not None
    ]
    assert found == [
        (False, 1, 8, "yes"),
        (False, 2, 8, "uncertain"),
        (False, 2, 4, "yes"),
        (False, 4, 4, "uncertain"),
        (False, 4, 2, "yes"),
        (False, 8, 2, "uncertain"),
        (False, 8, 1, "yes"),
        (True, 2, 8, "yes"),
        (True, 4, 8, "uncertain"),
        (True, 4, 4, "yes"),
        (True, 8, 4, "uncertain"),
        (True, 8, 2, "yes"),
    ]
    assert len(tried) == len(set(tried)) < 2 * 16
    # The chunk only matters to strategies that train by chunks, and nothing is recomputed twice.
    tried.clear()
    explore(small(chunk=2), target(0), Search(batches=(1, 2)), "joint", "fp32")
    assert tried == [(False, 1, 2), (False, 2, 2)]
    tried.clear()
    explore(small(chunk=2), target(0), Search(batches=(64,)), "checkpointed", "fp32")
    assert tried == [(False, 64, chunk) for chunk in (8, 4, 2, 1)]


def test_processes_are_few_but_not_one() -> None:
    assert planning.families(Search()) == 3
    assert planning.families(Search(strategies=("joint",))) == 2


def test_a_plan_is_fastest_first_and_honest(config: Path) -> None:
    result = run(
        "-c", config, "--hardware", "rtx_3060_laptop_6g", "--strategy", "frozen", "--batch", "1", "--chunk", "2",
        "--recompute", "off", "--format", "json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    records = [Record.model_validate(tree) for tree in json.loads(result.stdout)]
    assert all(record.kind == "predicted" and check(record) == [] for record in records)
    least = [record.metrics["arithmetic_floor_per_video_s"].value or 0 for record in records]
    assert least == sorted(least)
    assert {record.config["step"]["precision"] for record in records} == {"fp32", "bf16"}  # type: ignore[index, call-overload]
    assert "not a measured time" in str(records[0].metrics["arithmetic_floor_per_video_s"].method)


def test_a_size_instead_of_a_gpu(config: Path, tmp_path: Path) -> None:
    arguments = ("-c", config, "--batch", "2", "--chunk", "4", "--strategy", "joint", "--precision", "fp32")
    result = run(*arguments, "--memory", "6GiB", "--recompute", "off", "--store", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "6GiB: settings on the border" in result.stdout
    assert "predicted, not yet validated on this device" in result.stdout
    assert len(list(tmp_path.rglob("*.json"))) == 1
    nothing = run(*arguments, "--memory", "1MiB", "--recompute", "off")
    assert nothing.exit_code == 6
    assert "none of the settings fits" in nothing.stderr


def test_which_hardware_fits_a_wanted_setting(config: Path) -> None:
    result = run("-c", config, "--want", "--batch", "1", "--format", "json")
    assert result.exit_code == 0, result.stderr
    records = [Record.model_validate(tree) for tree in json.loads(result.stdout)]
    assert len(records) > 25
    assert {record.metrics["fits"].value for record in records} == {1}
    assert len({record.cell_id for record in records}) == len(records)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --hardware NAME or --memory SIZE"),
        (["--memory", "6"], "--memory 6: not a size"),
        (["--hardware", "t4"], "did you mean t4_16g?"),
        (["--hardware", "t4_16g", "--chunk", "0"], "--chunk 0: must be a whole number from 1 to 2147483647, not 0"),
        (["--want", "--batch", "1,2"], "--want: takes one setting"),
        (["--want", "--memory", "6GiB"], "--memory makes no sense"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


# The verdict --------------------------------------------------------------------------------------------------------


def test_the_verdict() -> None:
    trace = traced(small())
    free = predict_from_trace(trace)
    assert free.reserved is not None
    roomy = judge_fit(free, target(free.reserved.high_bytes + MIB), trace)
    assert (roomy.verdict, roomy.reason) == ("yes", "")
    assert roomy.margin is not None
    assert roomy.margin.low_bytes == MIB
    without_context = judge_fit(free, target(free.reserved.high_bytes + MIB, None), trace)
    assert without_context.verdict == "uncertain"
    assert "CUDA context" in without_context.reason
    far = target(free.reserved.high_bytes + CONTEXT_ALLOWANCE_BYTES, None)
    assert judge_fit(free, far, trace).verdict == "yes"
    assert judge_fit(free, target(MIB), trace).verdict == "no"


def test_what_a_free_prediction_does_not_decide_is_predicted_within_the_memory() -> None:
    trace = traced(small())
    free = predict_from_trace(trace)
    assert free.low.steady is not None
    between = target(free.low.steady.peak.requested_bytes + MIB)
    fit = judge_fit(free, between, trace)
    assert fit == replace(judge_within(predict_within(trace, between), between), margin=fit.margin)
    assert fit.margin is not None


# Arithmetic ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "recompute"),
    [("sequential", False), ("joint", True), ("checkpointed", False), ("frozen", False)],
)
@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_the_count_is_that_of_an_executed_step(strategy: str, recompute: bool) -> None:
    config = small({"checkpointing": recompute}, snippets=8, strategy=strategy)
    model = Etad(config, classes=2).train()
    step = TrainingStep(model, build_optimizer(model, config), config)
    batch = real_batch(config)
    # Through oneDNN, an LSTM is one operator that the counter does not know.
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        step(batch, streams(batch))
    assert VIDEOS * arithmetic_per_video(config).total == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_peaks_of_a_profile() -> None:
    t4, laptop = load_profile("t4_16g"), load_profile("rtx_3060_laptop_6g")
    assert peak_flops_per_s(t4, "bf16") is None
    assert peak_flops_per_s(t4, "fp32") == t4.peak_fp32_flops_per_s
    assert peak_flops_per_s(laptop, "fp32") == laptop.peak_tf32_flops_per_s
