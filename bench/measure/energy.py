"""Energy, power and clocks of a repeated step: a pass of its own, so that its sampling disturbs no timing."""

import statistics
import time
from collections.abc import Callable

from bench.machine.energy_meters import LEAST_WINDOW_S, Meter, Window
from bench.machine.nvml import HARMLESS_THROTTLING
from bench.records.record import Finding, Metric, Metrics

WINDOW_S = 5.0
"""How long a window is kept open: well above what the counter needs, so that its ticks of 100 ms weigh little."""


def measure_energy(
    call: Callable[[], object],
    videos: int,
    gpu: Meter,
    host: Meter,
    synchronize: Callable[[], None],
    window_s: float = WINDOW_S,
) -> tuple[Metrics, dict[str, Finding]]:
    """Repeat ``call`` for at least ``window_s``, warm already; return what it cost, and what was found.

    Args:
        call: one step or one detection of a batch.
        videos: videos of a call.
        gpu, host: meters; a null object where there is nothing to measure.
        synchronize: waits until the device has nothing left to do.
        window_s: at least the meters' own least window.

    Raises:
        ValueError: the window is shorter than the meters need.
    """
    if window_s < LEAST_WINDOW_S:
        raise ValueError(f"window_s is {window_s:g}; the energy counter needs {LEAST_WINDOW_S:g}")
    synchronize()
    gpu.begin()
    host.begin()
    begun, calls = time.perf_counter(), 0
    while time.perf_counter() - begun < window_s:
        call()
        synchronize()
        calls += 1
    of_host, of_gpu = host.end(), gpu.end()
    metrics: Metrics = {
        "energy_per_video_j": _energy(of_gpu, calls * videos),
        "host_energy_per_video_j": _energy(of_host, calls * videos),
        "power_mean_w": _power_mean(of_gpu),
        "power_peak_w": _sampled(of_gpu, of_gpu.power_w, "W", max),
        "sm_clock_median_hz": _sampled(of_gpu, tuple(mhz * 1e6 for mhz in of_gpu.clock_mhz), "Hz", statistics.median),
        "energy_window_s": Metric(value=of_gpu.duration_s, unit="s", method=f"{calls} calls"),
    }
    held_back = sorted(set(of_gpu.throttle_reasons) - HARMLESS_THROTTLING)
    return metrics, {"throttling": Finding(verdict=", ".join(held_back))} if held_back else {}


def _energy(window: Window, videos: int) -> Metric:
    if window.energy_j is None:
        return Metric(value=None, unit="J", reason=window.reason)
    return Metric(value=window.energy_j / videos, unit="J", method=f"{window.method}; {videos} videos")


def _power_mean(window: Window) -> Metric:
    if window.energy_j is None:
        return Metric(value=None, unit="W", reason=window.reason)
    return Metric(value=window.energy_j / window.duration_s, unit="W", method=f"{window.method} / time")


def _sampled(
    window: Window, samples: tuple[float, ...], unit: str, pick: Callable[[tuple[float, ...]], float]
) -> Metric:
    if not samples:
        return Metric(value=None, unit=unit, reason=window.reason or "NVML does not tell")
    return Metric(value=pick(samples), unit=unit, samples=samples, method="NVML, sampled every 100 ms")
