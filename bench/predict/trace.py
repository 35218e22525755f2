"""The real training step on fake tensors, and every allocation that it makes.

Fake tensors (``FakeTensorMode``) have shapes, dtypes and storages but no memory and no values, so a step of the
full-size model runs in seconds on any machine. A dispatch mode sees every operator; a storage that it has not seen
before is an allocation, and a weak reference tells of its end. Which phase runs is told by the step itself (it
announces its phases to listeners), which module by hooks, and what an allocation is for by who holds it:

    parameter        parameters and buffers of the model
    gradient         what the parameters' ``grad`` holds when the optimizer begins
    optimizer_state  what the optimizer's state holds after its step
    input            the batch
    activation       what the forward pass made and a backward pass finds still there
    workspace        everything else: intermediate results, and scratch of the libraries
    host             lies in the host's memory in a real run (counters of the optimizer, random draws, what
                     ``efficiency`` keeps there)

Draws: the step runs on fake tensors with its real generators, but samplers that look at values cannot run. They are
replaced by ``random`` with the same number of proposals or snippets, on which alone the memory depends. A draw whose
values are asked for is the first so many.

Forms that change no number are traced as configured, but for ``compile`` and ``cuda_graphs``: what a compiler makes of
the step, or a graph keeps, is not predicted.
"""

import atexit
import functools
import gc
import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.predict.allocator import Event
from bench.predict.device_rules import Rules, Scratch, cpu
from bench.predict.private_api import (
    SteppingScaler,
    TorchDispatchMode,
    adds_in_place,
    asks_for_device,
    device_of,
    fake_mode,
    is_composite,
    probe,
    reads_a_value,
    storage_id,
)
from bench.predict.repetition import NotRepeatableError, RepeatedForward
from etad.config import Config
from etad.data.batch import Batch
from etad.gradients import GradientSums
from etad.infer import Detecting
from etad.models.etad import Etad
from etad.models.roi_align import choose_form
from etad.optimizers import StoredAdam
from etad.placement import Placement
from etad.proposals import dense_grid, sample_proposals
from etad.seeding import stream
from etad.step import DRAWN_BY_FEATURES, Phase, TrainingStep
from etad.train import build_optimizer

aten = torch.ops.aten

INFERENCE = "inference"
"""The one phase of a pass without training."""


class Category(StrEnum):
    """What an allocation is for; see the module's text."""

    PARAMETER = "parameter"
    GRADIENT = "gradient"
    OPTIMIZER_STATE = "optimizer_state"
    INPUT = "input"
    ACTIVATION = "activation"
    WORKSPACE = "workspace"
    HOST = "host"


@dataclass
class Allocation:
    """One allocation. Its category is settled later than its size.

    Attributes:
        size_bytes: bytes asked for.
        category: what it is for.
        module: path of the module that ran, forward or backward; "" outside any.
        operator: what made it, e.g. "aten.convolution.default".
        shape: of the tensor that was made, for the reader.
        uncertain: a bound on scratch whose size cannot be known here; a prediction is made with and without.
    """

    size_bytes: int
    category: Category
    module: str
    operator: str
    shape: tuple[int, ...]
    uncertain: bool = False


