"""What NVIDIA's management library (NVML) says of the GPUs of this machine. Reading it touches no CUDA context.

A machine without a driver is not an error: it has no GPUs, for a reason that is told. A question that a GPU does not
answer (a laptop without ECC, a container without rights) is null, with NVML's own words as the reason.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pydantic
import pynvml

Answer = TypeVar("Answer")

THROTTLE_REASONS = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clock_setting": 0x100,
}
"""Bits of nvmlDeviceGetCurrentClocksEventReasons: why a GPU does not run at its highest clock (NVML API reference)."""
HARMLESS_THROTTLING = frozenset({"gpu_idle", "applications_clocks_setting", "display_clock_setting", "sync_boost"})
"""Reasons that say how a GPU is set or that it rests, not that it is held back."""


class GpuState(pydantic.BaseModel):
    """One GPU as NVML sees it now. Null means unknown; ``unknown`` says why, by field."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    index: int
    """NVML's number, in PCI order; CUDA may number differently (CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER)."""
    name: str
    uuid: str | None
    driver: str | None
    compute_capability: str | None
    cuda_cores: int | None
    multiprocessors: int | None
    memory_total_bytes: int | None
    """What the driver leaves to programs and itself; less than the nominal size, more so with ECC on GDDR."""
    memory_used_bytes: int | None
    sm_clock_mhz: int | None
    sm_clock_max_mhz: int | None
    memory_clock_mhz: int | None
    memory_clock_max_mhz: int | None
    power_draw_w: float | None
    power_limit_w: float | None
    temperature_c: int | None
    throttle_reasons: tuple[str, ...] | None
    """Names of :data:`THROTTLE_REASONS` in force."""
    ecc: bool | None
    mig: bool | None
    persistence: bool | None
    pcie_generation: int | None
    pcie_width: int | None
    other_processes: int | None
    """Compute processes on the GPU besides this one. Inside a container they may not be visible."""
    unknown: dict[str, str] = {}


class GpuStates(pydantic.BaseModel):
    """All GPUs of the machine; none of them with the reason."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    found: tuple[GpuState, ...] = ()
    reason: str | None = None
    """Why none was found."""


def read_gpus() -> GpuStates:
    """Return the state of every GPU; never raises for want of a GPU, a driver or rights."""
    try:
        with session():
            states = tuple(_state(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:
        return GpuStates(reason=f"NVML: {error}")
    return GpuStates(found=states, reason=None if states else "NVML lists no GPU")


@contextmanager
def session() -> Iterator[None]:
    """Open NVML and close it again; sessions nest, NVML counts them.

    Raises:
        pynvml.NVMLError: there is no driver.
    """
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def memory_of_process(pid: int, uuid: str) -> tuple[int | None, str]:
    """Return the memory in bytes that process ``pid`` holds on the GPU ``uuid``, and how that was read.

    None, with the reason instead, where NVML does not list the process: containers show it under the host's number.
    """
    try:
        with session():
            gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            listed = {process.pid: process for process in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)}
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"
    if pid not in listed:
        return None, "NVML does not list this process (a container hides its number)"
    used: int | None = listed[pid].usedGpuMemory
    return (used, "NVML per process") if used else (None, "NVML lists the process without its memory")


def _state(index: int) -> GpuState:
    gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
    unknown: dict[str, str] = {}

    def ask(field: str, question: Callable[[], Answer]) -> Answer | None:
        try:
            return question()
        except pynvml.NVMLError as error:
            unknown[field] = str(error)
            return None

    def clock(field: str, question: Callable[[Any, int], int], kind: int) -> int | None:
        return ask(field, lambda: question(gpu, kind))

    fields: dict[str, Any] = {
        "index": index,
        "name": _text(pynvml.nvmlDeviceGetName(gpu)),
        "uuid": ask("uuid", lambda: _text(pynvml.nvmlDeviceGetUUID(gpu))),
        "driver": ask("driver", lambda: _text(pynvml.nvmlSystemGetDriverVersion())),
        "compute_capability": ask("compute_capability", lambda: "{}.{}".format(*_capability(gpu))),
        "cuda_cores": ask("cuda_cores", lambda: pynvml.nvmlDeviceGetNumGpuCores(gpu)),
        "multiprocessors": ask("multiprocessors", lambda: _multiprocessors(gpu)),
        "memory_total_bytes": ask("memory_total_bytes", lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu).total),
        "memory_used_bytes": ask("memory_used_bytes", lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu).used),
        "sm_clock_mhz": clock("sm_clock_mhz", pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
        "sm_clock_max_mhz": clock("sm_clock_max_mhz", pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_SM),
        "memory_clock_mhz": clock("memory_clock_mhz", pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM),
        "memory_clock_max_mhz": clock("memory_clock_max_mhz", pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_MEM),
        # NVML counts power in milliwatts.
        "power_draw_w": ask("power_draw_w", lambda: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
        "power_limit_w": ask("power_limit_w", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000),
        "temperature_c": ask(
            "temperature_c", lambda: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)
        ),
        "throttle_reasons": ask("throttle_reasons", lambda: throttle_names(throttle_bits(gpu))),
        "ecc": ask("ecc", lambda: bool(pynvml.nvmlDeviceGetEccMode(gpu)[0])),
        "mig": ask("mig", lambda: bool(pynvml.nvmlDeviceGetMigMode(gpu)[0])),
        "persistence": ask("persistence", lambda: bool(pynvml.nvmlDeviceGetPersistenceMode(gpu))),
        "pcie_generation": ask("pcie_generation", lambda: pynvml.nvmlDeviceGetCurrPcieLinkGeneration(gpu)),
        "pcie_width": ask("pcie_width", lambda: pynvml.nvmlDeviceGetCurrPcieLinkWidth(gpu)),
        "other_processes": ask("other_processes", lambda: _other_processes(gpu)),
    }
    return GpuState(**fields, unknown=unknown)


def throttle_names(bits: int) -> tuple[str, ...]:
    """Return the names of the set bits; a bit that is not known here is named by its value."""
    known = tuple(name for name, bit in THROTTLE_REASONS.items() if bits & bit)
    rest = bits & ~sum(THROTTLE_REASONS.values())
    return (*known, hex(rest)) if rest else known


def throttle_bits(gpu: Any) -> int:
    """Return the bits of :data:`THROTTLE_REASONS` in force on a GPU, given by its NVML handle."""
    # The new name is missing from old drivers, which answer to the old one.
    try:
        bits: int = pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)
    except pynvml.NVMLError_FunctionNotFound:
        bits = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)
    return bits


def _capability(gpu: Any) -> tuple[int, int]:
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(gpu)
    return major, minor


def _multiprocessors(gpu: Any) -> int:
    # NVML counts cores only. Compute capabilities 6.0, 7.x and 8.0 have 64 of them a multiprocessor, the others 128.
    major, minor = _capability(gpu)
    each = 64 if major == 7 or (major, minor) in ((6, 0), (8, 0)) else 128
    cores: int = pynvml.nvmlDeviceGetNumGpuCores(gpu)
    return cores // each


def _other_processes(gpu: Any) -> int:
    return sum(process.pid != os.getpid() for process in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
