"""Memory measured on CUDA: up to the kernels, on a GPU that is not there."""

import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pynvml
import pytest
import torch

from bench.cells import Cell
from bench.machine.process_memory import ProcessMeter
from bench.machine.processes import Outcome
from bench.measure import memory_cuda
from bench.measure.memory_cuda import CudaMemory, Marks, Recording, measure_cell
from bench.measure.memory_timeline import recorded_timeline
from bench.predict.memory import predict_from_trace
from bench.predict.recorder import INFERENCE, Category
from bench.records.record import Record
from bench.records.sanity import check
from bench.suites.memory_on_gpu import cuda_record
from bench.suites.memory_predicted import CellPrediction, prediction_record
from bench.units import MIB
from etad.errors import DeviceError
from tests.bench.fake_gpu import NAME, PARAMETERS, SIZES, FakeGpu, environment, gpu
from tests.bench.small_traces import small, traced

__all__ = ["gpu"]
CUDA = torch.device("cuda", 0)


def record_of(found: CudaMemory | None, message: str = "", status: Any = "ok") -> Record:
    cell = Cell(small(), "train", {}, "etad-bench memory --device cuda", ())
    outcome = Outcome(status, found, message, datetime.now(UTC), 2.0)
    record = cuda_record(cell, outcome, environment())
    assert check(record) == []
    return record


def value(record: Record, name: str, phase: str | None = None) -> int | float | None:
    return (record.metrics if phase is None else record.phases[phase])[name].value


def test_peaks_are_of_each_phase_and_first_and_steady_step_are_apart(gpu: FakeGpu) -> None:
    found = measure_cell(small(), task="train")
    assert found.settled
    assert len(found.steps) == 3
    record = record_of(found)
    assert (record.status, record.kind, record.device) == ("ok", "measured", "nvidia-h100-80gb-hbm3")
    assert list(record.phases) == [name for name in SIZES if name != INFERENCE]
    for phase, metrics in record.phases.items():
        first = PARAMETERS + SIZES[phase] * MIB + (2 * PARAMETERS if phase == "update_encoder" else 0)
        assert metrics["first_step_requested_peak_bytes"].value == first
        assert metrics["steady_step_requested_peak_bytes"].value == 3 * PARAMETERS + SIZES[phase] * MIB
    assert value(record, "first_step_requested_peak_bytes") == PARAMETERS + 200 * MIB
    assert value(record, "steady_step_requested_peak_bytes") == 3 * PARAMETERS + 200 * MIB
    assert value(record, "requested_peak_bytes") == 3 * PARAMETERS + 200 * MIB
    assert value(record, "requested_per_video_bytes") == (3 * PARAMETERS + 200 * MIB) // 2
    assert value(record, "requested_static_bytes") == PARAMETERS
    assert value(record, "alloc_retries") == 0


@pytest.fixture(scope="module")
def predicted() -> Record:
    prediction = CellPrediction(predict_from_trace(traced(small())), None)
    outcome = Outcome("ok", prediction, "", datetime.now(UTC), 1.0)
    return prediction_record(Cell(small(), "train", {}, "x", ()), outcome, None, environment())


def test_the_metrics_are_those_of_a_prediction(predicted: Record, gpu: FakeGpu) -> None:
    measured = record_of(measure_cell(small(), task="train"))
    names = {name for name in predicted.metrics if not name.startswith("held.")}
    assert names <= measured.metrics.keys()
    assert predicted.phases.keys() == measured.phases.keys()
    for phase, metrics in predicted.phases.items():
        assert metrics.keys() == measured.phases[phase].keys()


def test_inference_is_one_phase(gpu: FakeGpu) -> None:
    found = measure_cell(small(), task="infer")
    assert {phase for step in found.steps for phase in step.phases} == {INFERENCE}