@dataclass(frozen=True)
class Part:
    """The events of one phase (of a step, or ``INFERENCE``); ``phase`` is None before, between and after phases."""

    phase: str | None
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Trace:
    """What a run allocates.

    Attributes:
        allocations: by key of the events.
        setup: the parameters.
        first: the first step, in which the optimizer makes its state.
        steady: any later step.
        operators: number of operators that were traced.
        device: the rules it was made with.
        videos: batch size.
    """

    allocations: Sequence[Allocation]
    setup: tuple[Event, ...]
    first: tuple[Part, ...]
    steady: tuple[Part, ...]
    operators: int
    device: str
    videos: int

    def steps(self) -> Iterator[tuple[Part, ...]]:
        """Yield the first step, the steady one, and that again and again.

        A tensor that lives on after its step, as one that a model keeps for the next, is another one in every step.
        What a step ends of an earlier one is taken to be replaced by what it leaves that is alike. What it leaves
        besides is left by every step; what it ends besides is ended by the steady step alone. ``allocation`` knows the
        new keys.
        """
        yield self.first
        yield self.steady
        events = [event for part in self.steady for event in part.events]
        begun = dict.fromkeys(event.key for event in events if event.size_bytes)
        ended = dict.fromkeys(event.key for event in events if not event.size_bytes)
        left, taken = [key for key in begun if key not in ended], [key for key in ended if key not in begun]
        replaced_by: dict[int, int] = {}
        for key in taken:
            alike = [new for new in left if new not in replaced_by.values() and self._are_alike(key, new)]
            if alike:
                replaced_by[key] = alike[0]
        now = {key: key for key in left}
        while True:
            before, now = now, {key: name + len(self.allocations) for key, name in now.items()}
            # None: nothing is there to be ended any more.
            names = now | {key: before.get(replaced_by.get(key, -1)) for key in taken}
            yield tuple(_renamed_events(part, names) for part in self.steady) if names else self.steady

    def allocation(self, key: int) -> Allocation:
        """Return the allocation that an event of ``steps`` is about."""
        return self.allocations[key % len(self.allocations)]

    def _are_alike(self, one: int, other: int) -> bool:
        one_, other_ = self.allocations[one], self.allocations[other]
        return replace(one_, category=other_.category) == other_

    def keeping(self, wanted: Callable[[Allocation], bool]) -> "Trace":
        """Return the trace without the allocations that are not wanted."""

        def of_events(events: tuple[Event, ...]) -> tuple[Event, ...]:
            return tuple(event for event in events if wanted(self.allocations[event.key]))

        def of_parts(parts: tuple[Part, ...]) -> tuple[Part, ...]:
            return tuple(Part(part.phase, of_events(part.events)) for part in parts)

        return replace(self, setup=of_events(self.setup), first=of_parts(self.first), steady=of_parts(self.steady))


def _renamed_events(part: Part, names: Mapping[int, int | None]) -> Part:
    named = ((names.get(event.key, event.key), event) for event in part.events)
    return Part(part.phase, tuple(event._replace(key=name) for name, event in named if name is not None))


