"""Training steps of any kind, traced with the rules of CUDA, and run on torch's own CUDA code over the stand-in.

A job is a function of a device that returns a model and a callable that runs one step of it.
"""

import gc
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.predict.allocator import CachingAllocator
from bench.predict.device_rules import Rules
from bench.predict.recorded import of_release
from bench.predict.recorder import Category, Trace
from bench.predict.tracing import Session, trace_program
from tests.stand_in.stand_in import with_stand_in

Job = Callable[[str], tuple[nn.Module, Callable[[], None]]]
STEPS = 3


def trace_job(job: Job, rules: Rules) -> Trace:
    """Trace the first and a later step."""

    def program(session: Session) -> Callable[[], None]:
        with session.building():
            model, step = job("cpu")
        session.adopt(model)
        session.recorder.follow_modules(model)
        return step

    return trace_program(program, rules, 1).keeping(lambda a: a.category is not Category.HOST and not a.uncertain)


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


def executed(source: str, names: Sequence[str], library: Path, history: bool = False) -> dict[str, dict[str, Any]]:
    """Return what torch's own CUDA code allocates, job by job: peaks, and the events of the second step on request.

    Args:
        source: module and dictionary that have the jobs: "tests.bench.predict.jobs:JOBS".
        names: keys of the dictionary.
        library: the compiled stand-in.
        history: whether to tell the events, too.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__, source, json.dumps(list(names)), str(int(history))],
        env=with_stand_in(library) | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Run jobs on the stand-in's GPU; print what they allocate."""
    module, _, dictionary = sys.argv[1].partition(":")
    jobs = getattr(importlib.import_module(module), dictionary)
    history = sys.argv[3] == "1"
    if history:
        torch.cuda.memory._record_memory_history(enabled="all", context=None, stacks="python")
    json.dump({name: _run(jobs[name], history) for name in json.loads(sys.argv[2])}, sys.stdout)


def _run(job: Job, history: bool) -> dict[str, Any]:
    model, step = job("cuda")
    model.to("cuda")
    answer: dict[str, Any] = {"allocated": [], "reserved": []}
    begins: list[int] = []
    for _ in range(STEPS):
        torch.cuda.reset_peak_memory_stats()
        begins.append(len(_entries()) if history else 0)
        step()
        answer["allocated"].append(torch.cuda.max_memory_allocated())
        answer["reserved"].append(torch.cuda.max_memory_reserved())
    if history:
        answer["history"] = _entries()[begins[1] : begins[2]]
    del model, step
    # The next job begins like a new process.
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() == 0
    return answer


def _entries() -> list[Any]:
    [trace] = torch.cuda.memory._snapshot()["device_traces"]
    return [(entry["action"], entry["size"]) for entry in trace if entry["action"] in ("alloc", "free_completed")]


if __name__ == "__main__":
    main()
