"""What a process holds on a GPU as the system sees it, by NVML."""

import os
from dataclasses import dataclass

import torch

from bench.machine.nvml import GpuState, GpuStates, memory_of_process, read_gpus


@dataclass(frozen=True)
class ProcessMemory:
    """What a process holds on its GPU.

    Attributes:
        used_bytes: CUDA context, loaded kernels and the allocator's memory; None where it is not known.
        method: how it was read, or why it is not known.
        exclusive: whether no other compute process is on the GPU, as far as NVML shows; None where it does not tell.
        total_bytes: the GPU's memory; None where it is not known.
    """

    used_bytes: int | None
    method: str
    exclusive: bool | None
    total_bytes: int | None


class ProcessMeter:
    """Reads what this process holds on a GPU. Make it before the process has a CUDA context.

    In this order of trust: NVML's number for this process; the growth of the GPU's used memory, if no other process
    is there; else nothing, with the reason. Containers hide process numbers, and MIG hides processes.
    """

    def __init__(self) -> None:
        self._before = read_gpus()

    def read(self, device: torch.device) -> ProcessMemory:
        """Read it now, for the CUDA device ``device``."""
        properties = torch.cuda.get_device_properties(device)
        before, after = _state(self._before, str(properties.uuid)), _state(read_gpus(), str(properties.uuid))
        if (before is None or before.mig) and any(state.mig for state in self._before.found):
            # The whole GPU's numbers say nothing of one of its instances, which NVML knows by a name of its own.
            used_bytes, method = memory_of_process(os.getpid(), f"MIG-{properties.uuid}")
            reason = "NVML per process, MIG instance" if used_bytes else f"the GPU is divided by MIG; {method}"
            return ProcessMemory(used_bytes, reason, None, properties.total_memory)
        if before is None or after is None:
            reason = self._before.reason or "NVML does not list the GPU that torch computes on"
            return ProcessMemory(None, reason, None, None)
        exclusive = None if after.other_processes is None else before.other_processes == 0
        used_bytes, method = memory_of_process(os.getpid(), f"GPU-{properties.uuid}")
        if used_bytes is None:
            used_bytes, method = _growth(before, after, method)
        return ProcessMemory(used_bytes, method, exclusive, after.memory_total_bytes)


def _state(states: GpuStates, uuid: str) -> GpuState | None:
    return next((state for state in states.found if state.uuid == f"GPU-{uuid}"), None)


def _growth(before: GpuState, after: GpuState, why: str) -> tuple[int | None, str]:
    """Return by how much the GPU's used memory has grown, if only this process can have done that."""
    if before.other_processes is None or after.other_processes is None:
        unknown = {**after.unknown, **before.unknown}.get("other_processes", "NVML does not tell")
        return None, f"{why}; whether other processes are on the GPU is not known: {unknown}"
    # If NVML hides our number it lists us under another one.
    if before.other_processes > 0 or after.other_processes > 1:
        return None, f"{why}; other processes are on the GPU, so its used memory does not tell"
    if before.memory_used_bytes is None or after.memory_used_bytes is None:
        return None, f"{why}; NVML does not tell the GPU's used memory"
    return after.memory_used_bytes - before.memory_used_bytes, f"growth of the GPU's used memory, as {why}"
