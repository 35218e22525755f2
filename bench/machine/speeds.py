"""How fast a device copies and multiplies, by short kernels: what a program reaches, not what a data sheet says."""

import time
from collections.abc import Callable

import torch

MIN_ROUND_S = 0.05
"""A round is repeated until it lasts this long, so that launching and synchronising do not count."""
ROUNDS = 5


def copy_bytes_per_s(device: torch.device, size_bytes: int) -> float:
    """Return the bandwidth of a copy within the device's memory, counting read and write.

    Args:
        device: where.
        size_bytes: of the copied buffer; far above the caches, or it is their bandwidth.
    """
    source = torch.zeros(size_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return best_rate(lambda: target.copy_(source), 2.0 * size_bytes, device)


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Return the speed of a square matrix product of ``size``, counting 2 operations a multiply-add."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    return best_rate(lambda: left @ right, 2.0 * size**3, device)


def best_rate(work: Callable[[], object], amount: float, device: torch.device) -> float:
    """Return ``amount`` per second of ``work`` in the best of several rounds: noise only ever slows it down."""
    work()  # The first call loads kernels and chooses algorithms.
    repeats = max(1, round(MIN_ROUND_S / max(_time_s(work, 1, device), 1e-6)))
    return amount * repeats / min(_time_s(work, repeats, device) for _ in range(ROUNDS))


def _time_s(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
