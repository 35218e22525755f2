"""What the present device can do: by short kernels on a CPU, by its data sheet on a GPU."""

import math
import time
from typing import Literal

import torch

from bench.machine.clocks import Clock, clock_of
from bench.machine.datasheets import Precision, match_profile
from bench.machine.speeds import copy_bytes_per_s, matmul_flops_per_s
from bench.predict.roofline import Roof, roof_of_profile
from bench.units import MIB
from etad.config import Config
from etad.precision import AUTOCAST_DTYPE

GEMM_SIZE = 1024
COPY_BYTES = 256 * MIB
"""Of the copy that shows a CPU's bandwidth: above the caches of any."""
TINY_OPERATIONS = 2000


def measure_roof(device: torch.device, config: Config) -> Roof:
    """Return what ``device`` can do at the step's precision: by a GPU's data sheet, by short kernels on a CPU."""
    operator_s = _operator_s(device, clock_of(device))
    if device.type == "cpu":
        dtype = AUTOCAST_DTYPE[config.step.precision]
        return Roof(
            matmul_flops_per_s(device, dtype, GEMM_SIZE),
            copy_bytes_per_s(device, COPY_BYTES),
            operator_s,
            f"measured here: {GEMM_SIZE}x{GEMM_SIZE} {config.step.precision} matrix product, "
            f"{COPY_BYTES // MIB} MiB copy, {torch.get_num_threads()} threads",
        )
    name, memory = torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory
    profile = match_profile(name, memory)
    if profile is None:
        return Roof(None, None, operator_s, f"{name} has no hardware profile; etad-bench profiles measure makes one")
    return roof_of_profile(profile, device_precision(config.step.precision, profile.compute_capability), operator_s)


def device_precision(precision: Literal["fp32", "bf16", "fp16"], compute_capability: str | None) -> Precision:
    """Return what a GPU computes with: convolutions in fp32 use TF32 units where there are some and flags allow it.

    Elsewhere than on CUDA, where there is no compute capability, they do not.
    """
    ampere = compute_capability is not None and int(compute_capability.partition(".")[0]) >= 8
    if precision == "fp32" and ampere and torch.backends.cudnn.conv.fp32_precision == "tf32":  # type: ignore[attr-defined]
        return "tf32"
    return precision


def _operator_s(device: torch.device, clock: Clock) -> float:
    """Return what the host needs to issue one operator, in seconds: a tiny one, many times."""
    tensor = torch.zeros(1, device=device)
    best = math.inf
    for _ in range(3):
        clock.wait()
        begun = time.perf_counter()
        for _ in range(TINY_OPERATIONS):
            tensor.add_(1.0)
        best = min(best, (time.perf_counter() - begun) / TINY_OPERATIONS)
    clock.wait()
    return best
