"""What a GPU does is measured as predicted: torch's own CUDA code runs, over a stand-in for CUDA (tests/stand_in).

What it allocates is real, as is the allocator, and NVML beside it tells what that holds. Not checked here: what cuDNN
and cuBLAS choose, and all that only a device can tell, such as times.
"""

import json
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch

from bench.cells import make_cells
from bench.machine.datasheets import read_profile
from bench.machine.environment import collect_environment, device_meant
from bench.machine.nvml import GpuStates
from bench.measure.memory_timeline import read_snapshot
from bench.predict.allocator import SMALL_SEGMENT_BYTES
from bench.predict.memory import StepMemory, predict_memory
from bench.predict.recorded import of_release, replay_recorded
from bench.records.record import Metrics, Record
from bench.suites.validation import SMALL
from bench.units import MIB
from tests.stand_in.stand_in import compile_stand_in, why_not, with_stand_in

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

BLOCKS_BYTES = 16384
"""What a prediction may be off: some scalars and index tensors of the step, rounded up to blocks. They may need a small
segment more."""
CONTEXT_BYTES = 400 * MIB
"""What a context takes, by the stand-in's NVML."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_stand_in(tmp_path_factory.mktemp("stand_in"))


def run(library: Path, *arguments: str, capacity_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.cli", *arguments]
    environment = with_stand_in(library, capacity_bytes)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def record_of(library: Path, folder: Path, *arguments: str, capacity_bytes: int | None = None) -> Record:
    path = folder / "record.json"
    done = run(
        library, *arguments, "--device", "cuda", "--format", "json", "-o", str(path), capacity_bytes=capacity_bytes
    )
    assert path.exists(), done.stderr
    [record] = map(Record.model_validate, json.loads(path.read_text()))
    assert record.device == "stand-in-no-gpu"
    return record


def memory(library: Path, knobs: dict[str, str], folder: Path, *more: str, capacity_bytes: int | None = None) -> Record:
    arguments = [word for name, value in knobs.items() for word in (f"--{name}", value)]
    return record_of(library, folder, "memory", *arguments, *more, capacity_bytes=capacity_bytes)


def levels(metrics: Metrics, step: str) -> dict[str, float | None]:
    return {
        level: metrics[f"{step}_step_{level}_bytes"].value
        for level in ("requested_peak", "allocated_peak", "active_peak", "reserved_peak")
    }


@pytest.mark.parametrize(
    ("strategy", "precision"), [("sequential", "fp32"), ("joint", "bf16"), ("checkpointed", "fp32")]
)
def test_torch_allocates_for_a_gpu_what_was_predicted(
    library: Path, tmp_path: Path, strategy: str, precision: str
) -> None:
    knobs = {**SMALL, "strategy": strategy, "precision": precision}
    snapshot, timeline = tmp_path / "snapshot.pickle", tmp_path / "timeline.png"
    record = memory(library, knobs, tmp_path, "--snapshot", str(snapshot), "--timeline", str(timeline))
    assert record.status == "ok"
    [cell] = make_cells(["etad-bench", "memory"], "anet_e2e", knobs)
    predicted = predict_memory(cell.config)
    assert record.metrics["parameter_bytes"].value == predicted.parameter_bytes
    assert record.metrics["steps"].value == predicted.low.steps
    for step, usage in (("first", predicted.low.first), ("steady", predicted.low.steady)):
        assert usage is not None
        assert_alike(record, step, usage)
    assert_process_memory(record.metrics)
    # What the allocator wrote down of it is what the simulated one does with the same requests.
    events = next(events for events in read_snapshot(snapshot)["device_traces"] if events)
    assert replay_recorded(events, of_release(torch.__version__)).difference is None
    assert timeline.stat().st_size > 0


def assert_alike(record: Record, step: str, predicted: StepMemory) -> None:
    parts = chain(
        [(record.metrics, predicted.peak)], ((record.phases[name], predicted.phases[name]) for name in record.phases)
    )
    for metrics, usage in parts:
        found = levels(metrics, step)
        assert found["requested_peak"] == pytest.approx(usage.requested_bytes, abs=BLOCKS_BYTES)
        assert found["allocated_peak"] == pytest.approx(usage.allocated_bytes, abs=BLOCKS_BYTES)
        assert found["active_peak"] == pytest.approx(usage.active_bytes, abs=BLOCKS_BYTES)
        assert found["reserved_peak"] == pytest.approx(usage.reserved_bytes, abs=SMALL_SEGMENT_BYTES)


def assert_process_memory(metrics: Metrics) -> None:
    reserved_bytes, process = metrics["reserved_peak_bytes"].value, metrics["process_peak_bytes"]
    assert reserved_bytes is not None
    assert process.value == reserved_bytes + CONTEXT_BYTES
    assert str(process.method).startswith("NVML per process")
    assert metrics["context_overhead_bytes"].value == CONTEXT_BYTES


def test_out_of_memory_says_what_was_asked_for_and_where(library: Path, tmp_path: Path) -> None:
    record = memory(library, SMALL, tmp_path, capacity_bytes=600_000_000)
    assert record.status == "oom"
    assert record.failure is not None
    assert record.failure.phase == "update_encoder"
    assert record.failure.requested_bytes is not None
    assert record.failure.requested_bytes > 0
    assert record.metrics["out_of_memory_errors"].value == 1
    assert record.metrics["alloc_retries"].value


def test_a_step_is_timed_by_cudas_events_and_its_energy_by_nvml(library: Path, tmp_path: Path) -> None:
    record = record_of(
        library,
        tmp_path,
        *("throughput", "-c", "quickstart", "--processes", "1", "--max-time", "2"),
        *("--precision", "bf16", "--set", "efficiency.cuda_graphs=true", "--energy"),
    )
    assert record.status == "ok"
    assert str(record.metrics["step_s"].method).startswith("CUDA events")
    energy = record.metrics["energy_per_video_j"]
    assert energy.value
    assert str(energy.method).startswith("NVML energy counter")
    # The stand-in's power is constant, and so is what its energy gives.
    assert record.metrics["power_peak_w"].value == 250
    assert record.metrics["power_mean_w"].value == pytest.approx(250, rel=0.05)
    assert record.metrics["sm_clock_median_hz"].value == 1.41e9


def test_a_failed_cell_belongs_to_a_gpu_that_nvml_does_not_name() -> None:
    environment = collect_environment().model_copy(update={"gpus": GpuStates()})
    assert device_meant(environment, "cuda") == "cuda"
    assert device_meant(environment, "cpu").startswith("cpu-")


def test_a_profile_is_measured_with_its_context(library: Path, tmp_path: Path) -> None:
    path = tmp_path / "stand_in_no_256g.yaml"
    done = run(library, "profiles", "measure", "-o", str(path))
    assert path.exists(), done.stderr
    profile = read_profile(path)
    assert profile.device_names == ("stand-in, no GPU",)
    assert (profile.compute_capability, profile.multiprocessors, profile.power_w) == ("8.0", 108, 400)
    assert profile.context_overhead_bytes == CONTEXT_BYTES
    assert profile.measured is not None
    assert profile.measured.context_method == "NVML per process"
