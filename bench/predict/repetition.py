"""Encoder calls that repeat an earlier one are not traced again; their events are copied.

A step of the published model encodes 32 equal chunks and back-propagates through 10. Within a phase the first call may
differ from the others (autocast fills its cache of weights, gradients come into being), from the second on all are
alike: so the first two are traced, and every further one repeats the second, allocation by allocation.

A call without gradient is repeated when the call returns. A call with gradient is repeated in two halves, the second of
them when the gradient arrives; that needs the second call's backward pass to be over before the third call, which holds
for ``sequential``. Calls of ``checkpointed`` and ``joint`` are always traced in full, as is every call whose events do
not close (an allocation that neither the output holds nor the backward pass ends).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.predict.allocator import Event

if TYPE_CHECKING:
    from bench.predict.trace import Recorder

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


class RepeatedForward:
    """Stands in for a module's ``forward``: calls it, or repeats what an earlier call allocated."""

    def __init__(self, forward: Any, recorder: "Recorder") -> None:
        self._forward, self._recorder = forward, recorder
        self._calls: dict[Kind, int] = {}
        self._template: dict[Kind, _Call] = {}
        self._waiting: _Waiting | None = None

    @classmethod
    def install(cls, module: nn.Module, recorder: "Recorder") -> "RepeatedForward":
        """Put one in place of ``module.forward``."""
        repeated = cls(module.forward, recorder)
        module.forward = repeated
        return repeated

    def __call__(self, x: Tensor, *part: Any) -> Tensor:
        """Encode, or do as if; ``part`` says what part of the module runs."""
        recorder = self._recorder
        if recorder.in_backward:
            return self._forward(x, *part)
        self._finish_waiting()
        kind = (recorder.phase, tuple(x.shape), x.stride(), x.dtype, torch.is_grad_enabled(), *part)
        template = self._template.get(kind)
        if template is not None:
            return self._repeat(template, x)
        self._calls[kind] = self._calls.get(kind, 0) + 1
        if self._calls[kind] != 2:
            return self._forward(x, *part)
        return self._trace(kind, x, part)

    def _trace(self, kind: Kind, x: Tensor, part: tuple[Any, ...]) -> Tensor:
        recorder = self._recorder
        begin = len(recorder.events)
        output: Tensor = self._forward(x, *part)
        key = recorder.key_of(output)
        assert key is not None
        call = _Call(key, output.shape, output.stride(), output.dtype, recorder.events[begin:])
        call.input_ = recorder.key_of(x)
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
