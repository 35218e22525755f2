"""Floating-point operations of one operator, from the shapes of its inputs: 2 for a multiply-add.

torch's own formulas (torch.utils.flop_counter) know convolutions, matrix products and a GPU's attention. Beside them
stand here: what its formula of a grouped convolution counts too much, the LSTMs and the fused attention of a CPU, and
the layers that torch runs as one operator in inference (findings/flop-counter-encoder-in-eval.sh).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count, flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten

Formula = Callable[..., int]


def formula_of(operator: Any) -> Formula | None:
    """Return the formula of an operator (a packet of overloads): torch's, or ours where it has none; None without.

    It is called with the operator's arguments, and with its result as ``out_val``.
    """
    found: Formula | None = flop_registry.get(operator) or FUSED_FORMULAS.get(operator)
    return found


def grouped_excess_flops(gradient: Tensor, input_: Tensor, groups: int, weight_gradient: Tensor | None) -> int:
    """Return what torch's formula counts too much for the backward pass of a convolution; 0 without groups."""
    if weight_gradient is None or groups == 1:
        return 0
    swapped = [[shape[1], shape[0], *shape[2:]] for shape in (input_.shape, gradient.shape, weight_gradient.shape)]
    counted = conv_flop_count(swapped[0], swapped[1], swapped[2])
    return counted - counted // groups


def lstm_flops(batch: int, steps: int, inputs: int, hidden: int) -> int:
    """Return the FLOP of one LSTM layer in one direction, forward: the matrix products of its four gates.

    Per step and sequence the gates are ``4 hidden`` sums over ``inputs + hidden`` products. Biases and the gates'
    elementwise arithmetic, below 1 %, are left out, as torch's counter leaves out everything elementwise.
    """
    return 2 * batch * steps * 4 * hidden * (inputs + hidden)


def _mkldnn_lstm(input_: Tensor, weight: Tensor, recurrent: Tensor, *_: Any) -> int:
    steps, batch, inputs = input_.shape
    return lstm_flops(batch, steps, inputs, recurrent.shape[1])


def _mkldnn_lstm_backward(input_: Tensor, weight: Tensor, recurrent: Tensor, *rest: Any) -> int:
    # Every product of the forward pass has two in the backward pass: for its input and for its weight.
    return 2 * _mkldnn_lstm(input_, weight, recurrent)


LSTM_FORMULAS: dict[Any, Callable[..., int]] = {
    aten.mkldnn_rnn_layer: _mkldnn_lstm,
    aten.mkldnn_rnn_layer_backward: _mkldnn_lstm_backward,
}
"""LSTMs that run as one operator. Where torch takes one apart, its counter sees the matrix products itself."""


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _attention_backward(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape))


def _multi_head_attention(query: Tensor, key: Tensor, value: Tensor, width: int, *_: Any, **__: Any) -> int:
    """Three projections, two products with the attention, and the projection of what comes out."""
    (batch, queries), keys = query.shape[:2], key.shape[1]
    projections = 2 * batch * (2 * queries + 2 * keys) * width * width
    return projections + 2 * 2 * batch * queries * keys * width


def _encoder_layer(source: Tensor, width: int, *rest: Any, **_: Any) -> int:
    """The attention, and the two linear layers behind it."""
    first, second = rest[FIRST_LINEAR - 2], rest[FIRST_LINEAR]
    rows = source.shape[0] * source.shape[1]
    linear = 2 * rows * (first.shape[0] * first.shape[1] + second.shape[0] * second.shape[1])
    return _multi_head_attention(source, source, source, width) + int(linear)


FIRST_LINEAR = 14
"""Place of the first linear layer's weight among the arguments; the second's comes two places after."""

FUSED_FORMULAS: dict[Any, Formula] = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten._native_multi_head_attention: _multi_head_attention,
    aten._transformer_encoder_layer_fwd: _encoder_layer,
}
"""What torch runs as one operator, on a CPU or in inference, and its counter leaves out."""
