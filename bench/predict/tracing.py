"""A program on fake tensors, and every allocation that it makes: what the traces of all programs have in common.

Fake tensors (``FakeTensorMode``) have shapes, dtypes and storages but no memory and no values, so a step of a full-size
model runs in seconds on any machine, and the recorder (recorder.py) sees its allocations. A program is a function that
builds a model in a session and returns the callable that runs one step. ETAD's is in trace.py; step.py takes anybody's.
"""

import atexit
import functools
import gc
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from bench.predict.allocator import Event
from bench.predict.device_rules import Rules
from bench.predict.recorder import Category, Part, Recorder, Trace
from bench.torch_internals.fake_mode import fake_mode
from bench.torch_internals.probe import probe

Program = Callable[["Session"], Callable[[], object]]
"""Builds a model, and what a step needs besides; returns the callable that runs one step."""


def trace_program(program: Program, rules: Rules, videos: int, recorder: Recorder | None = None) -> Trace:
    """Trace the first and a later step of a program.

    Args:
        program: what to trace.
        rules: the device.
        videos: batch size, which only the trace's reader needs.
        recorder: writes down what happens; None: one without more.
    """
    session = Session(rules, recorder or Recorder(rules))
    step = program(session)
    setup = tuple(event for part in session.phases.take() for event in part.events)

    def take_step() -> tuple[Part, ...]:
        step()
        return session.phases.take()

    with session.running():
        return session.trace(setup, take_step(), take_step(), videos)


class Session:
    """Where a program runs: fake tensors whose every use is recorded.

    Attributes:
        rules: of the device.
        recorder: writes down what happens.
        phases: cuts it into phases.
        more_modes: make modes of the program's own, which begin after all others.
    """

    def __init__(self, rules: Rules, recorder: Recorder) -> None:
        probe()
        self.rules, self.recorder = rules, recorder
        self.phases = Phases(recorder)
        self.more_modes: list[Callable[[], AbstractContextManager[object]]] = []
        self._fake = fake_mode()

    @contextmanager
    def building(self) -> Iterator[None]:
        """Build what is inside of fake tensors, and note nothing of it.

        Some networks read values while they are built; the recorder answers.
        """
        with self._fake, self.recorder, self.recorder.paused():
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record what runs inside."""
        with ExitStack() as modes, without_garbage_collection():
            modes.enter_context(self._fake)
            modes.enter_context(self.recorder)
            modes.enter_context(_Calls(self.recorder))
            if self.rules.functions is not None:
                modes.enter_context(self.rules.functions())
            for mode in self.more_modes:
                modes.enter_context(mode())
            yield

    def adopt(self, model: nn.Module, prefix: str = "") -> None:
        """Note a model that was built without being recorded, as it is moved to the device."""
        for name, module in in_order_of_transfer(model, prefix):
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                self.recorder.adopt(tensor, Category.PARAMETER, name)
            self.flatten(name, module)

    def flatten(self, name: str, module: nn.Module) -> None:
        """Move a recurrent network's weights into one allocation, where the device does."""
        if self.rules.flat_lstm and isinstance(module, nn.RNNBase):
            self.recorder.merge(module.parameters(), name)

    def trace(self, setup: tuple[Event, ...], first: tuple[Part, ...], steady: tuple[Part, ...], videos: int) -> Trace:
        """Return what was recorded."""
        recorder = self.recorder
        trace = Trace(recorder.allocations, setup, first, steady, recorder.operators, self.rules.name, videos)
        if self.rules.host_memory:
            return trace
        return trace.keeping(lambda allocation: allocation.category is not Category.HOST)


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


class Phases:
    """Cuts the recorder's events into phases."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._parts: list[Part] = []
        self._from = 0

    def begin(self, phase: str) -> None:
        """A phase begins."""
        self._cut(None)
        self._recorder.phase = (phase, self._recorder.phase[1] + 1)

    def end(self, phase: str) -> None:
        """A phase ends."""
        self._cut(phase)

    def mark(self, phase: str) -> None:
        """Whatever happened since the last cut, if anything, belongs to a phase."""
        if len(self._recorder.events) > self._from:
            self._cut(phase)

    def take(self) -> tuple[Part, ...]:
        """Return the parts since the last call."""
        self._cut(None)
        parts, self._parts = tuple(self._parts), []
        return parts

    def _cut(self, phase: str | None) -> None:
        events = with_ends_in_order(self._recorder.events[self._from :])
        self._from = len(self._recorder.events)
        if events or phase is not None:
            self._parts.append(Part(phase, events))


def in_order_of_transfer(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield modules, with their paths, as ``nn.Module.to`` moves them: children first."""
    for name, child in model.named_children():
        yield from in_order_of_transfer(child, f"{prefix}{name}.")
    yield prefix.removesuffix("."), model


def with_ends_in_order(events: Sequence[Event]) -> tuple[Event, ...]:
    """Sort every run of ends by key.

    Tensors that die together die in the order of their addresses (autocast's cache of weights is a hash map), which
    changes from run to run. An allocator is in the same state after a run of ends, whatever their order.
    """
    runs: Iterable[tuple[bool, Iterable[Event]]] = itertools.groupby(events, lambda event: event.size_bytes == 0)
    return tuple(event for is_end, run in runs for event in (sorted(run) if is_end else run))


@contextmanager
def without_garbage_collection() -> Iterator[None]:
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
