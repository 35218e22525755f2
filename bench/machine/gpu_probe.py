"""Measuring the present GPU for its hardware profile: context overhead, memory bandwidth, matrix-product speed.

Short kernels, a few seconds in all. They give what a program can reach, not what a data sheet promises.
"""

import datetime
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import torch

from bench.machine.datasheets import HardwareProfile, Measured, match_profile
from bench.machine.nvml import read_gpus
from bench.machine.speeds import copy_bytes_per_s, matmul_flops_per_s
from bench.units import GIB
from etad.errors import DeviceError

CONTEXT_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Gpu:
    """The present GPU, by torch and NVML."""

    device: torch.device
    name: str
    uuid: str
    compute_capability: str
    multiprocessors: int
    memory_bytes: int
    power_w: float | None
    driver: str | None
    alone: bool
    """Whether no other compute process is on it, as far as NVML shows."""


def present_gpu(index: int = 0) -> Gpu:
    """Return what is known of CUDA device ``index``.

    Raises:
        DeviceError: there is no such device.
    """
    if index >= torch.cuda.device_count():
        raise DeviceError(f"no CUDA device {index} here; etad-bench profiles measure needs the GPU it measures")
    # Before torch opens a context of our own, which NVML in a container shows under a number that is not ours.
    states = read_gpus().found
    properties = torch.cuda.get_device_properties(index)
    uuid = f"GPU-{properties.uuid}"
    state = next((state for state in states if state.uuid == uuid), None)
    return Gpu(
        device=torch.device("cuda", index),
        name=properties.name,
        uuid=uuid,
        compute_capability=f"{properties.major}.{properties.minor}",
        multiprocessors=properties.multi_processor_count,
        # NVML's total is the larger of the two: torch's leaves out what the driver keeps.
        memory_bytes=(state and state.memory_total_bytes) or properties.total_memory,
        power_w=state.power_limit_w if state else None,
        driver=state.driver if state else None,
        alone=state is not None and state.other_processes == 0,
    )


def measure_profile(index: int = 0) -> HardwareProfile:
    """Measure CUDA device ``index`` and return its profile: the known one completed, or a new one.

    Raises:
        DeviceError: there is no such device.
    """
    gpu = present_gpu(index)
    overhead_bytes, method = context_overhead_bytes(gpu)
    measured = Measured.model_validate(
        {
            "on": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "driver": gpu.driver,
            "torch": torch.__version__,
            "memory_bandwidth_bytes_per_s": copy_bytes_per_s(gpu.device, gpu.memory_bytes // 16),
            "context_method": method,
            **matmul_rates(gpu),
        }
    )
    return complete_profile(gpu, measured, overhead_bytes)


def complete_profile(gpu: Gpu, measured: Measured, overhead_bytes: int | None) -> HardwareProfile:
    """Return the known profile of ``gpu`` with what was measured, or a profile of measured values alone."""
    by_us = (
        f"measured by etad-bench profiles measure on {measured.on}, driver {measured.driver}, torch {measured.torch}"
    )
    known = match_profile(gpu.name, gpu.memory_bytes)
    fields: dict[str, Any] = known.model_dump() if known else _fields_of_unknown(gpu, measured, by_us)
    fields["measured"] = measured
    found: dict[str, int | None] = {
        "usable_memory_bytes": gpu.memory_bytes,
        "context_overhead_bytes": overhead_bytes,
    }
    for field, value in found.items():
        fields[field] = value
        if value is None:
            fields["sources"].pop(field, None)
            fields["unknown"][field] = measured.context_method or "could not be measured"
        else:
            fields["sources"][field] = by_us
            fields["unknown"].pop(field, None)
    return HardwareProfile.model_validate(fields)


def _fields_of_unknown(gpu: Gpu, measured: Measured, by_us: str) -> dict[str, Any]:
    if gpu.power_w is None:
        raise DeviceError(f"{gpu.name}: NVML does not tell its power limit and no profile knows it; write one by hand")
    peaks: dict[str, float | None] = {
        "peak_fp32_flops_per_s": measured.matmul_fp32_flops_per_s,
        "peak_tf32_flops_per_s": measured.matmul_tf32_flops_per_s,
        "peak_bf16_flops_per_s": measured.matmul_bf16_flops_per_s,
        "peak_fp16_flops_per_s": measured.matmul_fp16_flops_per_s,
    }
    numbers: dict[str, Any] = {
        "compute_capability": gpu.compute_capability,
        "multiprocessors": gpu.multiprocessors,
        "memory_bytes": gpu.memory_bytes,
        "memory_bandwidth_bytes_per_s": measured.memory_bandwidth_bytes_per_s,
        "power_w": gpu.power_w,
        **peaks,
    }
    words = "".join(letter if letter.isalnum() else " " for letter in gpu.name.lower())
    stem = "_".join(word for word in words.split() if word not in ("nvidia", "geforce", "gpu"))
    return {
        "name": f"{stem}_{round(gpu.memory_bytes / GIB)}g",
        "marketing_name": gpu.name,
        "device_names": (gpu.name,),
        "form": "laptop" if "laptop" in words else "desktop" if "geforce" in words else "datacenter",
        "architecture": "unknown",
        **numbers,
        "sources": {field: by_us for field, value in numbers.items() if value is not None},
        "unknown": {field: "the GPU refused the measurement" for field, value in peaks.items() if value is None},
        "note": "No data sheet is known here: the peaks and the bandwidth are what short kernels reached.",
    }


def context_overhead_bytes(gpu: Gpu) -> tuple[int | None, str]:
    """Return what a process with an empty CUDA context holds beyond its allocator's memory, and how that was read.

    A child process is used, because this one already holds more than an empty context. None, with the reason, where
    NVML does not list the child (a container hides process ids) and other processes make the device's total useless.
    """
    sharing = "alone" if gpu.alone else "shared"
    command = [sys.executable, "-m", "bench.machine.empty_context", str(gpu.device), gpu.uuid, sharing]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CONTEXT_TIMEOUT_S, check=True)
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return None, f"the empty-context process did not end within {CONTEXT_TIMEOUT_S:g} s"
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:] or ["no message"]
        return None, f"the empty-context process failed: {last[0]}"
    except (IndexError, ValueError):
        return None, "the empty-context process gave no answer"
    return answer["overhead"], answer["method"]


def matmul_rates(gpu: Gpu) -> dict[str, float | None]:
    """Return the matrix-product speed at every precision the GPU has units for, as fields of :class:`Measured`."""
    major = int(gpu.compute_capability.partition(".")[0])
    size = 8192 if gpu.memory_bytes > 4 * GIB else 4096
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    rates: dict[str, float | None] = dict.fromkeys(("matmul_tf32_flops_per_s", "matmul_bf16_flops_per_s"))
    try:
        matmul.fp32_precision = "ieee"
        rates["matmul_fp32_flops_per_s"] = matmul_flops_per_s(gpu.device, torch.float32, size)
        rates["matmul_fp16_flops_per_s"] = matmul_flops_per_s(gpu.device, torch.float16, size)
        # TF32 and bfloat16 units came with compute capability 8.0.
        if major >= 8:
            rates["matmul_bf16_flops_per_s"] = matmul_flops_per_s(gpu.device, torch.bfloat16, size)
            matmul.fp32_precision = "tf32"
            rates["matmul_tf32_flops_per_s"] = matmul_flops_per_s(gpu.device, torch.float32, size)
    finally:
        matmul.fp32_precision = before
    return rates
