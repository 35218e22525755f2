"""What makes this machine unfit to time on, and how to mend it.

Facts come first (:class:`Activity`, the environment), judgement second (:func:`diagnose`), so that every judgement can
be tried on any machine's facts. Thresholds are those at which a median of a few seconds of samples visibly moves.
"""

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import psutil

from bench.machine.environment import Environment
from bench.machine.nvml import HARMLESS_THROTTLING, GpuState
from bench.units import MIB

Severity = Literal["unfit", "advice", "note"]
"""unfit: timings mislead. advice: they can be better. note: it changes results, and records say so."""

SECONDS = 1.0
"""How long processes are watched."""
BUSY_CORES = 0.10
"""A process counts as busy from this part of a core on."""
STOLEN = 0.02
"""Part of the time that a hypervisor may withhold."""
NOISE = 0.05
"""Relative spread of a fixed computation from which on a machine counts as noisy."""
LITTLE_MEMORY = 0.10
"""Part of the host's memory below which it may begin to swap."""
HOT_C = 83
"""Temperature from which on many GPUs lower their clocks."""
LOWERED_CLOCK = 0.9
"""Part of its highest clock below which a busy GPU counts as slowed down."""


@dataclass(frozen=True)
class Busy:
    """A process that computes: its number, name, and cores it keeps busy."""

    pid: int
    name: str
    cores: float


@dataclass(frozen=True)
class Activity:
    """What happened on the host while it was watched.

    Attributes:
        busy: other processes that compute, busiest first.
        stolen: part of the time that a hypervisor withheld; None: the system does not count it.
        swapped_bytes: swap in use.
        clock_mhz, clock_max_mhz: of the CPU; None: the system does not tell.
        noise: relative spread (interquartile range / median) of a fixed computation; what is left unexplained.
    """

    busy: tuple[Busy, ...]
    stolen: float | None
    swapped_bytes: int
    clock_mhz: float | None
    clock_max_mhz: float | None
    noise: float


@dataclass(frozen=True)
class Finding:
    """One thing that disturbs timing.

    Attributes:
        severity: see :data:`Severity`.
        what: what was found, with its number.
        mend: what to do about it.
    """

    severity: Severity
    what: str
    mend: str


def watch(seconds: float = SECONDS) -> Activity:
    """Watch the host for ``seconds``, then time a fixed computation for about a fifth of a second."""
    mine = os.getpid()
    processes = [process for process in psutil.process_iter(["name"]) if process.pid != mine]
    for process in processes:
        _cores(process)  # psutil counts from the first call on.
    psutil.cpu_times_percent()
    time.sleep(seconds)
    times = psutil.cpu_times_percent()
    used = [Busy(process.pid, process.info["name"] or "?", _cores(process)) for process in processes]
    clock = _clock()
    return Activity(
        busy=tuple(sorted((one for one in used if one.cores >= BUSY_CORES), key=lambda one: -one.cores)),
        stolen=times.steal / 100 if hasattr(times, "steal") else None,
        swapped_bytes=psutil.swap_memory().used,
        clock_mhz=clock[0],
        clock_max_mhz=clock[1],
        noise=_noise(),
    )


def diagnose(environment: Environment, activity: Activity) -> list[Finding]:
    """Return what disturbs timing here, worst first; empty on a machine that is fit."""
    findings = [*_host(environment, activity), *_threads(environment), *_settings(environment)]
    for gpu in environment.gpus.found:
        findings += _gpu(gpu)
    order: tuple[Severity, ...] = ("unfit", "advice", "note")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def _host(environment: Environment, activity: Activity) -> Iterator[Finding]:
    for one in activity.busy[:5]:
        yield Finding(
            "unfit",
            f"process {one.pid} ({one.name}) keeps {one.cores:.1f} cores busy",
            "end it, or wait until it is done",
        )
    if activity.stolen is not None and activity.stolen > STOLEN:
        yield Finding(
            "unfit",
            f"the hypervisor withheld {activity.stolen:.0%} of the CPU time",
            "use a machine with dedicated cores; otherwise compare only what ran side by side in one run",
        )
    if activity.noise > NOISE:
        yield Finding(
            "unfit",
            f"the time of a fixed computation spread by {activity.noise:.0%}",
            "run etad-bench doctor again on a quiet machine; take more rounds, and compare interleaved",
        )
    cpu = environment.cpu
    if cpu.governor is not None and cpu.governor != "performance":
        yield Finding(
            "advice",
            f"the CPU governor is {cpu.governor}, so clocks follow the load",
            "sudo cpupower frequency-set --governor performance",
        )
    if activity.clock_mhz and activity.clock_max_mhz and activity.clock_mhz < LOWERED_CLOCK * activity.clock_max_mhz:
        yield Finding(
            "advice",
            f"the CPU runs at {activity.clock_mhz:.0f} of {activity.clock_max_mhz:.0f} MHz",
            "plug a laptop in, let it cool, and choose its performance mode",
        )
    if activity.swapped_bytes:
        yield Finding(
            "advice",
            f"{activity.swapped_bytes / MIB:.0f} MiB of memory are swapped out",
            "close what fills the memory; sudo swapoff -a && sudo swapon -a brings it back in",
        )
    memory = environment.memory
    if memory.total_bytes and memory.available_bytes is not None:
        free = memory.available_bytes / memory.total_bytes
        if free < LITTLE_MEMORY:
            yield Finding("unfit", f"only {free:.0%} of the host memory is free", "close what fills the memory")


