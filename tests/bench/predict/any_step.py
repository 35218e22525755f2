"""Training steps of any kind, traced with the rules of CUDA, and run on torch's own CUDA code over the stand-in.

A job is a function of a device that returns a model and a callable that runs one step of it.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.predict.allocator import CachingAllocator
from bench.predict.device_rules import Rules
from bench.predict.recorded import of_release
from bench.predict.recorder import Category, Part, Recorder, Trace
from bench.predict.trace import _Calls, _in_order_of_transfer, _with_ends_in_order, _without_garbage_collection
from bench.torch_internals.fake_mode import fake_mode
from bench.torch_internals.probe import probe
from tests.stand_in.stand_in import with_stand_in

Job = Callable[[str], tuple[nn.Module, Callable[[], None]]]
STEPS = 3


def trace_job(job: Job, rules: Rules) -> Trace:
    """Trace the first and a later step."""
    probe()
    recorder = Recorder(rules)
    fake = fake_mode()
    with fake, recorder, recorder.paused():
        model, step = job("cpu")
    for name, module in _in_order_of_transfer(model):
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            recorder.adopt(tensor, Category.PARAMETER, name)
        if rules.flat_lstm and isinstance(module, nn.RNNBase):
            recorder.merge(module.parameters(), name)
    recorder.follow_modules(model)
    setup = tuple(recorder.events)
    parts: list[tuple[Part, ...]] = []
    with fake, recorder, _Calls(recorder), _without_garbage_collection():
        if rules.functions is not None:
            with rules.functions():
                parts = [_one(recorder, step) for _ in range(2)]
        else:
            parts = [_one(recorder, step) for _ in range(2)]
    first, steady = parts
    trace = Trace(recorder.allocations, setup, first, steady, recorder.operators, rules.name, 1)
    return trace.keeping(lambda a: a.category is not Category.HOST and not a.uncertain)


def _one(recorder: Recorder, step: Callable[[], None]) -> tuple[Part, ...]:
    begin = len(recorder.events)
    step()
    return (Part("step", _with_ends_in_order(recorder.events[begin:])),)


@dataclass(frozen=True)
class Peaks:
    """Bytes at the peak of each step."""

    allocated: tuple[int, ...]
    reserved: tuple[int, ...]


def predicted(job: Job, rules: Rules, release: str = torch.__version__, place: Any = None) -> Peaks:
    """Return the peaks of some steps by prediction."""
    trace = trace_job(job, rules)
    allocator = CachingAllocator(of_release(release), place)
    allocator.replay(trace.setup)
    allocated, reserved = [], []
    for _, parts in zip(range(STEPS), trace.steps(), strict=False):
        allocator.reset_peak()
        for part in parts:
            allocator.replay(part.events)
        allocated.append(allocator.peak.allocated_bytes)
        reserved.append(allocator.peak.reserved_bytes)
    return Peaks(tuple(allocated), tuple(reserved))


def executed(job: Job, library: Path, history: bool = False) -> dict[str, Any]:
    """Return what torch's own CUDA code allocates; ``job`` must be a function of a module."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, f"{job.__module__}:{job.__name__}", str(int(history))],
        env=with_stand_in(library) | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Run a job on the stand-in's GPU; print its peaks, and each step's allocations where they are wanted."""
    module, _, name = sys.argv[1].partition(":")
    history = sys.argv[2] == "1"
    if history:
        torch.cuda.memory._record_memory_history(enabled="all", context=None, stacks="python")
    model, step = getattr(importlib.import_module(module), name)("cuda")
    model.to("cuda")
    answer: dict[str, Any] = {"allocated": [], "reserved": [], "torch": torch.__version__}
    begins: list[int] = []
    for _ in range(STEPS):
        torch.cuda.reset_peak_memory_stats()
        begins.append(len(_entries()) if history else 0)
        step()
        answer["allocated"].append(torch.cuda.max_memory_allocated())
        answer["reserved"].append(torch.cuda.max_memory_reserved())
    if history:
        answer["history"] = _entries()[begins[1] : begins[2]]
    json.dump(answer, sys.stdout)


def _entries() -> list[Any]:
    [trace] = torch.cuda.memory._snapshot()["device_traces"]
    return [(entry["action"], entry["size"]) for entry in trace if entry["action"] in ("alloc", "free_completed")]


if __name__ == "__main__":
    main()
