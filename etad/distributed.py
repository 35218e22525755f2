"""One process or several: this one's rank and device, and how counts, gradients and objects travel between them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from etad.errors import DeviceError, PeerError, UserError
from etad.first_failure import has_another_failed, is_first_to_fail
from etad.host_memory import keep_freed_memory


@dataclass(frozen=True)
class World:
    """The processes of a run. A single process is a world of size 1, in which every operation is the identity.

    Attributes:
        rank: number of this process, 0 the first.
        size: number of processes.
        device: the device of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and messages of all."""
        return self.rank == 0

    def total(self, count: Tensor) -> Tensor:
        """Return the sum of ``count`` over all processes."""
        if self.size == 1:
            return count
        summed = count.detach().clone()
        dist.all_reduce(summed)
        return summed

    def gather(self, value: Any) -> list[Any]:
        """Return every process's ``value``, in order of rank, to all of them."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_world(device: str = "auto") -> Iterator[World]:
    """Join the processes that ``torchrun`` started, or be alone.

    Args:
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".

    Raises:
        DeviceError: a GPU was asked for and there is none (of that number).
        PeerError: another process failed first, where the launcher lets us know.
    """
    size, rank, local = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
    if size == 1:
        yield alone(device)
        return
    chosen = compute_on(device, local)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(rank, size, chosen)
    except UserError:
        if not is_first_to_fail():
            raise PeerError("another process failed") from None
        raise
    except Exception:
        # Of another's end a process learns by a lost connection, in whatever it happens to do.
        if has_another_failed():
            raise PeerError("another process failed") from None
        raise
    finally:
        dist.destroy_process_group()


def alone(device: str = "auto") -> World:
    """Return the world of a single process; see :func:`join_world`.

    Raises:
        DeviceError: as there.
    """
    return World(0, 1, compute_on(device))


def compute_on(name: str, local_rank: int | None = None) -> torch.device:
    """Choose a device, and prepare this process to compute there: on a CPU it keeps the memory it frees.

    Raises:
        DeviceError: as :func:`choose_device`.
    """
    device = choose_device(name, local_rank)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def synchronised(module: nn.Module) -> DistributedDataParallel:
    """Return the module with its gradients averaged over the processes."""
    device = next(module.parameters()).device
    return DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None)


def choose_device(name: str, local_rank: int | None = None) -> torch.device:
    """Return the device called ``name``; ``local_rank`` picks the GPU of one process among several.

    Raises:
        DeviceError: the name is unknown, or there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"--device {name}: unknown; use auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    number = local_rank if local_rank is not None else (device.index or 0)
    if number >= torch.cuda.device_count():
        raise DeviceError(f"--device {name}: GPU {number} is not there; this machine has {torch.cuda.device_count()}")
    return torch.device("cuda", number)


_TORCHRUN = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))