class Recorder(TorchDispatchMode):
    """Writes down allocations and their ends, of fake and of real tensors alike.

    Args:
        rules: how the device differs from what runs.

    Attributes:
        allocations: by key. Repeated ones share one entry.
        events: in order.
        phase: the phase of the step, told by ``PhaseEvents``; with the number of phases so far, so that it is unique.
        in_backward: whether a backward pass is running.
        backward_passes: number of those that ended.
        backward_ended_at: number of events when the last one ended.
        operators: number of operators seen.
        is_paused: whether nothing that is made is noted.
    """

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.allocations: list[Allocation] = []
        self.events: list[Event] = []
        self.phase: tuple[Phase | None, int] = (None, 0)
        self.in_backward = False
        self.backward_passes = 0
        self.backward_ended_at = 0
        self.operators = 0
        self.is_paused = False
        self._default = Category.WORKSPACE
        self._rules = rules
        self._modules: list[str] = []
        self._recomputing: TorchFunctionMode | None = None
        self._backward_module = ""
        self._keys: dict[int, int] = {}
        self._references: dict[int, weakref.ref[Any]] = {}
        self._kept: set[tuple[bool, str]] = set()
        """Scratch that has stayed, by the pass (backward or not) whose thread has it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and note the storages it made."""
        kwargs = kwargs or {}
        if asks_for_device(func):
            # Half of all calls: autograd asks for every gradient. Answered at once, they cost next to nothing.
            return device_of(args[0])
        if reads_a_value(func):
            # A made-up value: it may scale a number, but nothing that decides about memory depends on one. While a
            # model is built it answers "is any out of range?", so that drawing again ends.
            value = 0 if self.is_paused else 1
            return float(value) if args[0].is_floating_point() else value
        if torch.is_inference_mode_enabled() and is_composite(func):
            # What it makes on the way is to be seen, too.
            with self:
                return func.decompose(*args, **kwargs)
        if self.in_backward and adds_in_place(func, args):
            # As with the true tensors of a GPU run, no sum takes memory of its own.
            func = aten.add_.Tensor
        result = self._rules.layout(func, args, func(*args, **kwargs))
        if self.is_paused:
            return result
        self.operators += 1
        category = self._default if kwargs.get("generator") is None else Category.HOST
        true_bytes = self._rules.outputs(func, args)
        scratch = [one for one in self._rules.scratch(func, args, result) if one.size_bytes]
        first = [self._note_scratch(one, func) for one in scratch if one.is_first]
        for number, tensor in enumerate(_tensors(result)):
            self._note(tensor, category, func, true_bytes.get(number))
        for key in first:
            self.end(key)
        for one in scratch:
            if one.kept_as and (self.in_backward, one.kept_as) not in self._kept:
                self._kept.add((self.in_backward, one.kept_as))
                self._note_scratch(one, func)
            elif not one.is_first and not one.kept_as:
                self.end(self._note_scratch(one, func))
        return result

    @contextmanager
    def allocating(self, category: Category) -> Iterator[None]:
        """Give what is allocated inside a category."""
        before, self._default = self._default, category
        yield
        self._default = before

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Note nothing inside."""
        before, self.is_paused = self.is_paused, True
        yield
        self.is_paused = before

    @contextmanager
    def backward(self) -> Iterator[None]:
        """Around a backward pass: what the forward pass left alive is its activations."""
        for key in self._keys.values():
            allocation = self.allocations[key]
            if allocation.category is Category.WORKSPACE:
                allocation.category = Category.ACTIVATION
        self.in_backward = True
        yield
        self.in_backward = False
        self.backward_passes += 1
        self.backward_ended_at = len(self.events)
        self._backward_module = ""

    def adopt(self, tensor: Tensor, category: Category, module: str = "") -> None:
        """Note a tensor that exists already."""
        self._modules.append(module)
        self._note(tensor, category, "setup")
        self._modules.pop()

    def merge(self, tensors: Iterable[Tensor], module: str) -> None:
        """Note that parameters, which exist already and stay, move into one allocation."""
        held = {storage_id(tensor): tensor for tensor in tensors}
        size_bytes = sum(tensor.untyped_storage().nbytes() for tensor in held.values())
        self._append(Allocation(size_bytes, Category.PARAMETER, module, "setup", (len(held),)))
        key = len(self.allocations) - 1
        for identity, tensor in held.items():
            self.end_early(tensor)
            self._keys[identity] = key

    def label(self, tensors: Iterable[Tensor | None], category: Category) -> None:
        """Settle what the storages of ``tensors`` are for, unless they lie on the host."""
        for tensor in tensors:
            if tensor is not None and not self.is_on_host(tensor):
                key = self._keys.get(storage_id(tensor))
                if key is not None:
                    self.allocations[key].category = category

    def is_on_host(self, tensor: Tensor) -> bool:
        """Tell whether a tensor's storage lies in the host's memory in a real run."""
        key = self._keys.get(storage_id(tensor))
        return key is not None and self.allocations[key].category is Category.HOST

    def key_of(self, tensor: Tensor) -> int | None:
        """Return the key of a tensor's storage; None if it was not noted."""
        return self._keys.get(storage_id(tensor))

    def repeat(self, key: int) -> int:
        """Note an allocation like that of ``key``; return its key. It ends with ``end``."""
        self.allocations.append(self.allocations[key])
        self.events.append(Event(len(self.allocations) - 1, self.allocations[key].size_bytes))
        return len(self.allocations) - 1

    def attach(self, tensor: Tensor, key: int) -> None:
        """Let the allocation ``key``, which ``repeat`` noted, end with ``tensor``'s storage."""
        storage = tensor.untyped_storage()
        identity = storage_id(tensor)
        self._keys[identity] = key
        self._references[identity] = weakref.ref(storage, lambda _: self._end(identity))

    def end(self, key: int) -> None:
        """Note the end of an allocation that no tensor stands for."""
        self.events.append(Event(key, 0))

    def end_early(self, tensor: Tensor) -> None:
        """Note the end of a tensor now, though Python holds it a little longer."""
        identity = storage_id(tensor)
        self._references.pop(identity)
        self.events.append(Event(self._keys.pop(identity), 0))

    def follow_modules(self, root: nn.Module) -> None:
        """Register hooks that tell which of ``root``'s modules is running, in forward and in backward passes."""
        for name, module in root.named_modules():
            module.register_forward_pre_hook(lambda _, args, name=name: self._enter(name))
            module.register_forward_hook(lambda _, args, out, name=name: self._leave(name, out), always_call=True)

    def _enter(self, name: str) -> None:
        if self.in_backward and not self._modules and self._rules.functions is not None:
            # Something is recomputed: autograd's engine runs it without the modes of the backward pass's caller.
            self._recomputing = self._rules.functions()
            self._recomputing.__enter__()
        self._modules.append(name)

    def _leave(self, name: str, output: Any) -> None:
        self._modules.pop()
        if self._recomputing is not None and not self._modules:
            self._recomputing.__exit__(None, None, None)
            self._recomputing = None
        for tensor in _tensors(output):
            if tensor.grad_fn is not None:
                tensor.grad_fn.register_prehook(lambda _, name=name: self._enter_backward(name))

    def _enter_backward(self, name: str) -> None:
        self._backward_module = name

    def _note(self, tensor: Tensor, category: Category, operator: Any, size_bytes: int | None = None) -> None:
        identity = storage_id(tensor)
        if identity in self._keys:
            return
        if size_bytes is None:
            size_bytes = tensor.untyped_storage().nbytes()
        if size_bytes:
            self._append(Allocation(size_bytes, category, self._module, str(operator), tuple(tensor.shape)))
            self.attach(tensor, len(self.allocations) - 1)

    def _note_scratch(self, scratch: Scratch, operator: Any) -> int:
        name, shape = f"scratch of {operator}", (scratch.size_bytes,)
        self._append(Allocation(scratch.size_bytes, Category.WORKSPACE, self._module, name, shape, scratch.uncertain))
        return len(self.allocations) - 1

    def _append(self, allocation: Allocation) -> None:
        self.events.append(Event(len(self.allocations), allocation.size_bytes))
        self.allocations.append(allocation)

    @property
    def _module(self) -> str:
        return self._modules[-1] if self._modules else self._backward_module

    def _end(self, identity: int) -> None:
        # A reference that end_early dropped is not called any more.
        del self._references[identity]
        self.events.append(Event(self._keys.pop(identity), 0))


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple | list):
        for item in result:
            yield from _tensors(item)
    elif isinstance(result, dict):
        yield from _tensors(list(result.values()))


