"""The trace of a step: against executed steps, against torch's MemTracker, and against itself without shortcut."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch._C._profiler import _EventType
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode

from bench.predict import trace as tracing
from bench.predict.allocator import CachingAllocator, Event
from bench.predict.device_rules import cpu
from bench.predict.recorder import Category, Part, Recorder, Trace
from bench.predict.trace import trace_training
from bench.predict.value_free import value_free
from etad.config import Config
from etad.data.batch import Batch
from etad.models.etad import Etad
from etad.phases import Phase
from etad.sampling.proposals import dense_grid, proposal_count, sample_proposals
from etad.seeding import stream
from etad.step import TrainingStep
from etad.train import build_optimizer
from tests.bench.small_traces import VIDEOS, small, traced

STRATEGIES = ("sequential", "joint", "checkpointed", "frozen")
PRECISIONS = ("fp32", "bf16", "fp16")


def real_batch(config: Config) -> Batch:
    frames = config.data.frames
    shape = (VIDEOS, config.data.length, 3, frames.clip_frames, frames.crop, frames.crop)
    return Batch(
        video_ids=("a", "b"),
        indices=(0, 1),
        starts_s=(0.0, 0.0),
        durations_s=(1.0, 1.0),
        input_=torch.randint(0, 256, shape, dtype=torch.uint8),
        segments=(torch.tensor([[0.1, 0.6], [0.7, 0.9]]),) * VIDEOS,
        labels=(torch.tensor([0, 1]),) * VIDEOS,
    )


def streams(batch: Batch) -> Any:
    return lambda purpose: [stream("test", index, purpose) for index in batch.indices]


class NamePhases:
    """A listener that makes phases visible to the profiler."""

    def __init__(self) -> None:
        self._range: Any = None

    def begin(self, phase: Phase) -> None:
        self._range = record_function(f"phase {phase}")
        self._range.__enter__()

    def end(self, phase: Phase) -> None:
        self._range.__exit__(None, None, None)


class OperatorNames(TorchDispatchMode):
    """Collects the operators that a dispatch mode sees."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func._schema.name)
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Change:
    """One change of memory that the profiler saw, within some operators of a phase."""

    time_ns: int
    pointer: int
    size_bytes: int
    operators: frozenset[tuple[str, int]]
    phase: str | None


def changes_of(
    node: Any, operators: frozenset[tuple[str, int]], phase: str | None, names: frozenset[str]
) -> Iterator[Change]:
    if node.tag == _EventType.Allocation:
        yield Change(node.start_time_ns, node.extra_fields.ptr, node.extra_fields.alloc_size, operators, phase)
        return
    if node.name.startswith("phase "):
        phase = node.name.removeprefix("phase ")
    if node.name in names:
        operators |= {(node.name, node.start_time_ns)}
    for child in node.children:
        yield from changes_of(child, operators, phase, names)