@pytest.mark.parametrize(("step", "number"), [(1, 0), (2, 1)])
def test_out_of_memory_is_a_result(gpu: FakeGpu, step: int, number: int) -> None:
    gpu.dies_in = (step, "backpropagate")
    found = measure_cell(small(), task="train")
    assert len(found.steps) == number
    record = record_of(found)
    assert record.status == "oom"
    assert record.failure is not None
    assert (record.failure.phase, record.failure.requested_bytes) == ("backpropagate", 512 * MIB)
    assert f"out of memory in step {step}, backpropagate: asked the driver for 512.0 MiB" in record.failure.message
    assert value(record, "out_of_memory_errors") == 1
    assert "allocated_peak_bytes" not in record.metrics
    assert ("first_step_allocated_peak_bytes" in record.metrics) == (number == 1)
    assert record.metrics["process_peak_bytes"].value is None


def test_what_was_asked_for_is_null_where_torch_does_not_tell(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "_cuda_attach_out_of_memory_observer")
    gpu.dies_in = (1, "encode")
    record = record_of(measure_cell(small(), task="train"))
    assert record.failure is not None
    assert record.failure.requested_bytes is None
    assert "does not tell what was asked for" in record.failure.message


def test_other_errors_are_not_taken_for_lack_of_memory(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(memory_cuda, "Workload", broken)
    with pytest.raises(RuntimeError):
        measure_cell(small(), task="train")
    record = record_of(None, "RuntimeError: CUDA error", "error")
    assert record.status == "error"


def test_without_cuda_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="use --device predict"):
        measure_cell(small(), task="train")


# Process memory -----------------------------------------------------------------------------------------------------


def ours(used: int | None = 3 * 2**30) -> Any:
    return SimpleNamespace(pid=os.getpid(), usedGpuMemory=used)


def hidden(used: int | None = None) -> Any:
    return SimpleNamespace(pid=os.getpid() + 1, usedGpuMemory=used)


def memory_used(driver: Any, *used_bytes: int) -> None:
    total = 81559 * MIB
    # Total and used are asked for one after the other.
    infos = [SimpleNamespace(total=total, used=used, free=total - used) for used in used_bytes for _ in range(2)]
    driver.nvmlDeviceGetMemoryInfo.side_effect = infos


def test_a_listed_process_is_read_from_nvml(gpu: FakeGpu, driver: Any) -> None:
    meter = ProcessMeter()
    driver.nvmlDeviceGetComputeRunningProcesses.return_value = [ours(), hidden()]
    found = meter.read(CUDA)
    assert (found.used_bytes, found.method, found.exclusive) == (3 * 2**30, "NVML per process", True)


def test_a_hidden_process_is_the_growth_if_nobody_else_is_there(gpu: FakeGpu, driver: Any) -> None:
    memory_used(driver, 600 * MIB, 2600 * MIB)
    meter = ProcessMeter()
    driver.nvmlDeviceGetComputeRunningProcesses.return_value = [hidden()]
    found = meter.read(CUDA)
    assert (found.used_bytes, found.exclusive) == (2000 * MIB, True)
    assert found.method.startswith("growth of the GPU's used memory, as NVML does not list this process")


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ([hidden()], [hidden(), hidden()], "other processes are on the GPU"),
        ([], [hidden(), hidden()], "other processes are on the GPU"),
        (pynvml.NVMLError_NoPermission(), pynvml.NVMLError_NoPermission(), "Insufficient Permissions"),
    ],
)
def test_what_cannot_be_told_is_null(gpu: FakeGpu, driver: Any, before: Any, after: Any, reason: str) -> None:
    for moment, listed in (("before", before), ("after", after)):
        failing = isinstance(listed, Exception)
        driver.nvmlDeviceGetComputeRunningProcesses.side_effect = listed if failing else None
        driver.nvmlDeviceGetComputeRunningProcesses.return_value = listed
        if moment == "before":
            meter = ProcessMeter()
    found = meter.read(CUDA)
    assert found.used_bytes is None
    assert reason in found.method


def test_without_nvml_the_process_is_null(gpu: FakeGpu, driver: Any) -> None:
    driver.nvmlInit.side_effect = pynvml.NVMLError_LibraryNotFound()
    record = record_of(measure_cell(small(), task="train"))
    assert record.status == "ok"
    assert record.metrics["process_peak_bytes"].value is None
    assert "NVML" in str(record.metrics["process_peak_bytes"].reason)
    assert record.findings["process_memory.exclusive"].verdict == "not known"