class TracedPlacement(Placement):
    """Stands for two memories, although fake tensors all seem to lie in one: what lies on the host is so labelled."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(torch.device("cpu"))
        self._recorder = recorder

    def empty_on_host(self, like: Tensor, rows: int | None = None) -> Tensor:
        """See etad.placement."""
        with self._recorder.allocating(Category.HOST):
            return super().empty_on_host(like, rows)

    def to_host(self, tensor: Tensor) -> Tensor:
        """See etad.placement."""
        return tensor if self.is_away(tensor) else self.empty_on_host(tensor).copy_(tensor)

    def to_device(self, tensor: Tensor) -> Tensor:
        """See etad.placement."""
        return self.empty_on_device(tensor).copy_(tensor) if self.is_away(tensor) else tensor

    def is_away(self, tensor: Tensor) -> bool:
        """See etad.placement."""
        return self._recorder.is_on_host(tensor)


class _Calls(TorchFunctionMode):
    """Tells the recorder when a backward pass begins and ends; gives the values that numpy asks for.

    They are zeros; of integers, which are draws, 0, 1, 2 ... along the last dimension.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.backward:
            with self._recorder.backward():
                return torch.autograd.backward(args[0], *args[1:], **_renamed(kwargs))
        if func is torch.Tensor.numpy:
            shape = tuple(args[0].shape)
            if args[0].dtype == torch.int64:
                return np.broadcast_to(np.arange(shape[-1]), shape)
            return np.zeros(shape, np.float32)
        return func(*args, **kwargs)


