"""Energy of a window of time: of a GPU by NVML's counter, of the host by the kernel's RAPL counters.

NVML counts the energy since the driver was loaded (Volta and later) and refreshes the count about every 100 ms, so a
short window would read 0 or a tick too much: a window has to last :data:`LEAST_WINDOW_S`. Beside the counter, a thread
samples power, clocks and throttle reasons; where there is no counter, nothing stands in for it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pynvml

from bench.machine.nvml import session, throttle_bits, throttle_names

LEAST_WINDOW_S = 2.0
SAMPLE_S = 0.1
RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Window:
    """What a meter saw between ``begin`` and ``end``.

    Attributes:
        duration_s: by the wall clock.
        energy_j: None: not known, see ``reason``.
        method: how the energy was read.
        power_w: samples of the power draw, in W; empty where it cannot be read.
        clock_mhz: samples of the clock of the multiprocessors.
        throttle_reasons: names of every reason that was in force at a sample.
    """

    duration_s: float
    energy_j: float | None
    method: str
    reason: str | None = None
    power_w: tuple[float, ...] = ()
    clock_mhz: tuple[int, ...] = ()
    throttle_reasons: tuple[str, ...] = ()


class Meter(Protocol):
    """Measures one window at a time. The caller sees to it that the device has nothing left to do at both ends."""

    def begin(self) -> None:
        """Open the window."""

    def end(self) -> Window:
        """Close the window and say what was in it."""


@dataclass
class NoMeter:
    """Where nothing can be measured: windows with a reason instead of an energy."""

    reason: str
    _begun: float = field(default=0.0, init=False)

    def begin(self) -> None:
        """See :class:`Meter`."""
        self._begun = time.perf_counter()

    def end(self) -> Window:
        """See :class:`Meter`."""
        return Window(time.perf_counter() - self._begun, None, "none", self.reason)


class GpuMeter:
    """The GPU ``uuid``, through NVML.

    Raises:
        pynvml.NVMLError: there is no driver, or no such GPU.
    """

    METHOD = "NVML energy counter"

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self._opened = ExitStack()
        with session():
            pynvml.nvmlDeviceGetHandleByUUID(uuid)

    def begin(self) -> None:
        """See :class:`Meter`."""
        self._opened.enter_context(session())
        self._gpu = pynvml.nvmlDeviceGetHandleByUUID(self._uuid)
        self._samples: list[tuple[float | None, int | None, int | None]] = []
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        self._begun, self._millijoules = time.perf_counter(), self._counter()

    def end(self) -> Window:
        """See :class:`Meter`."""
        millijoules, duration_s = self._counter(), time.perf_counter() - self._begun
        self._stop.set()
        self._sampler.join()
        self._opened.close()
        energy_j, reason = None, None
        if isinstance(self._millijoules, str) or isinstance(millijoules, str):
            reason = f"this GPU has no energy counter ({millijoules})"
        elif duration_s < LEAST_WINDOW_S:
            reason = f"a window of {duration_s:.2f} s; the counter needs {LEAST_WINDOW_S:g} s"
        else:
            energy_j = (millijoules - self._millijoules) / 1000
        power, clock, bits = zip(*self._samples, strict=True) if self._samples else ((), (), ())
        seen = [throttle_names(one) for one in bits if one is not None]
        return Window(
            duration_s=duration_s,
            energy_j=energy_j,
            method=self.METHOD,
            reason=reason,
            power_w=tuple(one / 1000 for one in power if one is not None),
            clock_mhz=tuple(one for one in clock if one is not None),
            throttle_reasons=tuple(sorted({name for names in seen for name in names})),
        )

    def _counter(self) -> int | str:
        """Return millijoules since the driver was loaded, or why there is no count."""
        try:
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu))
        except pynvml.NVMLError as error:
            return str(error)

    def _sample(self) -> None:
        gpu = self._gpu
        while True:
            self._samples.append(
                (
                    _asked(lambda: pynvml.nvmlDeviceGetPowerUsage(gpu)),
                    _asked(lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)),
                    _asked(lambda: throttle_bits(gpu)),
                )
            )
            if self._stop.wait(SAMPLE_S):
                return


class HostMeter:
    """The packages of the host's CPU, through RAPL: all that runs there, not this process alone."""

    METHOD = "RAPL, CPU packages; all processes"

    def __init__(self, packages: Sequence[Path]) -> None:
        self._packages = packages

    def begin(self) -> None:
        """See :class:`Meter`."""
        self._begun, self._before = time.perf_counter(), [_microjoules(one) for one in self._packages]

    def end(self) -> Window:
        """See :class:`Meter`."""
        after, duration_s = [_microjoules(one) for one in self._packages], time.perf_counter() - self._begun
        if duration_s < LEAST_WINDOW_S:
            reason = f"a window of {duration_s:.2f} s; the counter needs {LEAST_WINDOW_S:g} s"
            return Window(duration_s, None, self.METHOD, reason)
        microjoules = 0
        for package, first, last in zip(self._packages, self._before, after, strict=True):
            # The counter starts again at 0 when it is full, about once an hour under load.
            full = int((package / "max_energy_range_uj").read_text()) if last < first else 0
            microjoules += last - first + full
        return Window(duration_s, microjoules / 1e6, self.METHOD)


def gpu_meter(uuid: str | None) -> Meter:
    """Return the meter of a GPU; None, or one that NVML does not know, gives a :class:`NoMeter` with the reason."""
    if uuid is None:
        return NoMeter("no GPU is in use")
    try:
        return GpuMeter(uuid)
    except pynvml.NVMLError as error:
        return NoMeter(f"NVML: {error}")


def host_meter(root: Path = RAPL) -> Meter:
    """Return the meter of the host's CPU; a :class:`NoMeter` where the kernel offers none or denies it."""
    # AMD's processors are listed under Intel's name, too.
    packages = [zone for zone in sorted(root.glob("intel-rapl:*")) if _name(zone).startswith("package")]
    if not packages:
        return NoMeter("the kernel offers no RAPL counters (usual in a virtual machine)")
    try:
        for package in packages:
            _microjoules(package)
    except OSError as error:
        return NoMeter(f"RAPL: {error.strerror} (reading it takes root)")
    return HostMeter(packages)


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""


def _microjoules(package: Path) -> int:
    return int((package / "energy_uj").read_text())


def _asked(question: Callable[[], int]) -> int | None:
    try:
        return question()
    except pynvml.NVMLError:
        return None
