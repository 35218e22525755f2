"""Predicted against measured: errors, verdicts and exit codes; recorded traces; snapshots; timelines."""

import json
import pickle
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.cuda._memory_viz as memory_viz
from click.testing import CliRunner, Result

from bench.cells import Cell
from bench.cli import main
from bench.compare.prediction_errors import NOT_VALIDATED, pairs, standing
from bench.machine import processes
from bench.machine.processes import Outcome
from bench.measure import memory_cuda
from bench.measure.memory_timeline import predicted_timeline
from bench.predict.allocator import CachingAllocator
from bench.predict.fit import Target
from bench.predict.memory import predict_from_trace
from bench.predict.recorded import RecordedTraceError, read_trace, replay_recorded, write_trace
from bench.predict.snapshot import predicted_snapshot, write_snapshot
from bench.records.record import Metrics, Record
from bench.records.store import ResultStore
from bench.report.plots.timeline import POINTS, chosen
from bench.report.terminal.validation import format_validation
from bench.suites import memory_on_gpu
from bench.suites import memory_predicted as memory_prediction
from bench.suites import validation as memory_validation
from bench.suites.memory_predicted import CellPrediction, prediction_record
from bench.suites.validation import CELLS, COLUMNS, present_target, validation_cells
from bench.units import MIB
from tests.bench.fake_gpu import NAME, FakeGpu, gpu
from tests.bench.small_traces import small, traced
from tests.paths import FIXTURES

__all__ = ["gpu"]
TRACES = FIXTURES / "allocator_traces"
DEVICE = "nvidia-h100-80gb-hbm3"


@pytest.fixture(scope="module")
def predicted() -> Record:
    prediction = CellPrediction(predict_from_trace(traced(small())), None)
    outcome = Outcome("ok", prediction, "", datetime.now(UTC), 1.0)
    record = prediction_record(Cell(small(), "train", {}, "etad-bench memory", ()), outcome, None, _environment())
    return record.model_copy(update={"device": DEVICE})


def measured(record: Record, factor: float) -> Record:
    """Return a record as if ``factor`` of what was predicted had been measured."""

    def scaled(metrics: Metrics) -> Metrics:
        kept = {name: metric for name, metric in metrics.items() if metric.value and "peak" in name}
        return {
            name: metric.model_copy(update={"value": round(metric.value * factor), "low": None, "high": None})
            for name, metric in kept.items()
            if metric.value is not None
        }

    tree = record.to_tree() | {"kind": "measured", "status": "ok", "cell_id": "", "metrics": {}, "phases": {}}
    bare = Record.model_validate(tree)
    phases = {phase: scaled(metrics) for phase, metrics in record.phases.items()}
    return bare.model_copy(update={"metrics": scaled(record.metrics), "phases": phases})


def test_errors_are_signed_by_phase(predicted: Record) -> None:
    [pair] = pairs([predicted, measured(predicted, 0.8)])
    found = list(pair.differences())
    assert {d.where for d in found} == {"step", *predicted.phases}
    assert all(d.error_ratio == pytest.approx(0.25, abs=1e-3) for d in found)
    assert not any(d.within_interval for d in found)
    assert {d.level for d in pair.exceeding()} == {"allocated", "reserved"}
    # 8 % too much is too much for allocated, and not for reserved.
    [pair] = pairs([predicted, measured(predicted, 1 / 1.08)])
    assert {d.level for d in pair.exceeding()} == {"allocated"}
    text = format_validation([pair], [], "table")
    assert "+8.0%  !" in text
    assert "allocated: +8.0% to +8.0% over 1 cells, 1 beyond the allowed 5%" in text
    tree = json.loads(format_validation([pair], [], "json"))
    assert tree[0]["differences"][0]["error_ratio"] == pytest.approx(0.08, abs=1e-3)
    assert format_validation([pair], [], "csv").splitlines()[0].startswith("batch,chunk,ratio")


