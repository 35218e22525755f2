"""What a process with an empty CUDA context holds: run as a process of its own, it prints one line of JSON.

``python -m bench.machine.empty_context DEVICE UUID alone|shared``, where "alone" says that no other process is on the
GPU, so that the growth of the device's total is this process.
"""

import json
import os
import sys

import torch

from bench.machine.nvml import memory_of_process


def main(device_name: str, uuid: str, sharing: str) -> None:
    """Open a context with one tiny kernel and print ``{"overhead": bytes or null, "method": text}``."""
    device = torch.device(device_name)
    before_bytes = torch.cuda.device_memory_used(device)
    torch.ones(1, device=device)
    torch.cuda.synchronize(device)
    used_bytes, method = memory_of_process(os.getpid(), uuid)
    if used_bytes is None and sharing == "alone":
        used_bytes, method = torch.cuda.device_memory_used(device) - before_bytes, "device delta"
    # The allocator's one segment is not overhead: a predictor counts it as reserved memory.
    overhead_bytes = None if used_bytes is None else used_bytes - torch.cuda.memory_reserved(device)
    print(json.dumps({"overhead": overhead_bytes, "method": method}))


if __name__ == "__main__":
    main(*sys.argv[1:])