def _threads(environment: Environment) -> Iterator[Finding]:
    cpu = environment.cpu
    usable = len(cpu.affinity) if cpu.affinity else cpu.logical_cores
    if usable is None:
        return
    if cpu.quota_cores is not None and cpu.quota_cores < usable:
        yield Finding(
            "advice",
            f"the container may use {cpu.quota_cores:g} cores of {usable}, and is held back in bursts",
            "raise the quota, or pin the container to whole cores (docker run --cpuset-cpus)",
        )
        usable = max(int(cpu.quota_cores), 1)
    threads = environment.torch.threads
    if threads > usable:
        yield Finding(
            "unfit", f"torch takes {threads} threads for {usable} usable cores", f"export OMP_NUM_THREADS={usable}"
        )
    elif threads < usable:
        yield Finding(
            "note",
            f"torch takes {threads} of {usable} usable cores",
            "unset OMP_NUM_THREADS (and MKL_NUM_THREADS) to take all",
        )


def _settings(environment: Environment) -> Iterator[Finding]:
    torch, variables = environment.torch, environment.variables
    if variables.get("CUDA_LAUNCH_BLOCKING") not in (None, "0"):
        yield Finding("unfit", "CUDA_LAUNCH_BLOCKING makes every kernel wait", "unset CUDA_LAUNCH_BLOCKING")
    if environment.gpus.found and not torch.cuda_available:
        yield Finding(
            "unfit",
            f"there is a GPU that torch {torch.version} cannot use",
            "install a torch build whose CUDA the driver supports, and check CUDA_VISIBLE_DEVICES",
        )
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        if variables.get(name):
            yield Finding(
                "note", f"{name}={variables[name]} changes reserved memory", f"unset {name} to compare with others"
            )
    if not torch.cuda_available:
        return
    if "tf32" in (torch.matmul_fp32_precision, torch.cudnn_fp32_precision):
        yield Finding(
            "note",
            f"fp32 may be TF32 on the GPU (matrix products: {torch.matmul_fp32_precision}, "
            f"cuDNN: {torch.cudnn_fp32_precision})",
            "set torch.backends.cudnn.conv.fp32_precision = 'ieee' for true fp32; compare like with like",
        )
    if torch.deterministic_algorithms or torch.cudnn_deterministic:
        yield Finding("note", "deterministic algorithms are on, which are slower", "turn them off to time")
    if not torch.cudnn_benchmark:
        yield Finding(
            "note",
            "cuDNN picks its algorithms by rule, not by trial",
            "torch.backends.cudnn.benchmark = True is often faster, and takes more memory",
        )


def _gpu(gpu: GpuState) -> Iterator[Finding]:
    name = f"GPU {gpu.index} ({gpu.name})"
    if gpu.other_processes:
        yield Finding("unfit", f"{name}: {gpu.other_processes} other processes compute on it", "end them: nvidia-smi")
    held_back = sorted(set(gpu.throttle_reasons or ()) - HARMLESS_THROTTLING)
    if held_back:
        yield Finding(
            "unfit",
            f"{name} is held back: {', '.join(held_back)}",
            "cool it, raise its power limit (nvidia-smi -pl), or lock a clock it can hold (nvidia-smi -lgc)",
        )
    if gpu.temperature_c is not None and gpu.temperature_c >= HOT_C:
        yield Finding("unfit", f"{name} is at {gpu.temperature_c} °C", "let it cool before and between runs")
    if gpu.mig:
        yield Finding("note", f"{name} is divided (MIG): figures are of a part of it", "name the MIG profile with them")
    if gpu.persistence is False:
        yield Finding(
            "advice",
            f"{name}: persistence mode is off, so the driver reloads between processes",
            "sudo nvidia-smi -pm 1",
        )
    resting = gpu.throttle_reasons is None or "gpu_idle" in gpu.throttle_reasons
    clock, most = gpu.sm_clock_mhz, gpu.sm_clock_max_mhz
    if not resting and clock and most and clock < LOWERED_CLOCK * most:
        yield Finding(
            "advice",
            f"{name} runs at {clock} of {most} MHz",
            "sudo nvidia-smi -lgc with a clock that it can hold makes runs alike",
        )


def _cores(process: psutil.Process) -> float:
    try:
        return float(process.cpu_percent()) / 100
    except psutil.Error:
        return 0.0  # It has ended, or is not ours to look at.


def _clock() -> tuple[float | None, float | None]:
    try:
        clock = psutil.cpu_freq()
    except (OSError, NotImplementedError):
        return None, None
    return (clock.current or None, clock.max or None) if clock else (None, None)


def _noise() -> float:
    def work() -> float:
        begun = time.perf_counter()
        sum(number * number for number in range(20_000))
        return time.perf_counter() - begun

    for _ in range(20):
        work()
    first, median, third = statistics.quantiles([work() for _ in range(150)], n=4)
    return (third - first) / median
