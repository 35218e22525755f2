"""How much GPU memory an experiment needs, predicted without a GPU.

The traced step (trace.py, device_rules.py) is replayed through the simulated caching allocator: the parameters, the
first step, then further steps until what the allocator reserves stays the same, since that depends on history.

Two scenarios bracket what cannot be known without the GPU, the scratch of cuDNN's convolutions: ``low`` has none of it,
``high`` the bound of device_rules.py. Everything else is in both. What has been checked, and against what, is
in docs/explanation/how_right.md.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

from bench.batches import CLASSES
from bench.cells import Task
from bench.predict.allocator import (
    DEFAULT_SETTINGS,
    AllocatorSettings,
    CachingAllocator,
    Event,
    SimulatedOutOfMemory,
    Usage,
)
from bench.predict.device_rules import DEFAULT_CAPABILITY, DEFAULT_MULTIPROCESSORS, cuda
from bench.predict.recorder import Category, Part, Trace
from bench.predict.trace import trace_inference, trace_training
from etad.config import Config

METHOD = "traced step, simulated caching allocator"

MOST_STEPS = 12
"""Steps after which a reserve that still grows is taken as it is."""
SAME_STEPS = 2
"""Steps with the same reserve that make it steady."""
TOP_TENSORS = 12

Key = TypeVar("Key", bound=str)


@dataclass(frozen=True)
class StepMemory:
    """Peaks of one step.

    Attributes:
        phases: peaks of each phase that ran, by its name.
        peak: peaks of the whole step.
    """

    phases: dict[str, Usage]
    peak: Usage


@dataclass(frozen=True)
class OutOfMemory:
    """Where a step did not fit.

    Attributes:
        step: 0 for the first step.
        phase: where it died; None outside any phase.
        size_bytes: what was asked for.
        reserved_bytes: what was reserved by then.
    """

    step: int
    phase: str | None
    size_bytes: int
    reserved_bytes: int


@dataclass(frozen=True)
class Scenario:
    """One simulated run.

    Attributes:
        first: the first step; None if it did not fit.
        steady: the last step, whose reserve is steady; None if a step did not fit.
        steps: number of steps simulated.
        settled: whether the reserve had become steady.
        retries: how often the cache had to be emptied to make room.
        out_of_memory: why it ended early; None if it fits.
    """

    first: StepMemory | None
    steady: StepMemory | None
    steps: int
    settled: bool
    retries: int
    out_of_memory: OutOfMemory | None


@dataclass(frozen=True)
class LiveTensor:
    """A tensor (or scratch) that is alive at the peak; ``line`` made it, where that is known."""

    size_bytes: int
    category: Category
    module: str
    operator: str
    shape: tuple[int, ...]
    line: str = ""


@dataclass(frozen=True)
class Composition:
    """What holds the memory when the steady step of the low scenario allocates most.

    Attributes:
        phase: when that is.
        requested_bytes: sum of what is alive.
        rounding_bytes: what blocks are larger than the tensors in them.
        categories, modules: bytes by category, and by group of modules; largest first.
        tensors: the largest ones.
    """

    phase: str | None
    requested_bytes: int
    rounding_bytes: int
    categories: dict[Category, int]
    modules: dict[str, int]
    tensors: tuple[LiveTensor, ...]


class Interval(NamedTuple):
    """A number of bytes that lies between two."""

    low_bytes: int
    high_bytes: int


@dataclass(frozen=True)
class MemoryPrediction:
    """The prediction for one experiment on one kind of GPU.

    Attributes:
        videos: batch size.
        parameter_bytes: parameters and buffers.
        low, high: the two scenarios.
        composition: what holds the memory at the peak; None if nothing fits.
        context_bytes: CUDA context and loaded kernels; None where it is not known.
        device: the rules it was made with.
    """

    videos: int
    parameter_bytes: int
    low: Scenario
    high: Scenario
    composition: Composition | None
    context_bytes: int | None
    device: str

    @property
    def allocated(self) -> Interval | None:
        """Peak of the allocated bytes over first and steady step; None where a scenario does not fit."""
        return self._peak("allocated_bytes")

    @property
    def reserved(self) -> Interval | None:
        """Peak of the reserved bytes, likewise."""
        return self._peak("reserved_bytes")

    @property
    def process(self) -> Interval | None:
        """What the process occupies: reserved, and the context. None where that is not known or it does not fit."""
        if self.reserved is None or self.context_bytes is None:
            return None
        return Interval(*(size_bytes + self.context_bytes for size_bytes in self.reserved))

    @property
    def fits(self) -> Literal["yes", "no", "uncertain"]:
        """Whether it fits: "uncertain" where only the low scenario does. Always "yes" without a given memory."""
        if self.low.out_of_memory is not None:
            return "no"
        return "yes" if self.high.out_of_memory is None else "uncertain"

    def _peak(self, quantity: str) -> Interval | None:
        bounds = []
        for scenario in (self.low, self.high):
            if scenario.first is None or scenario.steady is None:
                return None
            bounds.append(max(getattr(step.peak, quantity) for step in (scenario.first, scenario.steady)))
        # Another history may fragment less; an interval is kept in order all the same.
        return Interval(bounds[0], max(bounds))


def predict_memory(
    config: Config,
    *,
    task: Task = "train",
    classes: int = CLASSES,
    compute_capability: tuple[int, int] = DEFAULT_CAPABILITY,
    memory_bytes: int | None = None,
    context_bytes: int | None = None,
    settings: AllocatorSettings = DEFAULT_SETTINGS,
) -> MemoryPrediction:
    """Predict the GPU memory of training (or of inference), without data, weights or GPU.

    Args:
        config: the experiment.
        task: train, or infer: predict detection.
        classes: number of classes of the data set.
        compute_capability: of the GPU; it decides how much workspace cuBLAS gets.
        memory_bytes: the GPU's memory; None: as much as is needed.
        context_bytes: what the CUDA context takes of it; None: not known, and left out.
        settings: of the caching allocator; its capacity is replaced if ``memory_bytes`` is given.
    """
    trace = trace_for_cuda(config, task=task, classes=classes, compute_capability=compute_capability)
    return predict_from_trace(trace, memory_bytes=memory_bytes, context_bytes=context_bytes, settings=settings)


def trace_for_cuda(
    config: Config,
    *,
    task: Task = "train",
    classes: int = CLASSES,
    compute_capability: tuple[int, int] = DEFAULT_CAPABILITY,
    multiprocessors: int = DEFAULT_MULTIPROCESSORS,
) -> Trace:
    """Trace an experiment with the rules of CUDA, which takes nearly all the time of a prediction."""
    rules = cuda(compute_capability, multiprocessors=multiprocessors)
    return (trace_inference if task == "infer" else trace_training)(config, classes, rules)


def predict_from_trace(
    trace: Trace,
    *,
    memory_bytes: int | None = None,
    context_bytes: int | None = None,
    settings: AllocatorSettings = DEFAULT_SETTINGS,
) -> MemoryPrediction:
    """Predict from a trace made with the rules of CUDA; one trace serves GPUs of any size. See ``predict_memory``."""
    if memory_bytes is not None:
        settings = replace(settings, capacity_bytes=max(memory_bytes - (context_bytes or 0), 0))
    certain = trace.keeping(lambda allocation: not allocation.uncertain)
    summit = Summit()
    low = simulate(certain, settings, summit)
    return MemoryPrediction(
        videos=trace.videos,
        parameter_bytes=sum(
            allocation.size_bytes
            for allocation in map(trace.allocation, _alive(trace.setup))
            if allocation.category is Category.PARAMETER
        ),
        low=low,
        high=simulate(trace, settings),
        composition=None if low.steady is None else compose(certain, summit),
        context_bytes=context_bytes,
        device=trace.device,
    )


@dataclass
class Summit:
    """The moment at which a step allocates most, the first such one.

    Attributes:
        allocated_bytes: how much that is.
        phase: the phase it is in.
        events: number of the step's events up to it.
        seen: number of events that were looked at.
    """

    allocated_bytes: int = -1
    phase: str | None = None
    events: int = 0
    seen: int = 0

    def climb(self, allocator: CachingAllocator, part: Part) -> None:
        """Replay a part of the step, and look at every moment of it."""
        for event in part.events:
            allocator.replay((event,))
            self.seen += 1
            if event.size_bytes:
                allocated = allocator.usage.allocated_bytes
                if allocated > self.allocated_bytes:
                    self.allocated_bytes, self.phase, self.events = allocated, part.phase, self.seen


SUMMIT_STEP = 3
"""The step whose summit is looked for: the second with the steady events, and in every run that comes to its end."""


def simulate(trace: Trace, settings: AllocatorSettings, summit: Summit | None = None) -> Scenario:
    """Run steps until the reserve is steady, or one does not fit; ``summit`` gets that of ``SUMMIT_STEP``."""
    allocator = CachingAllocator(settings)
    steps: list[StepMemory] = []
    reserves: list[int] = []
    phase: str | None = None
    try:
        allocator.replay(trace.setup)
        for parts in trace.steps():
            if len(steps) == MOST_STEPS or is_steady(reserves):
                break
            phases: dict[str, Usage] = {}
            peaks: list[Usage] = []
            for part in parts:
                phase = part.phase
                allocator.reset_peak()
                if summit is not None and len(steps) + 1 == SUMMIT_STEP:
                    summit.climb(allocator, part)
                else:
                    allocator.replay(part.events)
                peaks.append(allocator.peak)
                if phase is not None:  # It may come more than once, as where gradients are accumulated.
                    phases[phase] = largest([allocator.peak, phases.get(phase, allocator.peak)])
            steps.append(StepMemory(phases, largest(peaks)))
            reserves.append(allocator.usage.reserved_bytes)
    except SimulatedOutOfMemory as error:
        found = OutOfMemory(len(steps), phase, error.size_bytes, error.usage.reserved_bytes)
        return Scenario(steps[0] if steps else None, None, len(steps), False, allocator.retries, found)
    return Scenario(steps[0], steps[-1], len(steps), is_steady(reserves), allocator.retries, None)


def compose(trace: Trace, summit: Summit) -> Composition:
    """Return what is alive at the summit of a later step."""
    *before, step = itertools.islice(trace.steps(), SUMMIT_STEP)
    events = [event for parts in before for part in parts for event in part.events]
    events += [event for part in step for event in part.events][: summit.events]
    allocations = [trace.allocation(key) for key in _alive([*trace.setup, *events])]
    requested = sum(allocation.size_bytes for allocation in allocations)
    largest = sorted(allocations, key=lambda a: (-a.size_bytes, a.module, a.operator))[:TOP_TENSORS]
    return Composition(
        phase=summit.phase,
        requested_bytes=requested,
        rounding_bytes=summit.allocated_bytes - requested,
        categories=_sums((a.category, a.size_bytes) for a in allocations),
        modules=_sums((module_group(a.module), a.size_bytes) for a in allocations),
        tensors=tuple(LiveTensor(a.size_bytes, a.category, a.module, a.operator, a.shape, a.line) for a in largest),
    )


def module_group(path: str) -> str:
    """Return the part of the network that a module belongs to: a stage of the encoder, a component of the detector."""
    if not path:
        return "step"
    parts = path.split(".")
    # feature_extractor.model.backbone.layer3... and base_detector.temporal_enhance...
    return ".".join(parts[:4] if parts[0] == "feature_extractor" else parts[:2])


def _alive(events: Iterable[Event]) -> list[int]:
    alive: dict[int, None] = {}
    for event in events:
        if event.size_bytes:
            alive[event.key] = None
        else:
            del alive[event.key]
    return list(alive)


def _sums(items: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    sums: dict[Key, int] = {}
    for key, size_bytes in items:
        sums[key] = sums.get(key, 0) + size_bytes
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def largest(usages: Sequence[Usage]) -> Usage:
    """Return the largest of each."""
    return Usage(
        requested_bytes=max(usage.requested_bytes for usage in usages),
        allocated_bytes=max(usage.allocated_bytes for usage in usages),
        active_bytes=max(usage.active_bytes for usage in usages),
        reserved_bytes=max(usage.reserved_bytes for usage in usages),
        segments=max(usage.segments for usage in usages),
    )


def is_steady(reserves: Sequence[int]) -> bool:
    """Tell whether what was reserved after each step has stopped to change."""
    # The first step differs from the others, so it does not count.
    last = reserves[1:][-SAME_STEPS:]
    return len(last) == SAME_STEPS and len(set(last)) == 1
