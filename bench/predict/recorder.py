"""Every allocation of a step on fake tensors, written down by a dispatch mode.

A storage that the mode has not seen before is an allocation, and a weak reference tells of its end. What an allocation
is for is told by who holds it:

    parameter        parameters and buffers of the model
    gradient         what the parameters' ``grad`` holds when the optimizer begins
    optimizer_state  what the optimizer's state holds after its step
    input            the batch
    activation       what the forward pass made and a backward pass finds still there
    workspace        everything else: intermediate results, and scratch of the libraries
    host             lies in the host's memory in a real run (counters of the optimizer, random draws, what
                     ``efficiency`` keeps there)
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

import torch
from torch import Tensor, nn

from bench.predict.allocator import Event
from bench.predict.device_rules import Rules, Scratch
from bench.torch_internals.dispatch import (
    TorchDispatchMode,
    asks_for_device,
    device_of,
    in_parts,
    reads_a_value,
    storage_id,
)
from bench.torch_internals.inference import inference_in_parts
from bench.torch_internals.lone_gradients import in_place
from bench.torch_internals.nested import tensors_in

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
        line: of the program that made it, as FILE:NUMBER; of what a backward pass makes, the line that called the
            module it goes through. Empty where nobody asked.
    """

    size_bytes: int
    category: Category
    module: str
    operator: str
    shape: tuple[int, ...]
    uncertain: bool = False
    line: str = ""


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
        first, second = self.allocations[one], self.allocations[other]
        return replace(first, category=second.category) == second

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
        phase: the phase of the step, told by ``Phases``; with the number of phases so far, so that it is unique.
        in_backward: whether a backward pass is running.
        backward_passes: number of those that ended.
        backward_ended_at: number of events when the last one ended.
        operators: number of operators seen.
        is_paused: whether nothing that is made is noted.
        recomputing: makes the modes that what is recomputed in a backward pass has to run under.
    """

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.allocations: list[Allocation] = []
        self.events: list[Event] = []
        self.phase: tuple[str | None, int] = (None, 0)
        self.in_backward = False
        self.backward_passes = 0
        self.backward_ended_at = 0
        self.operators = 0
        self.is_paused = False
        self._default = Category.WORKSPACE
        self._rules = rules
        self._modules: list[str] = []
        self.recomputing: Callable[[], AbstractContextManager[object]] | None = None
        self._recomputing: AbstractContextManager[object] | None = None
        self._backward_module = ""
        self._backward_line = ""
        self._keys: dict[int, int] = {}
        self._references: dict[int, weakref.ref[Any]] = {}
        self._kept: set[tuple[bool, str]] = set()
        """Scratch that has stayed, by the pass (backward or not) whose thread has it."""

    def __enter__(self) -> Self:
        """Begin to record."""
        # What an operator made of others makes on the way is to be seen, too.
        self._inference = inference_in_parts()
        self._inference.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """End."""
        super().__exit__(*error)
        self._inference.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and note the storages it made."""
        kwargs = kwargs or {}
        if asks_for_device(func):
            # Half of all calls: autograd asks for every gradient. Answered at once, they cost next to nothing.
            return device_of(args[0])
        if reads_a_value(func):
            return self.value_of(args[0])
        if func in self._rules.made_of_others:
            with self:
                return in_parts(func, args, kwargs)
        if self.in_backward:
            func = in_place(func, args)
        result = self._rules.layout(func, args, func(*args, **kwargs))
        if not self.is_paused:
            self.operators += 1
            category = self.category_of(func, args, kwargs)
            scratch = [one for one in self._rules.scratch(func, args, result) if one.size_bytes]
            with self._scratch_before(scratch, func):
                true_bytes = self._rules.outputs(func, args)
                for number, tensor in enumerate(tensors_in(result)):
                    self._note(tensor, category, func, true_bytes.get(number))
            self._scratch_after(scratch, func)
        return result

    def category_of(self, operator: Any, args: Any, kwargs: Any) -> Category:
        """Return what is made by a call, as far as is known by then. Random numbers are drawn on the host."""
        return self._default if kwargs.get("generator") is None else Category.HOST

    def line(self) -> str:
        """Return the program's line that is running; empty: nobody asks."""
        return ""

    def value_of(self, tensor: Tensor) -> float | int:
        """Answer for a value that a fake tensor does not have.

        It may scale a number, but nothing that decides about memory depends on one. While a model is built it answers
        "is any out of range?", so that drawing again ends.
        """
        value = 0 if self.is_paused else 1
        return float(value) if tensor.is_floating_point() else value

    @contextmanager
    def _scratch_before(self, scratch: Sequence[Scratch], operator: Any) -> Iterator[None]:
        """Note scratch that is there before the results are, around what notes these."""
        keys = [self._note_scratch(one, operator) for one in scratch if one.is_first]
        yield
        for key in keys:
            self.end(key)

    def _scratch_after(self, scratch: Sequence[Scratch], operator: Any) -> None:
        """Note scratch that comes after the results: for a moment, or, of each thread once, for good."""
        for one in scratch:
            if one.kept_as and (self.in_backward, one.kept_as) not in self._kept:
                self._kept.add((self.in_backward, one.kept_as))
                self._note_scratch(one, operator)
            elif not one.is_first and not one.kept_as:
                self.end(self._note_scratch(one, operator))

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
        if self.in_backward:  # A part of it that was recomputed is differentiated by itself.
            yield
            return
        for key in self._keys.values():
            allocation = self.allocations[key]
            if allocation.category is Category.WORKSPACE:
                allocation.category = Category.ACTIVATION
        self.in_backward = True
        yield
        self.in_backward = False
        self.backward_passes += 1
        self.backward_ended_at = len(self.events)
        self._backward_module = self._backward_line = ""

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

    def label_state(self, optimizer: torch.optim.Optimizer, steps_on_device: bool) -> None:
        """Settle what an optimizer's state is for; its step counters lie on the host unless a kernel reads them."""
        for state in optimizer.state.values():
            held = {name: value for name, value in state.items() if isinstance(value, Tensor)}
            if not steps_on_device:
                self.label([held.pop("step", None)], Category.HOST)
            self.label(held.values(), Category.OPTIMIZER_STATE)

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

    def follow_modules(self, root: nn.Module, prefix: str = "") -> None:
        """Register hooks that tell which of ``root``'s modules is running, in forward and in backward passes."""
        for name, module in root.named_modules(prefix=prefix):
            module.register_forward_pre_hook(lambda _, args, name=name: self._enter(name))
            module.register_forward_hook(lambda _, args, out, name=name: self._leave(name, out), always_call=True)

    def _enter(self, name: str) -> None:
        if self.in_backward and not self._modules and self.recomputing is not None:
            # Something is recomputed: autograd's engine runs it without the modes of the backward pass's caller.
            self._recomputing = self.recomputing()
            self._recomputing.__enter__()
        self._modules.append(name)

    def _leave(self, name: str, output: Any) -> None:
        self._modules.pop()
        if self._recomputing is not None and not self._modules:
            self._recomputing.__exit__(None, None, None)
            self._recomputing = None
        line = self.line()
        for tensor in tensors_in(output):
            if tensor.grad_fn is not None:
                tensor.grad_fn.register_prehook(lambda _, name=name: self._enter_backward(name, line))

    def _enter_backward(self, name: str, line: str) -> None:
        self._backward_module, self._backward_line = name, line

    def _note(self, tensor: Tensor, category: Category, operator: Any, size_bytes: int | None = None) -> None:
        identity = storage_id(tensor)
        if identity in self._keys:
            return
        if size_bytes is None:
            size_bytes = tensor.untyped_storage().nbytes()
        if size_bytes:
            shape, line = tuple(tensor.shape), self._line()
            self._append(Allocation(size_bytes, category, self._module, str(operator), shape, line=line))
            self.attach(tensor, len(self.allocations) - 1)

    def _note_scratch(self, scratch: Scratch, operator: Any) -> int:
        name, shape = f"scratch of {operator}", (scratch.size_bytes,)
        made = Allocation(
            scratch.size_bytes, Category.WORKSPACE, self._module, name, shape, scratch.uncertain, self._line()
        )
        self._append(made)
        return len(self.allocations) - 1

    def _append(self, allocation: Allocation) -> None:
        self.events.append(Event(len(self.allocations), allocation.size_bytes))
        self.allocations.append(allocation)

    def _line(self) -> str:
        return self._backward_line if self.in_backward and self._backward_line else self.line()

    @property
    def _module(self) -> str:
        return self._modules[-1] if self._modules else self._backward_module

    def _end(self, identity: int) -> None:
        # A reference that end_early dropped is not called any more.
        del self._references[identity]
        self.events.append(Event(self._keys.pop(identity), 0))