def test_only_the_same_cell_of_the_same_device_belongs_together(predicted: Record) -> None:
    other = measured(predicted, 1.0)
    assert pairs([predicted, other.model_copy(update={"device": "tesla-t4"})]) == []
    assert pairs([predicted, other.model_copy(update={"measurement": {"task": "infer"}})]) == []
    assert pairs([predicted]) == []
    assert len(pairs([predicted, other])) == 1


def test_a_prediction_says_how_right_it_was(predicted: Record, tmp_path: Path) -> None:
    assert standing(DEVICE, [tmp_path / "nothing"]) == NOT_VALIDATED
    store = ResultStore(tmp_path)
    store.write(predicted)
    assert standing(DEVICE, [tmp_path]) == NOT_VALIDATED
    store.write(measured(predicted, 1 / 1.02))
    (tmp_path / DEVICE / "memory" / "damaged.json").write_text("{")
    found = standing(DEVICE, [tmp_path, tmp_path])
    assert "validated on this device by 1 cells" in found
    assert "allocated +2.0% to +2.0% (allowed: 5%)" in found
    assert standing("tesla-t4", [tmp_path]) == NOT_VALIDATED


# The command --------------------------------------------------------------------------------------------------------


def validate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["validate", *map(str, arguments)])


def test_the_list_covers_what_it_has_to() -> None:
    assert len(CELLS) >= 12
    values = [{row[column] for row in CELLS} for column in range(len(COLUMNS))]
    assert values == [
        {"1", "2", "4"},
        {"1", "4", "8"},
        {"0", "0.3", "1.0"},
        {"sequential", "joint", "checkpointed"},
        {"fp32", "bf16"},
        {"0", "2"},
    ]
    cells = validation_cells("anet_e2e")
    assert len(cells) == len(CELLS) == len({cell.config.model_dump_json() for cell in cells})
    assert {cell.config.model.encoder.frozen_stages for cell in cells} == {0, 2}


def test_without_a_gpu_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = validate()
    assert (result.exit_code, result.stdout) == (6, "")
    assert len(result.stderr.strip().splitlines()) == 1
    assert "there is none here" in result.stderr


@pytest.mark.parametrize(("factor", "exit_code"), [(1.0, 0), (0.8, 1)])
def test_both_kinds_are_kept_and_judged(
    gpu: FakeGpu,
    predicted: Record,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    factor: float,
    exit_code: int,
) -> None:
    monkeypatch.setattr(memory_validation, "validation_cells", lambda config, assignments: [None])
    monkeypatch.setattr(memory_validation, "present_target", lambda: Target.of_size(2**30))
    both = [(predicted, measured(predicted, factor))]
    monkeypatch.setattr(memory_validation, "both_ways", lambda cells, target, known: iter(both))
    result = validate("--store", tmp_path)
    assert result.exit_code == exit_code, result.output
    assert "backpropagate" in result.stdout
    assert {record.kind for record in ResultStore(tmp_path).records()} == {"predicted", "measured"}