def _renamed(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Turn arguments of ``Tensor.backward`` into those of ``torch.autograd.backward``."""
    return {"grad_tensors" if name == "gradient" else name: value for name, value in kwargs.items()}


class PhaseEvents:
    """A step's listener: cuts the recorder's events into phases.

    Attributes:
        sums: gradients that are not in ``grad`` of the parameters.
    """

    def __init__(self, recorder: Recorder, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._recorder, self._model, self._optimizer = recorder, model, optimizer
        self.sums: GradientSums | None = None
        self._parts: list[Part] = []
        self._from = 0

    def begin(self, phase: Phase) -> None:
        """See etad.step.Listener."""
        self._cut(None)
        self._recorder.phase = (phase, self._recorder.phase[1] + 1)
        if phase in (Phase.UPDATE_DETECTOR, Phase.UPDATE_ENCODER):
            self._recorder.label((p.grad for p in self._model.parameters()), Category.GRADIENT)
            if self.sums is not None:
                self._recorder.label(self.sums.sums.values(), Category.GRADIENT)

    def end(self, phase: Phase) -> None:
        """See etad.step.Listener."""
        if phase in (Phase.UPDATE_DETECTOR, Phase.UPDATE_ENCODER):
            for state in self._optimizer.state.values():
                held = {name: value for name, value in state.items() if isinstance(value, Tensor)}
                if self._steps_on_host:
                    self._recorder.label([held.pop("step", None)], Category.HOST)
                self._recorder.label(held.values(), Category.OPTIMIZER_STATE)
        self._cut(phase)

    @property
    def _steps_on_host(self) -> bool:
        # Only a kernel that does the whole update has the step counters on the device.
        fused = self._optimizer.param_groups[0].get("fused")
        return not fused and not isinstance(self._optimizer, StoredAdam)

    def take(self) -> tuple[Part, ...]:
        """Return the parts since the last call."""
        self._cut(None)
        parts, self._parts = tuple(self._parts), []
        return parts

    def _cut(self, phase: Phase | None) -> None:
        events = _with_ends_in_order(self._recorder.events[self._from :])
        self._from = len(self._recorder.events)
        if events or phase is not None:
            self._parts.append(Part(phase, events))


def trace_training(config: Config, classes: int = 200, rules: Rules | None = None, shortcut: bool = True) -> Trace:
    """Trace the first and a later training step of an experiment.

    Args:
        config: the experiment. Neither data nor weight files are needed.
        classes: number of classes, which only the snippet classifier uses.
        rules: the device; None: the CPU.
        shortcut: trace identical encoder calls once (see repetition.py). The events are the same without, only slower.
    """
    if shortcut:
        with suppress(NotRepeatableError):
            return _trace_training(config, classes, rules, shortcut=True)
    return _trace_training(config, classes, rules, shortcut=False)


def _trace_training(config: Config, classes: int, rules: Rules | None, shortcut: bool) -> Trace:
    traced = with_chosen_form(value_free(config), rules or cpu(), proposal_count(config))
    session = _Session(traced, classes, rules or cpu(), shortcut)
    model, recorder = session.model.train(), session.recorder
    optimizer = build_optimizer(model, config, session.placement)
    if config.efficiency.optimizer == "published":
        for group in optimizer.param_groups:
            group["foreach"] = session.rules.foreach
    phases = PhaseEvents(recorder, model, optimizer)
    step = TrainingStep(model, optimizer, session.config, [phases], placement=session.placement)
    step.keeps_every_snippet = config.step.snippet_sampler in DRAWN_BY_FEATURES
    phases.sums = step.gradient_sums
    if step.scaler.is_enabled():
        step.scaler = SteppingScaler("cpu")

    def take_step() -> tuple[Part, ...]:
        batch = session.batch()
        step(batch, _streams(batch))
        del batch
        return phases.take()

    setup = _only_events(phases.take())
    with session.running():
        return session.trace(setup, take_step(), take_step())


def trace_inference(config: Config, classes: int = 200, rules: Rules | None = None, shortcut: bool = True) -> Trace:
    """Trace the detection of one batch, which judges all proposals. Arguments are those of ``trace_training``."""
    proposals = len(dense_grid(config.data.length, config.model.detector.max_duration))
    traced = with_chosen_form(value_free(config), rules or cpu(), proposals)
    session = _Session(traced, classes, rules or cpu(), shortcut)
    recorder = session.recorder
    detecting = Detecting(session.model, session.config, placement=session.placement)
    setup = tuple(recorder.events)

    def detect() -> tuple[Part, ...]:
        begin = len(recorder.events)
        batch = session.batch()
        detecting(batch)
        del batch
        return (Part(INFERENCE, _with_ends_in_order(recorder.events[begin:])),)

    with session.running():
        return session.trace(setup, detect(), detect())


class _Session:
    """A model of fake tensors whose every use is recorded."""

    def __init__(self, config: Config, classes: int, rules: Rules, shortcut: bool) -> None:
        probe()
        self.config, self.rules = config, rules
        self.recorder = Recorder(rules)
        cpu_alone = rules.host_memory
        self.placement = Placement(torch.device("cpu")) if cpu_alone else TracedPlacement(self.recorder)
        self._fake = fake_mode()
        # Some encoders read values while they are built; the recorder answers.
        with self._fake, self.recorder, self.recorder.paused():
            self.model = Etad(config, classes)
        for name, module in _in_order_of_transfer(self.model):
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                self.recorder.adopt(tensor, Category.PARAMETER, name)
            if rules.flat_lstm and isinstance(module, nn.LSTM):
                self.recorder.merge(module.parameters(), name)
        self.recorder.follow_modules(self.model)
        if shortcut and self.model.feature_extractor is not None:
            in_one_pass = config.data.length // config.step.chunk if config.step.strategy == "checkpointed" else 0
            RepeatedForward.install(self.model.feature_extractor, self.recorder, in_one_pass)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record what runs inside."""
        with ExitStack() as modes, _without_garbage_collection():
            modes.enter_context(self._fake)
            modes.enter_context(self.recorder)
            modes.enter_context(_Calls(self.recorder))
            if self.rules.functions is not None:
                modes.enter_context(self.rules.functions())
            yield

    def batch(self) -> Batch:
        """Return a batch, where the experiment wants its frames."""
        with self.recorder.allocating(Category.INPUT):
            batch = fake_batch(self.config)
        if self.config.efficiency.frames_on == "host" and self.config.data.input == "frames":
            self.recorder.label([batch.input_], Category.HOST)
        return batch

    def trace(self, setup: tuple[Event, ...], first: tuple[Part, ...], steady: tuple[Part, ...]) -> Trace:
        """Return what was recorded."""
        videos = self.config.train.batch
        recorder = self.recorder
        trace = Trace(recorder.allocations, setup, first, steady, recorder.operators, self.rules.name, videos)
        if self.rules.host_memory:
            return trace
        return trace.keeping(lambda allocation: allocation.category is not Category.HOST)


def value_free(config: Config) -> Config:
    """Return the experiment with the same memory, but with samplers that need no values, and no weight file.

    Nor is it compiled, which fake tensors cannot be.
    """
    proposals = proposal_count(config)
    total = len(dense_grid(config.data.length, config.model.detector.max_duration))
    step = config.step.model_copy(
        update={
            "proposal_sampler": "random",
            # Half a proposal more, so that rounding down gives the number again.
            "proposal_ratio": 1.0 if proposals == total else (proposals + 0.5) / total,
            "snippet_sampler": "random",
        }
    )
    encoder = config.model.encoder.model_copy(update={"weights": None})
    model = config.model.model_copy(update={"encoder": encoder})
    efficiency = config.efficiency.model_copy(update={"compile": False, "cuda_graphs": False})
    return config.model_copy(update={"step": step, "model": model, "efficiency": efficiency})


def with_chosen_form(config: Config, rules: Rules, proposals: int) -> Config:
    """Return the experiment with the form of RoIAlign that ``auto`` takes on the device, not on the tracing CPU."""
    device_type = "cpu" if rules.name == "cpu" else "cuda"
    form = choose_form(config.efficiency.roi_align, device_type, proposals, config.data.length)
    return config.model_copy(update={"efficiency": config.efficiency.model_copy(update={"roi_align": form})})


def proposal_count(config: Config) -> int:
    """Return how many proposals per video a training step draws."""
    grid = dense_grid(config.data.length, config.model.detector.max_duration)
    # grid and block round the number their own way, and are cheap to ask; the others draw as many as random does.
    name = config.step.proposal_sampler if config.step.proposal_sampler in ("grid", "block") else "random"
    generator = [torch.Generator()]
    return sample_proposals(grid, config.data.length, name, config.step.proposal_ratio, generator).shape[-1]


ACTIONS_PER_VIDEO = 2
"""ActivityNet has 1.5 on average; each takes some bytes."""


def fake_batch(config: Config) -> Batch:
    """Return a batch of the configured size; call it under the modes."""
    videos, data = config.train.batch, config.data
    frames = data.frames
    if data.input == "frames":
        shape = (videos, data.length, 3, frames.clip_frames, frames.crop, frames.crop)
        input_ = torch.empty(shape, dtype=torch.uint8)
    else:
        input_ = torch.empty(videos, data.channels, data.length)
    return Batch(
        video_ids=("",) * videos,
        indices=tuple(range(videos)),
        starts_s=(0.0,) * videos,
        durations_s=(1.0,) * videos,
        input_=input_,
        segments=tuple(torch.zeros(ACTIONS_PER_VIDEO, 2) for _ in range(videos)),
        labels=tuple(torch.zeros(ACTIONS_PER_VIDEO, dtype=torch.int64) for _ in range(videos)),
    )


def _only_events(parts: Iterable[Part]) -> tuple[Event, ...]:
    return tuple(event for part in parts for event in part.events)


def _streams(batch: Batch) -> Callable[[str], list[torch.Generator]]:
    return lambda purpose: [stream("trace", index, purpose) for index in batch.indices]


def _in_order_of_transfer(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield modules as ``nn.Module.to`` moves them: children first."""
    for name, child in model.named_children():
        yield from _in_order_of_transfer(child, f"{prefix}{name}.")
    yield prefix.removesuffix("."), model


def _with_ends_in_order(events: Sequence[Event]) -> tuple[Event, ...]:
    """Sort every run of ends by key.

    Tensors that die together die in the order of their addresses (autocast's cache of weights is a hash map), which
    changes from run to run. An allocator is in the same state after a run of ends, whatever their order.
    """
    runs = itertools.groupby(events, lambda event: event.size_bytes == 0)
    return tuple(event for is_end, run in runs for event in (sorted(run) if is_end else run))


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep Python's collector of cycles out: when it runs depends on everything else that the process did."""
    _set_aside_what_exists()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@functools.cache
def _set_aside_what_exists() -> None:
    """Let the collector look at what is made from now on only.

    What exists before the first trace is mostly torch's own modules, which live as long as the process. To go through
    them again and again took a sixth of the time of a search.
    """
    gc.freeze()
    # What is left over when the process ends counts as leaked in some extension modules.
    atexit.register(gc.unfreeze)