def executed_peaks(config: Config) -> list[tuple[str, int]]:
    """Really take two steps on the CPU; return the phases and the peak of requested bytes in each.

    What an operator allocates and frees again while it runs is left out: scratch belongs to the CPU's kernels.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Etad(config, classes=2).train()
    optimizer = build_optimizer(model, config)
    # At its usual first scale the first steps overflow and are skipped.
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0, enabled=config.step.precision == "fp16")
    step = TrainingStep(model, optimizer, config, [NamePhases()], scaler=scaler)
    names = operator_names(config.step.precision, config.model.encoder.name)
    static = sum(tensor.untyped_storage().nbytes() for tensor in (*model.parameters(), *model.buffers()))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(2):
            batch = real_batch(config)
            step(batch, streams(batch))
            del batch
    assert profiler.profiler is not None
    tree = profiler.profiler.kineto_results.experimental_event_tree()
    changes = sorted((c for root in tree for c in changes_of(root, frozenset(), None, names)), key=lambda c: c.time_ns)
    current, peaks, last = static, list[tuple[str, int]](), None
    for change in without_scratch(changes):
        if change.phase != last:
            last = change.phase
            if last is not None:
                peaks.append((last, current))
        current += change.size_bytes
        if last is not None:
            peaks[-1] = (last, max(peaks[-1][1], current))
    return peaks


@functools.cache
def operator_names(precision: str, encoder: str) -> frozenset[str]:
    """The operators of a step; the strategy only changes how often they run."""
    config = small({"name": encoder}, snippets=2, precision=precision)
    model = Etad(config, classes=2).train()
    batch = real_batch(config)
    with OperatorNames() as seen:
        TrainingStep(model, build_optimizer(model, config), config)(batch, streams(batch))
    return frozenset(seen.names)


def without_scratch(changes: list[Change]) -> list[Change]:
    alive: dict[int, int] = {}
    scratch: set[int] = set()
    for number, change in enumerate(changes):
        if change.size_bytes > 0:
            alive[change.pointer] = number
        elif change.pointer in alive:
            begun = alive.pop(change.pointer)
            if changes[begun].operators & change.operators:
                scratch |= {begun, number}
    return [change for number, change in enumerate(changes) if number not in scratch]


def traced_peaks(trace: Trace) -> list[tuple[str, int]]:
    allocator = CachingAllocator()
    allocator.replay(trace.setup)
    peaks = []
    for part in (*trace.first, *trace.steady):
        allocator.reset_peak()
        allocator.replay(part.events)
        if part.phase is not None:
            peaks.append((str(part.phase), allocator.peak.requested_bytes))
    return peaks


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_predicted_and_executed_peaks_agree(strategy: str, precision: str) -> None:
    config = small(strategy=strategy, precision=precision)
    # Checkpointing keeps the host's random state with every call until its backward pass; on a GPU that is host memory.
    calls = config.data.length // config.step.chunk if strategy == "checkpointed" else 0
    random_state = calls * torch.get_rng_state().nbytes
    executed, predictions = executed_peaks(config), traced_peaks(traced(config, "cpu"))
    assert [phase for phase, _ in executed] == [phase for phase, _ in predictions]
    for (phase, really), (_, predicted) in zip(executed, predictions, strict=True):
        expected = really - (0 if phase == Phase.UPDATE_ENCODER else random_state)
        assert predicted == pytest.approx(expected, rel=0.01), phase
        # The encoder's phases, which decide what fits, agree far better.
        if phase in (Phase.ENCODE, Phase.BACKPROPAGATE):
            assert predicted == pytest.approx(expected, rel=0.0005), phase


def test_a_torchvision_encoder_with_recomputation_agrees() -> None:
    config = small({"name": "r2plus1d_18", "frozen_stages": 2, "checkpointing": True}, snippets=4)
    executed, predictions = executed_peaks(config), traced_peaks(traced(config, "cpu"))
    for (phase, really), (_, predicted) in zip(executed, predictions, strict=True):
        assert predicted == pytest.approx(really, rel=0.001), phase


@pytest.mark.parametrize("bias", [False, True])
def test_a_single_call_agrees_with_the_memory_tracker_to_the_byte(bias: bool) -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10)
        )

    with FakeTensorMode():
        model = build()
        tracker = MemTracker()
        tracker.track_external(model)
        with tracker:
            model(torch.ones(5, 3, 16, 16)).square().sum().backward()
        theirs = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]

    with FakeTensorMode():
        model = build()
        recorder = Recorder(cpu())
        for tensor in (*model.parameters(), *model.buffers()):
            recorder.adopt(tensor, Category.PARAMETER)
        with recorder:
            model(torch.ones(5, 3, 16, 16)).square().sum().backward()
        allocator = CachingAllocator()
        allocator.replay(recorder.events)
    assert allocator.peak.requested_bytes == theirs


@pytest.mark.parametrize(
    ("config", "device"),
    [
        (small(), "cuda"),
        (small(precision="bf16"), "cuda"),
        (small(precision="bf16"), "cpu"),
        (small(strategy="joint"), "cuda"),
        # Too few chunks to leave one out.
        (small(strategy="checkpointed", precision="bf16"), "cuda"),
        (small({"frozen_stages": 2}, snippets=10, strategy="checkpointed"), "cuda"),
        (small(snippets=13, strategy="checkpointed", precision="bf16"), "cuda"),
        (small(snippets=16, strategy="checkpointed", precision="fp16"), "cpu"),
        (small(strategy="frozen", precision="bf16"), "cuda"),
        # The last chunk is smaller than the others.
        (small(snippets=9, snippet_ratio=1.0), "cuda"),
        (small({"name": "r2plus1d_18", "frozen_stages": 2}), "cuda"),
        (small({"checkpointing": True}), "cpu"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.step.strategy}-{value.step.precision}",
)
def test_tracing_equal_chunks_once_changes_nothing(config: Config, device: Any) -> None:
    full, short = traced(config, device, shortcut=False), traced(config, device)
    assert timeline(full) == timeline(short)
    if config.step.strategy != "checkpointed" or config.data.length >= 5 * config.step.chunk:
        assert short.operators < full.operators


@pytest.mark.parametrize("strategy", ["sequential", "checkpointed"])
def test_calls_whose_backward_pass_leaves_something_are_not_repeated(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Collecting(Etad):
        """Its encoder keeps every gradient that arrives."""

        def __init__(self, config: Config, classes: int) -> None:
            super().__init__(config, classes)
            assert self.feature_extractor is not None
            self.gradients: list[torch.Tensor] = []
            self.feature_extractor.register_forward_hook(self._collect)

        def _collect(self, _: nn.Module, args: Any, output: torch.Tensor) -> None:
            if output.requires_grad:
                output.register_hook(lambda gradient: self.gradients.append(gradient.clone()))

    monkeypatch.setattr(tracing, "Etad", Collecting)
    config = small(snippets=12, strategy=strategy, snippet_ratio=1.0)
    full, short = (trace_training(config, classes=2, shortcut=shortcut) for shortcut in (False, True))
    assert timeline(full) == timeline(short)


def timeline(trace: Trace) -> list[Any]:
    """Return every allocation and end in order, whatever the keys: size, category, module, and age at the end."""
    born: dict[int, int] = {}
    result: list[Any] = []
    for part in (Part(None, trace.setup), *trace.first, *trace.steady):
        result.append(part.phase)
        for event in part.events:
            allocation = trace.allocations[event.key]
            if event.size_bytes:
                born[event.key] = len(result)
                result.append((event.size_bytes, allocation.category, allocation.module))
            else:
                result.append(len(result) - born.pop(event.key))
    return result


def test_a_trace_is_the_same_every_time() -> None:
    assert timeline(trace_training(small(), classes=2)) == timeline(traced(small(), "cpu"))


def alive(trace: Trace, parts: list[tuple[Event, ...]]) -> dict[Category, int]:
    held: dict[int, int] = {}
    for events in parts:
        for event in events:
            if event.size_bytes:
                held[event.key] = event.size_bytes
            else:
                del held[event.key]
    sums: dict[Category, int] = {}
    for key, size_bytes in held.items():
        category = trace.allocations[key].category
        sums[category] = sums.get(category, 0) + size_bytes
    return sums


def test_between_steps_there_are_parameters_and_optimizer_state_only() -> None:
    config = small(strategy="sequential")
    trace = traced(config)
    model = Etad(config, classes=2)
    static = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    after_first = alive(trace, [trace.setup, *(part.events for part in trace.first)])
    # AdamW keeps two moments; counters lie on the host.
    assert after_first == {Category.PARAMETER: static, Category.OPTIMIZER_STATE: 2 * trained}
    after_second = alive(trace, [trace.setup, *(part.events for part in (*trace.first, *trace.steady))])
    assert after_second == after_first


def test_gradients_are_known_as_such_when_the_optimizer_begins() -> None:
    config = small(strategy="joint")
    trace = traced(config, "cpu")
    # Nothing after the encoder's backward pass but its update, and what follows it.
    number = next(n for n, part in enumerate(trace.first) if part.phase is Phase.UPDATE_ENCODER)
    before = [trace.setup, *(part.events for part in trace.first[:number])]
    encoder = Etad(config, classes=2).feature_extractor
    assert encoder is not None
    assert alive(trace, before)[Category.GRADIENT] == sum(p.nbytes for p in encoder.parameters())


def test_activations_are_known_by_module() -> None:
    trace = traced(small(strategy="joint"), "cpu")
    encoder = [a for a in trace.allocations if a.category is Category.ACTIVATION and "backbone" in a.module]
    assert max(encoder, key=lambda a: a.size_bytes).module == "feature_extractor.model.backbone.0.0"


@pytest.mark.parametrize("sampler", ["random", "grid", "block", "fps", "label_guided"])
@pytest.mark.parametrize("ratio", [0.06, 0.37, 1.0])
def test_replaced_samplers_draw_as_many(sampler: Any, ratio: float) -> None:
    config = small(proposal_sampler=sampler, proposal_ratio=ratio, snippet_sampler="dpp", snippets=32)
    grid = dense_grid(config.data.length)
    drawn = sample_proposals(grid, config.data.length, sampler, ratio, [torch.Generator()], [torch.rand(2, 2)])
    assert proposal_count(config) == drawn.shape[1]
    assert proposal_count(value_free(config)) == drawn.shape[1]
    assert value_free(config).step.snippet_sampler == "random"