def test_a_cell_that_fails_fails_the_command(
    gpu: FakeGpu, predicted: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tree = measured(predicted, 1.0).to_tree() | {"status": "error", "failure": {"message": "its process died"}}
    both = [(predicted, Record.model_validate(tree))]
    monkeypatch.setattr(memory_validation, "validation_cells", lambda config, assignments: [None])
    monkeypatch.setattr(memory_validation, "present_target", lambda: Target.of_size(2**30))
    monkeypatch.setattr(memory_validation, "both_ways", lambda cells, target, known: iter(both))
    result = validate("--store", tmp_path)
    assert result.exit_code == 3
    assert "its process died" in result.stdout


def run_here(function: Any, *arguments: Any, timeout_s: float) -> Any:
    return Outcome("ok", function(*arguments), "", datetime.now(UTC), 1.0)


def test_a_cell_is_predicted_and_measured_for_the_same_device(
    gpu: FakeGpu, predicted: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = CellPrediction(predict_from_trace(traced(small())), None)
    monkeypatch.setattr(memory_validation, "run_isolated", run_here)

    def runner(function: Any, calls: Any, timeout_s: float, workers: int = 1) -> Iterator[Any]:
        done = Outcome("ok", prediction, "", datetime.now(UTC), 1.0)
        return iter([done]) if function is memory_prediction.predict_cell else processes.run_here(function, calls, 1.0)

    monkeypatch.setattr(memory_prediction, "collect_environment", lambda: _environment())
    monkeypatch.setattr(memory_on_gpu, "collect_environment", lambda: _environment())
    target = present_target()
    assert (target.name, target.device, target.compute_capability) == ("h100_sxm_80g", DEVICE, (9, 0))
    cell = Cell(small(), "train", {}, "etad-bench memory --device cuda --config x", ())
    [(first, second)] = memory_validation.both_ways([cell], target, runner=runner)
    assert (first.kind, second.kind) == ("predicted", "measured")
    assert "--device predict --hardware h100_sxm_80g" in first.command
    assert len(pairs([first, second])) == 1
    # What is known is not run again.
    monkeypatch.setattr(memory_validation, "measure_cells", lambda *_, **__: pytest.fail("measured again"))
    assert list(memory_validation.both_ways([cell], target, pairs([first, second]))) == [(first, second)]


def _environment() -> Any:
    from tests.bench.fake_gpu import environment

    return environment()


# Recorded traces ----------------------------------------------------------------------------------------------------


def test_a_trace_is_kept_as_it_was(tmp_path: Path) -> None:
    events = predicted_snapshot(traced(small(strategy="joint")))["device_traces"][0]
    path = tmp_path / "trace.json.gz"
    write_trace(path, [*events, {"action": "snapshot"}], {"gpu": NAME})
    recorded = read_trace(path)
    assert recorded.facts == {"gpu": NAME}
    kept = recorded.events
    assert len(kept) == len(events)
    assert replay_recorded(kept).difference is None
    # One byte more in a segment, and it shows.
    number = next(n for n, event in enumerate(kept) if event["action"] == "segment_alloc")
    kept[number]["size"] += 512
    assert "simulated a segment" in str(replay_recorded(kept).difference)
    path.write_bytes(b"{}")
    with pytest.raises(RecordedTraceError, match="not a recorded trace"):
        read_trace(path)


RECORDED = sorted(TRACES.glob("*.json.gz"))
"""By ``python -m tests.recording``, or by ``etad-bench validate --traces`` on a GPU; a file's facts tell which."""


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_the_simulator_does_what_torchs_allocator_did(path: Path) -> None:
    recorded = read_trace(path)
    replayed = replay_recorded(recorded.events, recorded.settings)
    assert replayed.difference is None
    # A GPU's record has its events alone.
    if "gpu" not in recorded.facts:
        assert replayed.counters == recorded.facts["counters"]


def test_the_driver_decides_nothing_but_addresses() -> None:
    # As it is in a prediction: the requests alone, with addresses that the simulator makes up.
    recorded = read_trace(TRACES / "stand-in-small-joint-fp32.json.gz")
    allocator = CachingAllocator(recorded.settings)
    for entry in recorded.events:
        if entry["action"] == "alloc":
            allocator.allocate(entry["addr"], entry["size"], entry["stream"])
        elif entry["action"] == "free_completed":
            allocator.free(entry["addr"])
    made = [entry["size"] for entry in recorded.events if entry["action"] == "segment_alloc"]
    assert [segment.size_bytes for segment in allocator.made] == made
    assert asdict(allocator.peak).items() <= recorded.facts["counters"].items()


@pytest.mark.parametrize("name", ["ample", "too-little"])
def test_without_a_capacity_the_record_tells_when_the_cache_is_emptied(name: str) -> None:
    recorded = read_trace(TRACES / f"stand-in-random-{name}.json.gz")
    # As a GPU's record is: nothing in it but what the allocator wrote down.
    replayed = replay_recorded([e for e in recorded.events if e["action"] not in ("empty_cache", "record_stream")])
    assert replayed.difference is None
    assert replayed.counters == {**recorded.facts["counters"], "retries": 0}


@pytest.mark.parametrize(("more_bytes", "difference"), [(-2 * MIB, "simulated out of memory"), (2 * MIB, "released")])
def test_another_capacity_is_another_record(more_bytes: int, difference: str) -> None:
    recorded = read_trace(TRACES / "stand-in-random-tight.json.gz")
    assert recorded.settings.capacity_bytes is not None
    settings = replace(recorded.settings, capacity_bytes=recorded.settings.capacity_bytes + more_bytes)
    assert difference in str(replay_recorded(recorded.events, settings).difference)


@pytest.mark.parametrize("action", ["empty_cache", "record_stream", "oom", "segment_free", "free_completed"])
def test_nothing_may_be_left_out_of_a_record(action: str) -> None:
    recorded = read_trace(TRACES / "stand-in-random-tight.json.gz")
    left_out = [entry for entry in recorded.events if entry["action"] != action]
    assert len(left_out) < len(recorded.events)
    with suppress(RecordedTraceError):
        assert replay_recorded(left_out, recorded.settings).difference is not None


def test_small_cells_are_recorded_and_replayed(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    snapshot = predicted_snapshot(traced(small(strategy="joint")))
    monkeypatch.setattr(memory_validation, "run_isolated", run_here)
    monkeypatch.setattr(memory_cuda, "record_history", lambda frames: None)
    monkeypatch.setattr(memory_cuda, "stop_history", lambda: None)
    monkeypatch.setattr(memory_cuda, "dump_history", lambda path: write_snapshot(path, snapshot))
    found = list(memory_validation.record_traces("anet_e2e", tmp_path))
    assert [difference for _, difference in found] == [None] * len(memory_validation.TRACED)
    assert next(path.name for path, _ in found) == f"{DEVICE}-sequential-fp32.json.gz"
    assert all(path.exists() for path, _ in found)


# Pictures -----------------------------------------------------------------------------------------------------------


def test_a_predicted_snapshot_is_one_that_torch_reads(tmp_path: Path) -> None:
    trace = traced(small())
    snapshot = predicted_snapshot(trace)
    write_snapshot(tmp_path / "s.pickle", snapshot)
    assert pickle.loads((tmp_path / "s.pickle").read_bytes()) == snapshot
    # Torch's own tools take it apart, down to every allocation.
    assert "segments" in memory_viz.segsum(snapshot).lower()
    assert "cudaMalloc(2097152, 2.0MiB)" in memory_viz.trace(snapshot)
    assert snapshot["device_traces"][0][1]["frames"][1]["name"] == "feature_extractor.model.backbone.0.0"
    allocator = CachingAllocator()
    certain = trace.keeping(lambda allocation: not allocation.uncertain)
    for events in (trace.setup, *(part.events for part in (*certain.first, *certain.steady))):
        allocator.replay(events)
    assert sum(segment["total_size"] for segment in snapshot["segments"]) == allocator.usage.reserved_bytes
    assert sum(segment["allocated_size"] for segment in snapshot["segments"]) == allocator.usage.allocated_bytes
    assert sum(segment["requested_size"] for segment in snapshot["segments"]) == allocator.usage.requested_bytes


def test_a_timeline_adds_up_to_the_predicted_peaks() -> None:
    prediction = predict_from_trace(traced(small()))
    timeline = predicted_timeline(traced(small()))
    assert prediction.composition is not None
    assert prediction.low.steady is not None
    assert timeline.total.max() == prediction.low.steady.peak.requested_bytes
    assert [name for name, _, _ in timeline.phases] == list(prediction.low.steady.phases)
    for name, begin, end in timeline.phases:
        before = timeline.total[begin - 1 : begin] if begin else timeline.total[:0]
        peak = np.concatenate([before, timeline.total[begin:end]]).max()
        assert peak == prediction.low.steady.phases[name].requested_bytes
    assert (timeline.reserved >= timeline.total).all()
    shown = chosen(timeline)
    assert len(shown) <= POINTS
    assert timeline.total[shown].max() == timeline.total.max()
