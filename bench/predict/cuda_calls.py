"""Calls that allocate on CUDA what a CPU's implementation does not: replaced while a step is traced.

Each replacement names the source in torch or cuDNN that it follows.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bench.torch_internals.cuda_autocast import cuda_autocast


class _CudaCalls(TorchFunctionMode):
    """Replaces calls that CUDA implements with other allocations, and casts what its autocast does."""

    def __enter__(self) -> Self:
        self._autocast = cuda_autocast()
        self._autocast.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._autocast.__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "lstm" and len(args) == 9:
            return cudnn_lstm(*args[:3])
        if name == "dropout":
            return cuda_dropout(func, *args, **kwargs)
        return func(*args, **kwargs)


def cuda_dropout(func: Any, input_: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """CUDA's dropout keeps a mask of 1 B an element, the CPU's one of the element's own size.

    aten/src/ATen/native/Dropout.cpp: the fused kernel runs for training with 0 < p < 1 and not in place.
    """
    if inplace or not training or not 0 < p < 1:
        output: Tensor = func(input_, p, training)
        return output
    return torch.native_dropout(input_, p, training)[0]


LSTM_RESERVE = 6
"""Numbers that cuDNN keeps for each unit, step and sample of an LSTM for its backward pass: four gates, the cell and
its tanh. An estimate: cuDNN tells the size (cudnnGetRNNTempSpaceSizes) only where there is a GPU."""


def cudnn_lstm(input_: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """One batch-first LSTM layer as cuDNN allocates it (aten/src/ATen/native/cudnn/RNN.cpp, ``_cudnn_rnn``).

    Under autocast the weights are cast into one flat buffer, anew in each call (``_cudnn_rnn_cast_reflatten``).
    """
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        weights, input_ = _CastIntoOne.apply(dtype, *weights), input_.to(dtype)
    output, hidden, cell = _CudnnLstm.apply(input_, *weights)
    return output, hidden, cell


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


class _CudnnLstm(torch.autograd.Function):
    """Allocates like ``_cudnn_rnn`` and its backward pass; computes nothing."""

    @staticmethod
    def forward(ctx: Any, input_: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, steps, _ = input_.shape
        units = weights[1].shape[1]
        # cuDNN wants time first.
        time_first = input_.transpose(0, 1).contiguous()
        output = input_.new_empty(steps, batch, units)
        hidden, cell = input_.new_empty(1, batch, units), input_.new_empty(1, batch, units)
        reserve = input_.new_empty(LSTM_RESERVE * steps * batch * units)
        del time_first
        ctx.save_for_backward(input_, output, reserve, *weights)
        return output.transpose(0, 1), hidden, cell

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        input_, _, _, *weights = ctx.saved_tensors
        # Once for the gradient of the input, with that of the output, and once more for the gradients of the weights.
        time_first = input_.transpose(0, 1).contiguous()
        of_output = gradients[0].transpose(0, 1).contiguous()
        of_input = torch.empty_like(time_first).transpose(0, 1)
        del time_first, of_output
        time_first = input_.transpose(0, 1).contiguous()
        # One buffer; the gradients of the weights are views of it.
        buffer = input_.new_empty(sum(weight.numel() for weight in weights))
        del time_first
        return of_input, *_as_parts(buffer, weights)


def _as_parts(buffer: Tensor, likes: Sequence[Tensor]) -> tuple[Tensor, ...]:
    parts = buffer.split([like.numel() for like in likes])
    return tuple(part.view(like.shape) for part, like in zip(parts, likes, strict=True))
