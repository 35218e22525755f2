"""The environment collector, and NVML in every mood of its driver."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pynvml
import pytest
import torch
from click.testing import CliRunner

from bench.cli import main
from bench.machine import environment as environment_module
from bench.machine.environment import VARIABLES, collect_environment, device_slug, format_environment, slug
from bench.machine.nvml import read_gpus, throttle_names
from bench.records.record import Record
from bench.records.sanity import check
from tests.bench.records.test_record import make_record


def test_every_answer_of_a_gpu_is_kept(driver: Any) -> None:
    gpus = read_gpus()
    (gpu,) = gpus.found
    assert gpus.reason is None
    assert gpu.name == "NVIDIA H100 80GB HBM3"
    assert gpu.uuid == "GPU-1234"
    assert gpu.compute_capability == "9.0"
    assert gpu.multiprocessors == 132
    assert gpu.memory_total_bytes == 81559 * 2**20
    assert gpu.power_draw_w == 71.5
    assert gpu.power_limit_w == 700.0
    assert gpu.throttle_reasons == ("gpu_idle",)
    assert (gpu.ecc, gpu.mig, gpu.persistence) == (True, False, True)
    assert gpu.other_processes == 1
    assert not gpu.unknown
    driver.nvmlShutdown.assert_called_once_with()


def test_what_a_gpu_does_not_answer_is_null_with_a_reason(driver: Any) -> None:
    refusal = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    for question in ("EccMode", "MigMode", "EnforcedPowerLimit", "ComputeRunningProcesses"):
        getattr(driver, f"nvmlDeviceGet{question}").side_effect = refusal
    (gpu,) = read_gpus().found
    assert (gpu.ecc, gpu.mig, gpu.power_limit_w, gpu.other_processes) == (None, None, None, None)
    assert set(gpu.unknown) == {"ecc", "mig", "power_limit_w", "other_processes"}
    assert gpu.unknown["ecc"] == "Not Supported"
    assert gpu.temperature_c == 34


def test_an_old_driver_knows_throttling_by_its_old_name(driver: Any) -> None:
    missing = pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    driver.nvmlDeviceGetCurrentClocksEventReasons.side_effect = missing
    driver.nvmlDeviceGetCurrentClocksThrottleReasons.return_value = 0x4 | 0x40
    assert read_gpus().found[0].throttle_reasons == ("sw_power_cap", "hw_thermal_slowdown")


def test_no_driver_is_no_gpu_with_the_reason(driver: Any) -> None:
    driver.nvmlInit.side_effect = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    gpus = read_gpus()
    assert gpus.found == ()
    assert gpus.reason == "NVML: NVML Shared Library Not Found"
    driver.nvmlShutdown.assert_not_called()


def test_a_driver_without_a_gpu(driver: Any) -> None:
    driver.nvmlDeviceGetCount.return_value = 0
    assert read_gpus().reason == "NVML lists no GPU"


def test_nvml_is_closed_after_a_failure(driver: Any) -> None:
    driver.nvmlDeviceGetName.side_effect = pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
    assert "lost" in str(read_gpus().reason).lower()
    driver.nvmlShutdown.assert_called_once_with()


def test_unknown_throttle_bits_are_shown() -> None:
    assert throttle_names(0) == ()
    assert throttle_names(0x1000 | 0x8) == ("hw_slowdown", "0x1000")


def test_the_environment_fits_a_record(driver: Any) -> None:
    found = collect_environment(seed=7)
    record: Record = make_record(environment=found.model_dump(mode="json"), device=device_slug(found))
    assert not check(record)
    assert record.environment["seed"] == 7
    assert json.dumps(record.to_tree(), allow_nan=False)


def test_settings_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    found = collect_environment()
    assert set(found.variables) == set(VARIABLES)
    assert found.variables["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert found.variables["CUBLAS_WORKSPACE_CONFIG"] is None
    assert found.packages["torch"]
    assert found.torch.threads >= 1


def test_a_machine_that_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment_module, "_lines", lambda path: ())
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("os.getloadavg", lambda: (_ for _ in ()).throw(OSError()))
    cpu, memory = environment_module._cpu(), environment_module._memory()
    assert (cpu.model, cpu.governor, cpu.load_1min, memory.total_bytes) == (None, None, None, None)
    assert {"model", "governor", "load_1min"} <= set(cpu.unknown)
    assert set(memory.unknown) == {"total_bytes", "available_bytes", "cgroup_limit_bytes"}
    code = environment_module._code(tmp_path)
    assert code.git_sha is None
    assert "git_sha" in code.unknown


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_cgroup_quota(monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: float | None) -> None:
    monkeypatch.setattr(environment_module, "_lines", lambda path: [files[path.name]] if path.name in files else [])
    assert environment_module._cgroup_quota() == cores


def test_slugs_name_folders() -> None:
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert slug("AMD EPYC(TM) 7B13 / x") == "amd-epyc-tm-7b13-x"
    assert slug("???") == "unknown"
    assert device_slug(collect_environment(), "NVIDIA L4") == "nvidia-l4"
    assert device_slug(collect_environment()).startswith("cpu-")


def test_text_is_ready_to_paste(driver: Any) -> None:
    driver.nvmlDeviceGetEccMode.side_effect = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    text = format_environment(collect_environment(seed=1))
    assert "gpu 0\n  name                     NVIDIA H100 80GB HBM3" in text
    assert "unknown (Not Supported)" in text
    assert "79.65 GiB" in text


def test_env_asks_torch_only_if_it_is_told_to() -> None:
    text = CliRunner().invoke(main, ["env"])
    assert text.exit_code == 0
    assert f"  version                  {metadata.version('torch')}\n" in text.output
    assert "  cuda_available           unknown (not asked; --torch)\n" in text.output
    asked = CliRunner().invoke(main, ["env", "--torch"])
    assert asked.exit_code == 0
    assert "not asked" not in asked.output
    assert f"  cuda_available           {torch.cuda.is_available()}\n" in asked.output


def test_env_as_json_has_the_keys_of_a_record_in_any_case() -> None:
    without, asked = (
        json.loads(CliRunner().invoke(main, ["env", "--json", *more]).output) for more in ([], ["--torch"])
    )
    in_record = collect_environment().model_dump(mode="json")
    for tree in (without, asked):
        assert list(tree) == list(in_record)
        assert list(tree["torch"]) == list(in_record["torch"])
    assert asked["torch"] == in_record["torch"]
    nulls = {name for name, value in without["torch"].items() if value is None}
    assert set(without["torch"]["unknown"]) == nulls == set(in_record["torch"]) - {"version", "unknown"}
