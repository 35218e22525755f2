"""Energy windows: right where a counter runs, null with a reason everywhere else."""

import itertools
from pathlib import Path
from typing import Any

import pynvml
import pytest

from bench.machine import energy_meters as energy_module
from bench.machine.energy_meters import GpuMeter, HostMeter, NoMeter, gpu_meter, host_meter
from bench.measure.energy import measure_energy


@pytest.fixture
def gpu(driver: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A GPU that takes 300 W, on a clock that every look at moves on by a second."""
    monkeypatch.setattr(energy_module, "pynvml", driver)
    seconds = itertools.count()
    monkeypatch.setattr(energy_module.time, "perf_counter", lambda: float(next(seconds)))
    driver.nvmlDeviceGetTotalEnergyConsumption.side_effect = [1_000_000, 1_900_000]
    driver.nvmlDeviceGetPowerUsage.return_value = 310_000
    driver.nvmlDeviceGetCurrentClocksEventReasons.return_value = 0x4
    return driver


def test_a_window_is_the_difference_of_two_counts(gpu: Any) -> None:
    meter = GpuMeter("GPU-1234")
    meter.begin()
    next_second = energy_module.time.perf_counter
    next_second(), next_second()
    window = meter.end()
    assert window.energy_j == 900.0
    assert window.duration_s == 3.0
    assert set(window.power_w) == {310.0}
    assert set(window.clock_mhz) == {1980}
    assert window.throttle_reasons == ("sw_power_cap",)


def test_a_short_window_has_no_energy(gpu: Any) -> None:
    meter = GpuMeter("GPU-1234")
    meter.begin()
    window = meter.end()
    assert window.energy_j is None
    assert window.reason == "a window of 1.00 s; the counter needs 2 s"


def test_a_gpu_without_a_counter_says_so(gpu: Any) -> None:
    gpu.nvmlDeviceGetTotalEnergyConsumption.side_effect = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    metrics, _ = measure_energy(lambda: None, 4, GpuMeter("GPU-1234"), NoMeter("no RAPL"), lambda: None, 3.0)
    assert metrics["energy_per_video_j"].value is None
    assert metrics["energy_per_video_j"].reason == "this GPU has no energy counter (Not Supported)"
    assert metrics["power_peak_w"].value == 310.0
    assert metrics["host_energy_per_video_j"].reason == "no RAPL"


def test_energy_is_shared_among_the_videos(gpu: Any) -> None:
    calls: list[int] = []
    metrics, findings = measure_energy(
        lambda: calls.append(1), 4, GpuMeter("GPU-1234"), NoMeter("no RAPL"), lambda: None, 3.0
    )
    assert calls
    assert {name: str(finding) for name, finding in findings.items()} == {"throttling": "sw_power_cap"}
    assert metrics["energy_per_video_j"].value == pytest.approx(900.0 / (4 * len(calls)))
    seconds = metrics["energy_window_s"].value
    assert seconds is not None
    assert metrics["power_mean_w"].value == pytest.approx(900.0 / seconds)


def test_a_window_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 2"):
        measure_energy(lambda: None, 1, NoMeter(""), NoMeter(""), lambda: None, 1.0)


def test_no_driver_and_no_gpu_give_a_reason(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy_module, "pynvml", driver)
    driver.nvmlInit.side_effect = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    for meter, words in ((gpu_meter("GPU-1"), "Shared Library"), (gpu_meter(None), "no GPU")):
        meter.begin()
        window = meter.end()
        assert window.energy_j is None
        assert words in str(window.reason)


def make_rapl(root: Path, microjoules: int) -> Path:
    zone = root / "intel-rapl:0"
    zone.mkdir(exist_ok=True)
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    (zone / "max_energy_range_uj").write_text("100000000\n")
    return zone


def test_the_host_counter_may_run_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(step=3)
    monkeypatch.setattr(energy_module.time, "perf_counter", lambda: float(next(seconds)))
    make_rapl(tmp_path, 90_000_000)
    meter = host_meter(tmp_path)
    assert isinstance(meter, HostMeter)
    meter.begin()
    make_rapl(tmp_path, 5_000_000)
    assert meter.end().energy_j == 15.0
    meter.begin()
    make_rapl(tmp_path, 25_000_000)
    assert meter.end().energy_j == 20.0


def test_a_host_without_counters_says_so(tmp_path: Path) -> None:
    meter = host_meter(tmp_path)
    meter.begin()
    assert "no RAPL" in str(meter.end().reason)


def test_a_host_that_denies_its_counters_says_so(tmp_path: Path) -> None:
    (make_rapl(tmp_path, 0) / "energy_uj").unlink()
    assert isinstance(host_meter(tmp_path), NoMeter)
