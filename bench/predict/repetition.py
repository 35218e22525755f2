"""Encoder calls that repeat an earlier one are not traced again; their events are copied.

A step of the published model encodes 32 equal chunks and back-propagates through 10. Within a phase the first call may
differ from the others (autocast fills its cache of weights, gradients come into being), from the second on all are
alike: so the first two are traced, and every further one repeats the second, allocation by allocation.

A call without gradient is repeated when the call returns. A call with gradient is repeated in two halves, the second of
them when the gradient arrives; that needs the second call's backward pass to be over before the third call, which holds
for ``sequential``. Where one backward pass goes through all calls, as for ``checkpointed``, ``_OnePass`` says what is
repeated. The one call of ``joint`` is traced in full, as is every call whose events do not close (an allocation that
neither the output holds nor the backward pass ends).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.predict.allocator import Event

if TYPE_CHECKING:
    from bench.predict.recorder import Recorder

Kind = tuple[Any, ...]


@dataclass
class _Call:
    """What a traced call did. Keys are those of the recorder.

    Attributes:
        output: key of the output, its shape, strides and dtype.
        forward: events between call and return.
        backward: events from the gradient's arrival to the end of the backward pass; empty without gradient.
        gradient: key of the gradient that arrived.
        input_: key of what the call was given, which may end with it.
    """

    output: int
    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype
    forward: Sequence[Event]
    backward: Sequence[Event] = ()
    gradient: int | None = None
    input_: int | None = None

    def closes(self) -> bool:
        """Tell whether nothing but the output is left of the call, and nothing but its input ended by it."""
        begun = {event.key for event in (*self.forward, *self.backward) if event.size_bytes}
        ended = {event.key for event in (*self.forward, *self.backward) if not event.size_bytes}
        return begun - ended <= {self.output} and ended - begun <= {self.output, self.gradient, self.input_}


class NotRepeatableError(Exception):
    """A call was repeated, and the backward pass shows that it should not have been: trace without the shortcut."""


class RepeatedForward:
    """Stands in for a module's ``forward``: calls it, or repeats what an earlier call allocated.

    Args:
        forward: what it stands in for.
        recorder: has the events.
        calls_in_one_pass: number of equal calls with gradient that one backward pass goes through; 0: each call has a
            pass of its own.
    """

    def __init__(self, forward: Any, recorder: "Recorder", calls_in_one_pass: int = 0) -> None:
        self._forward, self._recorder, self._calls_in_one_pass = forward, recorder, calls_in_one_pass
        self._calls: dict[Kind, int] = {}
        self._template: dict[Kind, _Call] = {}
        self._waiting: _Waiting | None = None
        self._passes: dict[Kind, _OnePass] = {}

    @classmethod
    def install(cls, module: nn.Module, recorder: "Recorder", calls_in_one_pass: int = 0) -> "RepeatedForward":
        """Put one in place of ``module.forward``."""
        repeated = cls(module.forward, recorder, calls_in_one_pass)
        module.forward = repeated
        return repeated

    def __call__(self, x: Tensor, *part: Any) -> Tensor:
        """Encode, or do as if; ``part`` says what part of the module runs."""
        recorder = self._recorder
        if recorder.in_backward:
            return self._forward(x, *part)
        self._finish_waiting()
        kind = (recorder.phase, tuple(x.shape), x.stride(), x.dtype, torch.is_grad_enabled(), *part)
        if self._calls_in_one_pass and torch.is_grad_enabled():
            if kind not in self._passes:
                self._passes[kind] = _OnePass(self._forward, recorder, self._calls_in_one_pass)
            return self._passes[kind](x, *part)
        template = self._template.get(kind)
        if template is not None:
            return self._repeat(template, x)
        self._calls[kind] = self._calls.get(kind, 0) + 1
        if self._calls[kind] != 2:
            return self._forward(x, *part)
        return self._trace(kind, x, part)

    def _trace(self, kind: Kind, x: Tensor, part: tuple[Any, ...]) -> Tensor:
        recorder = self._recorder
        output, call = _traced(self._forward, recorder, x, part)
        if output.requires_grad:
            self._waiting = _Waiting(kind, call, recorder)
            output.register_hook(self._waiting.arrived)
        elif call.closes():
            self._template[kind] = call
        return output

    def _finish_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.is_complete() and waiting.call.closes():
            self._template[waiting.kind] = waiting.call

    def _repeat(self, call: _Call, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return _repeat_forward(self._recorder, call, {})
        with self._recorder.paused():
            anchor = torch.empty(0, requires_grad=True)
        output: Tensor = _RepeatedCall.apply(anchor, x, self._recorder, call)
        return output


def _traced(forward: Any, recorder: "Recorder", x: Tensor, part: tuple[Any, ...]) -> tuple[Tensor, _Call]:
    begin = len(recorder.events)
    output: Tensor = forward(x, *part)
    key = recorder.key_of(output)
    assert key is not None
    call = _Call(key, output.shape, output.stride(), output.dtype, recorder.events[begin:])
    call.input_ = recorder.key_of(x)
    return output, call


class _Waiting:
    """A traced call with gradient whose backward pass has not run yet."""

    def __init__(self, kind: Kind, call: _Call, recorder: "Recorder") -> None:
        self.kind, self.call, self._recorder = kind, call, recorder
        self._passes = recorder.backward_passes
        self._arrived_at: int | None = None

    def arrived(self, gradient: Tensor) -> None:
        self._arrived_at = len(self._recorder.events)
        self.call.gradient = self._recorder.key_of(gradient)

    def is_complete(self) -> bool:
        # Exactly one backward pass since the call, and it was this one's.
        if self._arrived_at is None or self._recorder.backward_passes != self._passes + 1:
            return False
        self.call.backward = self._recorder.events[self._arrived_at : self._recorder.backward_ended_at]
        return True


class _RepeatedCall(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, x: Tensor, recorder: "Recorder", call: _Call) -> Tensor:
        ctx.recorder, ctx.call, ctx.keys = recorder, call, {}
        # Alive until the template says otherwise, as a graph keeps it alive for the first layer.
        ctx.x = x if any(event.key == call.input_ for event in call.backward) else None
        return _repeat_forward(recorder, call, ctx.keys)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        recorder, call, keys = ctx.recorder, ctx.call, ctx.keys
        for event in call.backward:
            if event.size_bytes:
                keys[event.key] = recorder.repeat(event.key)
            elif event.key in keys:
                recorder.end(keys.pop(event.key))
            elif event.key == call.gradient:
                recorder.end_early(gradients[0])
            elif event.key == call.input_:
                recorder.end_early(ctx.x)
                ctx.x = None
        return None, None, None, None


def _repeat_forward(recorder: "Recorder", call: _Call, keys: dict[int, int]) -> Tensor:
    """Repeat a forward pass; ``keys`` gets the allocations that live on, by their key in the template."""
    output = None
    for event in call.forward:
        if event.size_bytes:
            keys[event.key] = recorder.repeat(event.key)
            if event.key == call.output:
                with recorder.paused():
                    output = torch.empty_strided(call.shape, call.strides, dtype=call.dtype)
                recorder.attach(output, keys.pop(event.key))
        elif event.key in keys:
            recorder.end(keys.pop(event.key))
    assert output is not None
    return output


class _OnePass:
    """Equal calls that one backward pass goes through, the last call first.

    The first two and the last two are traced. Each call between repeats the second one's forward pass, and when its
    gradient arrives, what happened from the arrival of the last but one's gradient to that of the call before.

    Autograd adds the gradients of a shared weight to that of the last call, in place: of a call before, none is left.
    """

    def __init__(self, forward: Any, recorder: "Recorder", calls: int) -> None:
        self._forward, self._recorder, self._calls = forward, recorder, calls
        self._number = 0
        self._second: _Call | None = None
        self._second_ended_at = 0
        self._last_but_one: _Call | None = None
        self._arrived_at = 0
        self._between: _Between | None = None

    def __call__(self, x: Tensor, *part: Any) -> Tensor:
        self._number += 1
        if self._second is not None and self._number < self._calls - 1:
            return self._repeat(self._second, x)
        output, call = _traced(self._forward, self._recorder, x, part)
        if self._number == 2 < self._calls - 2 and call.closes():
            self._second, self._second_ended_at = call, len(self._recorder.events)
            output.register_hook(self._arrived_at_second)
        elif self._second is not None and self._number == self._calls - 1:
            self._last_but_one = call
            output.register_hook(self._arrived_at_last_but_one)
        return output

    def repeat_backward(self, gradient: Tensor, x: Tensor | None) -> None:
        """Do as if a call's backward pass ran, and what follows it up to the arrival of the next gradient."""
        if self._between is None:
            self._between = self._found(gradient)
        else:
            self._between.arrive(gradient, self._recorder)
        self._between.repeat(gradient, x, self._recorder)

    def _repeat(self, second: _Call, x: Tensor) -> Tensor:
        with self._recorder.paused():
            anchor = torch.empty(0, requires_grad=True)
        # The true second call may have kept its input for the recomputation.
        kept = (
            Event(-1 if second.input_ is None else second.input_, 0)
            not in self._recorder.events[self._second_ended_at :]
        )
        output: Tensor = _CallInOnePass.apply(anchor, x, self._recorder, second, self, kept)
        return output

    def _arrived_at_last_but_one(self, gradient: Tensor) -> None:
        assert self._last_but_one is not None
        self._arrived_at = len(self._recorder.events)
        self._last_but_one.gradient = self._recorder.key_of(gradient)

    def _arrived_at_second(self, gradient: Tensor) -> None:
        if self._between is None:
            raise NotRepeatableError("fewer calls than expected")
        self._between.arrive(gradient, self._recorder)

    def _found(self, gradient: Tensor) -> "_Between":
        call, recorder = self._last_but_one, self._recorder
        if call is None:
            raise NotRepeatableError("fewer calls than expected")
        events = recorder.events[self._arrived_at :]
        coming = recorder.key_of(gradient)
        begun = {event.key for event in events if event.size_bytes}
        ended = {event.key for event in events if not event.size_bytes}
        if not begun - ended <= {coming} or not ended - begun <= {call.gradient, call.input_}:
            raise NotRepeatableError("a call's backward pass ends or leaves something else")
        return _Between(events, call.gradient, call.input_, coming)


