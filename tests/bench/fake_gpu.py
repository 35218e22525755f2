"""A GPU that is not there: torch's memory functions, with their signatures, over the simulated allocator."""

import functools
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
from torch import nn

from bench.machine.environment import Environment, collect_environment
from bench.measure import memory_cuda
from bench.predict.allocator import CachingAllocator
from bench.predict.recorder import INFERENCE
from bench.units import MIB
from etad.phases import Phase

NAME = "NVIDIA H100 80GB HBM3"
PARAMETERS = 40 * MIB
SIZES = {"encode": 100, "detect": 30, "update_detector": 5, "backpropagate": 200, "update_encoder": 10, INFERENCE: 50}
"""MiB that each phase of the pretended step holds while it runs."""


class FakeGpu:
    """Answers for ``torch.cuda``; ``dies_in`` is a step's number and a phase in which memory runs out."""

    def __init__(self) -> None:
        self.allocator = CachingAllocator()
        self.allocator.allocate(-1, PARAMETERS)
        self.dies_in: tuple[int, str] | None = None
        self.observer: Callable[[int, int, int, int], None] | None = None
        self.errors = 0
        self.has_state = False
        self.calls: dict[str, Any] = {}

    def stats(self, device: Any = None) -> dict[str, int]:
        found: dict[str, int] = {"num_alloc_retries": self.allocator.retries, "num_ooms": self.errors}
        for which, usage in (("current", self.allocator.usage), ("peak", self.allocator.peak)):
            for level in ("requested", "allocated", "active", "reserved"):
                found[f"{level}_bytes.all.{which}"] = getattr(usage, f"{level}_bytes")
            found[f"segment.all.{which}"] = usage.segments
        return found

    def fail(self) -> None:
        self.errors += 1
        if self.observer is not None:
            self.observer(0, 512 * MIB, 80 * 2**30, MIB)
        raise torch.OutOfMemoryError("whatever torch says")


class FakeWorkload:
    """Stands for bench.measure.workload.Workload: announces phases, and allocates what each needs."""

    gpu: FakeGpu

    def __init__(self, config: Any, task: str, device: Any, listeners: Sequence[Any], batches: Any) -> None:
        self.model = nn.Linear(2, 3)
        self.optimizer = torch.optim.SGD(self.model.parameters())
        self._task, self._listeners = task, listeners
        self._steps = 0

    def __call__(self) -> None:
        self._steps += 1
        if self._task == "infer":
            self._hold(INFERENCE)
            return
        for phase in Phase:
            for listener in self._listeners:
                listener.begin(phase)
            if self.gpu.dies_in == (self._steps, phase.value):
                self.gpu.fail()
            self._hold(phase.value)
            for listener in self._listeners:
                listener.end(phase)

    def synchronize(self) -> None:
        pass

    def _hold(self, name: str) -> None:
        # The optimizer's state comes into being in the first step.
        if name == "update_encoder" and not self.gpu.has_state:
            self.gpu.has_state = True
            self.gpu.allocator.allocate(-2, 2 * PARAMETERS)
        self.gpu.allocator.allocate(1, SIZES[name] * MIB)
        self.gpu.allocator.free(1)


@functools.cache
def environment() -> Environment:
    """This machine, as it is."""
    return collect_environment()


@pytest.fixture
def gpu(driver: Any, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A machine with one H100 and nobody else on it; ``driver`` is its NVML."""
    environment()  # Later, torch would look for the GPU's libraries.
    fake = FakeGpu()
    driver.nvmlDeviceGetUUID.return_value = "GPU-1234"
    driver.nvmlDeviceGetComputeRunningProcesses.return_value = []

    class Properties:
        name, uuid, total_memory, major, minor = NAME, "1234", 79 * 2**30, 9, 0

    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: NAME,
        "get_device_properties": lambda device=None: Properties,
        "memory_stats": fake.stats,
        "reset_peak_memory_stats": lambda device=None: fake.allocator.reset_peak(),
    }
    for name, answer in answers.items():
        double = create_autospec(getattr(torch.cuda, name), side_effect=answer)
        monkeypatch.setattr(torch.cuda, name, double)
        fake.calls[name] = double
    monkeypatch.setattr(torch._C, "_cuda_attach_out_of_memory_observer", lambda o: setattr(fake, "observer", o))
    workload = type("Workload", (FakeWorkload,), {"gpu": fake})
    monkeypatch.setattr(memory_cuda, "Workload", workload)
    return fake
