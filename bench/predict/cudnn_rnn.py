"""Recurrent layers as cuDNN allocates them (aten/src/ATen/native/cudnn/RNN.cpp); nothing is computed.

Without a GPU torch takes them apart into thousands of small operators, or gives them to oneDNN. On a GPU a whole stack
of layers is one call, whatever their number and directions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

RESERVED = {"lstm": 6, "gru": 5, "rnn_tanh": 2, "rnn_relu": 2}
"""Numbers that cuDNN keeps of each unit, step and sample for the backward pass: of an LSTM four gates, the cell and its
tanh; of a GRU three gates, the recurrent part of one and the state before. Estimates: cuDNN tells the size
(cudnnGetRNNTempSpaceSizes) only where there is a GPU."""

LSTM_RESERVE = RESERVED["lstm"]


def _of_batch(cell: str) -> Callable[..., tuple[Tensor, ...]]:
    """Return what stands for ``aten::<cell>.input``."""

    def call(
        input_: Tensor,
        state: Tensor | Sequence[Tensor],
        weights: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        return _whole_stack(cell, input_, state, weights, train, 2 if bidirectional else 1, batch_first)

    return call


def _of_packed(cell: str) -> Callable[..., tuple[Tensor, ...]]:
    """Return what stands for ``aten::<cell>.data``, of sequences packed by ``pack_padded_sequence``."""

    def call(
        data: Tensor,
        batch_sizes: Tensor,
        state: Tensor | Sequence[Tensor],
        weights: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> tuple[Tensor, ...]:
        return _whole_stack(cell, data, state, weights, train, 2 if bidirectional else 1, False)

    return call


def _whole_stack(
    cell: str,
    input_: Tensor,
    state: Tensor | Sequence[Tensor],
    weights: Sequence[Tensor],
    train: bool,
    directions: int,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    states = [state] if isinstance(state, Tensor) else list(state)
    if torch.is_autocast_enabled("cpu"):
        # The weights are cast into one flat buffer, anew in each call (``_cudnn_rnn_cast_reflatten``).
        dtype = torch.get_autocast_dtype("cpu")
        weights = _CastIntoOne.apply(dtype, *weights)
        states = [one.to(dtype) for one in states]
        input_ = input_.to(dtype)
    reserved = RESERVED[cell] if train else 0
    results: tuple[Tensor, ...] = _CudnnRnn.apply(
        reserved, directions, batch_first, len(states), input_, *states, *weights
    )
    return results


class _CastIntoOne(torch.autograd.Function):
    """Casts weights into one buffer, of which the results are views; their gradients are cast back one by one."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.dtypes = [weight.dtype for weight in weights]
        buffer = weights[0].new_empty(sum(weight.numel() for weight in weights), dtype=dtype)
        return _as_parts(buffer, weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *(gradient.to(dtype) for gradient, dtype in zip(gradients, ctx.dtypes, strict=True))


class _CudnnRnn(torch.autograd.Function):
    """Allocates like ``_cudnn_rnn`` and its backward pass."""

    @staticmethod
    def forward(
        ctx: Any, reserved: int, directions: int, batch_first: bool, number: int, input_: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        states, weights = others[:number], others[number:]
        # cuDNN wants time first.
        steps_first = (input_.transpose(0, 1) if batch_first else input_).contiguous()
        before = steps_first.shape[:-1]
        output = input_.new_empty(*before, directions * states[0].shape[-1])
        after = [torch.empty_like(state, memory_format=torch.contiguous_format) for state in states]
        # Of a projected LSTM, the cell is wider than the hidden state.
        units, stacked = states[-1].shape[-1], states[-1].shape[0]
        reserve = input_.new_empty(reserved * before.numel() * units * stacked)
        del steps_first
        # The states of a single layer are small; they and their gradients are left out.
        kept = states if stacked > 1 else ()
        ctx.save_for_backward(input_, output, reserve, *kept, *weights)
        ctx.batch_first, ctx.number, ctx.kept = batch_first, number, len(kept)
        return output.transpose(0, 1) if batch_first else output, *after

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        input_, _, _, *others = ctx.saved_tensors
        states, weights = others[: ctx.kept], others[ctx.kept :]
        # Once for the gradient of the input, with that of the output, and once more for the gradients of the weights.
        steps_first = (input_.transpose(0, 1) if ctx.batch_first else input_).contiguous()
        of_output = (gradients[0].transpose(0, 1) if ctx.batch_first else gradients[0]).contiguous()
        of_input = torch.empty_like(steps_first)
        of_states: list[Tensor | None] = [torch.empty_like(state) for state in states]
        of_states += [None] * (ctx.number - len(states))
        del steps_first, of_output
        steps_first = (input_.transpose(0, 1) if ctx.batch_first else input_).contiguous()
        # One buffer; the gradients of the weights are views of it.
        buffer = input_.new_empty(sum(weight.numel() for weight in weights))
        del steps_first
        if ctx.batch_first:
            of_input = of_input.transpose(0, 1)
        return None, None, None, None, of_input, *of_states, *_as_parts(buffer, weights)


def _as_parts(buffer: Tensor, likes: Sequence[Tensor]) -> tuple[Tensor, ...]:
    parts = buffer.split([like.numel() for like in likes])
    return tuple(part.view(like.shape) for part, like in zip(parts, likes, strict=True))


KERNELS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    **{f"{cell}.input": _of_batch(cell) for cell in RESERVED},
    **{f"{cell}.data": _of_packed(cell) for cell in RESERVED},
}
"""Operators, and what stands for them."""