def test_an_instance_of_a_divided_gpu_is_null_unless_nvml_knows_it(gpu: FakeGpu, driver: Any) -> None:
    driver.nvmlDeviceGetMigMode.return_value = [1, 1]
    driver.nvmlDeviceGetHandleByUUID.side_effect = pynvml.NVMLError_NotFound()
    found = ProcessMeter().read(CUDA)
    assert (found.used_bytes, found.exclusive, found.total_bytes) == (None, None, 79 * 2**30)
    assert "divided by MIG" in found.method


def test_the_process_is_the_reserve_and_the_context(gpu: FakeGpu, driver: Any) -> None:
    driver.nvmlDeviceGetComputeRunningProcesses.return_value = [ours()]
    record = record_of(measure_cell(small(), task="train"))
    reserved = value(record, "reserved_peak_bytes")
    assert reserved is not None
    assert value(record, "process_peak_bytes") == 3 * 2**30
    assert value(record, "context_overhead_bytes") == 3 * 2**30 - reserved
    assert value(record, "device_total_bytes") == 81559 * MIB
    # A number that is smaller than the reserve is that of something else.
    driver.nvmlDeviceGetComputeRunningProcesses.return_value = [ours(MIB)]
    assert record_of(measure_cell(small(), task="train")).metrics["process_peak_bytes"].value is None


# Snapshots ----------------------------------------------------------------------------------------------------------


def test_a_recording_holds_two_steps(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = create_autospec(torch.cuda.memory._record_memory_history)
    dump = create_autospec(torch.cuda.memory._dump_snapshot)
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", record)
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", dump)
    found = measure_cell(small(), "train", Recording(tmp_path / "s.pickle"))
    assert [call.kwargs["enabled"] for call in record.call_args_list] == ["all", None]
    assert record.call_args_list[0].kwargs["context"] == "alloc"
    dump.assert_called_once_with(str(tmp_path / "s.pickle"))
    assert found.marks is not None
    assert len(found.steps) == 3
    assert len(found.marks.steps) == 2
    assert [name for _, name in found.marks.phases if name][:2] == ["encode", "detect"]
    # What ran out of memory is written, too.
    gpu.dies_in = (1, "detect")
    assert measure_cell(small(), "train", Recording(tmp_path / "s.pickle", frames=False)).marks is not None
    assert record.call_args_list[2].kwargs["context"] is None
    assert dump.call_count == 2


def test_a_recorded_step_is_a_timeline() -> None:
    def entry(time_us: int, action: str, addr: int, size: int) -> dict[str, Any]:
        return {"action": action, "addr": addr, "size": size, "stream": 0, "time_us": time_us}

    events = [
        entry(1, "segment_alloc", 0, 20),
        entry(1, "alloc", 0, 4),
        entry(11, "alloc", 100, 5),
        entry(12, "alloc", 200, 3),
        entry(14, "free_requested", 100, 5),
        entry(14, "free_completed", 100, 5),
        entry(16, "alloc", 100, 2),
    ]
    marks = Marks(
        phases=[(11, "encode"), (13, None), (15, "detect"), (17, None)],
        steps=[5, 10],
        held=[(3, 0, Category.PARAMETER), (13, 200, Category.GRADIENT), (20, 100, Category.INPUT)],
    )
    found = recorded_timeline({"device_traces": [[], events]}, marks)
    assert found.kind == "measured"
    # The first address was used twice: only its second use is labelled.
    assert {name: list(sizes) for name, sizes in found.categories.items()} == {
        "parameter": [4, 4, 4, 4],
        "gradient": [0, 3, 3, 3],
        "input": [0, 0, 0, 2],
        "workspace": [5, 5, 0, 0],
    }
    assert list(found.reserved) == [20] * 4
    assert found.phases == (("encode", 0, 2), ("detect", 3, 4))


def test_the_name_is_torch_s(gpu: FakeGpu) -> None:
    assert measure_cell(small(), task="infer").gpu == NAME
