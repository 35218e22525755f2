"""torch's record of what CUDA's caching allocator does, and its call when memory runs out."""

from collections.abc import Callable
from pathlib import Path

import torch


def on_out_of_memory(observer: Callable[[int, int, int, int], None]) -> str | None:
    """Let CUDA's allocator call ``observer`` just before it raises ``torch.OutOfMemoryError``.

    Args:
        observer: gets the device's number, the bytes that the driver was asked for, the device's bytes in all, and
            those that are free.

    Returns:
        Why that is not possible; None if it is.
    """
    attach = getattr(torch._C, "_cuda_attach_out_of_memory_observer", None)
    if attach is None:
        return f"torch {torch.__version__} does not tell what was asked for"
    attach(observer)
    return None


def record_history(frames: bool) -> None:
    """Let CUDA's allocator write down what it does from now on, with or without the Python stack of every request."""
    context = "alloc" if frames else None
    torch.cuda.memory._record_memory_history(enabled="all", context=context, stacks="python")


def dump_history(path: Path) -> None:
    """Write what was recorded, in the format of torch's memory visualiser (https://pytorch.org/memory_viz)."""
    torch.cuda.memory._dump_snapshot(str(path))


def stop_history() -> None:
    """Record no more."""
    torch.cuda.memory._record_memory_history(enabled=None)
