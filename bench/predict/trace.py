"""The real training step on fake tensors, and every allocation that it makes.

Fake tensors (``FakeTensorMode``) have shapes, dtypes and storages but no memory and no values, so a step of the
full-size model runs in seconds on any machine, and the recorder (recorder.py) sees its allocations. Which phase runs is
told by the step itself (it announces its phases to listeners), which module by hooks.

Draws: the step runs on fake tensors with its real generators, but samplers that look at values cannot run. They are
replaced by ``random`` with the same number of proposals or snippets, on which alone the memory depends
(value_free.py). A draw whose values are asked for is the first so many.

Forms that change no number are traced as configured, but for ``compile`` and ``cuda_graphs``: what a compiler makes of
the step, or a graph keeps, is not predicted.
"""

import atexit
import functools
import gc
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.batches import CLASSES, fake_batch
from bench.predict.allocator import Event
from bench.predict.device_rules import Rules, cpu
from bench.predict.recorder import INFERENCE, Category, Part, Recorder, Trace
from bench.predict.repetition import NotRepeatableError, RepeatedForward
from bench.predict.value_free import value_free, with_chosen_form
from bench.torch_internals.dispatch import (
    SteppingScaler,
)
from bench.torch_internals.fake_mode import fake_mode
from bench.torch_internals.probe import probe
from etad.config import Config
from etad.data.batch import Batch
from etad.infer import Detecting
from etad.models.etad import Etad
from etad.offload.gradients import GradientSums
from etad.offload.optimizers import StoredAdam
from etad.offload.placement import Placement
from etad.phases import Phase
from etad.sampling.proposals import dense_grid, proposal_count
from etad.sampling.snippets import DRAWN_BY_FEATURES
from etad.seeding import stream
from etad.step import TrainingStep
from etad.train import build_optimizer


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
        """See etad.phases.Listener."""
        self._cut(None)
        self._recorder.phase = (phase, self._recorder.phase[1] + 1)
        if phase in (Phase.UPDATE_DETECTOR, Phase.UPDATE_ENCODER):
            self._recorder.label((p.grad for p in self._model.parameters()), Category.GRADIENT)
            if self.sums is not None:
                self._recorder.label(self.sums.sums.values(), Category.GRADIENT)

    def end(self, phase: Phase) -> None:
        """See etad.phases.Listener."""
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


def trace_training(config: Config, classes: int = CLASSES, rules: Rules | None = None, shortcut: bool = True) -> Trace:
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
    # The traced sampler reads no features, but memory is that of the configured one.
    late = config.step.snippet_sampler in DRAWN_BY_FEATURES
    scaler = SteppingScaler("cpu") if config.step.precision == "fp16" else None
    step = TrainingStep(
        model, optimizer, session.config, [phases], placement=session.placement, draws_late=late, scaler=scaler
    )
    phases.sums = step.encoding.gradient_sums

    def take_step() -> tuple[Part, ...]:
        batch = session.batch()
        step(batch, _streams(batch))
        del batch
        return phases.take()

    setup = _only_events(phases.take())
    with session.running():
        return session.trace(setup, take_step(), take_step())


def trace_inference(config: Config, classes: int = CLASSES, rules: Rules | None = None, shortcut: bool = True) -> Trace:
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