@dataclass
class _Between:
    """What happened between the arrival of two gradients.

    Attributes:
        events: all of it.
        gradient: key of the gradient that had arrived.
        input_: key of what that call had been given.
        coming: key of the gradient that was about to arrive.
    """

    events: Sequence[Event]
    gradient: int | None
    input_: int | None
    coming: int | None
    _coming: int | None = None

    def repeat(self, gradient: Tensor, x: Tensor | None, recorder: "Recorder") -> None:
        """Repeat it; what really happens until ``arrive`` is not noted, since it has been."""
        keys: dict[int, int] = {}
        for event in self.events:
            if event.size_bytes:
                keys[event.key] = recorder.repeat(event.key)
            elif event.key in keys:
                recorder.end(keys.pop(event.key))
            elif event.key == self.gradient:
                recorder.end_early(gradient)
            else:
                assert x is not None
                recorder.end_early(x)
        self._coming = None if self.coming is None else keys.get(self.coming)
        recorder.is_paused = True

    def arrive(self, gradient: Tensor, recorder: "Recorder") -> None:
        """Take the next gradient for the one that ``repeat`` noted."""
        recorder.is_paused = False
        if self._coming is not None:
            recorder.attach(gradient, self._coming)


class _CallInOnePass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, x: Tensor, recorder: "Recorder", call: _Call, one_pass: _OnePass, keeps_input: bool
    ) -> Tensor:
        ctx.one_pass, ctx.x = one_pass, x if keeps_input else None
        return _repeat_forward(recorder, call, {})

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ctx.one_pass.repeat_backward(gradients[0], ctx.x)
        ctx.x = None
        return None, None, None, None, None, None
