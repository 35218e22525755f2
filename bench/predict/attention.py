"""``scaled_dot_product_attention`` as a GPU computes it: which of its kernels, and what they keep and use.

torch chooses on the host, by precision, head size and mask (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp,
``select_sdp_backend``): flash attention, memory-efficient attention, or matrix products. The choice of compute
capability 8 is made here; from 9 on, cuDNN's may be taken, which is not modelled.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)
MOST_HEAD_SIZE = 256
"""Of flash attention."""
BIAS_ALIGNMENT = 16
"""Numbers in a row of a mask, to whose multiple memory-efficient attention pads it."""


def chosen_kernel(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool) -> str:
    """Return "flash", "efficient" or "math"."""
    sizes = {tensor.shape[-1] for tensor in (query, key, value)}
    if any(tensor.dim() != 4 or tensor.stride(-1) != 1 for tensor in (query, key, value)):
        return "math"
    if any(not all(tensor.shape) for tensor in (query, key, value)):
        return "math"
    heads = {tensor.shape[1] for tensor in (query, key, value)}
    square = query.shape[2] == key.shape[2]
    fits = len(sizes) == 1 and max(sizes) <= MOST_HEAD_SIZE
    if query.dtype in HALF and mask is None and fits and (square or not is_causal):
        return "flash"
    alignment = 4 if query.dtype == torch.float32 else 8
    if len(heads) > 1 or any(size % alignment for size in (query.shape[-1], value.shape[-1])):
        return "math"
    if query.dtype not in (*HALF, torch.float32) or (mask is not None and mask.requires_grad and is_causal):
        return "math"
    return "efficient"


def cuda_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute attention by the operators that a GPU takes."""
    kernel = chosen_kernel(query, key, value, attn_mask, is_causal)
    if kernel == "math":
        return _first(
            aten._scaled_dot_product_attention_math(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        )
    if kernel == "flash":
        size = query.shape[-1]
        scale = size**-0.5 if scale is None else scale
        operands = (_padded(tensor, 8) for tensor in (query, key, value))
        attended = _first(aten._scaled_dot_product_flash_attention(*operands, dropout_p, is_causal, False, scale=scale))
        return attended[..., :size] if attended.shape[-1] > size else attended
    keeps = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
    bias = None if attn_mask is None else _as_bias(attn_mask, query, key)
    return _first(
        aten._scaled_dot_product_efficient_attention(query, key, value, bias, keeps, dropout_p, is_causal, scale=scale)
    )


def _first(results: tuple[Tensor, ...]) -> Tensor:
    return results[0]


def _padded(tensor: Tensor, multiple: int) -> Tensor:
    missing = -tensor.shape[-1] % multiple
    return F.pad(tensor, (0, missing)) if missing else tensor


def _as_bias(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        nothing, minus_infinity = (torch.scalar_tensor(v, dtype=query.dtype) for v in (0.0, float("-inf")))
        mask = torch.where(mask, nothing, minus_infinity)
    width = mask.shape[-1]
    padded = _padded(mask, BIAS_ALIGNMENT)
    if padded is not mask:
        padded = padded[..., :width]
    return padded.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


def attention_scratch(operator: Any, arguments: Sequence[Any], multiprocessors: int) -> list[int]:
    """Return the bytes that an attention operator uses while it runs, besides its results: one moment after the other.

    See ``SCRATCH``.
    """
    return list(SCRATCH[operator](arguments, multiprocessors))


def _flash(arguments: Sequence[Any], multiprocessors: int) -> Iterator[int]:
    """Partial results where several blocks share the keys of a query (csrc/flash_attn, ``set_params_splitkv``)."""
    query, key = arguments[:2]
    # The dispatcher leaves default values away.
    dropout = arguments[3] if len(arguments) > 3 else 0.0
    parts = 1 if dropout else _parts_of_keys(query, key, 2 * multiprocessors)
    if parts > 1:
        rows = query.shape[0] * query.shape[1] * query.shape[2]
        yield 4 * parts * rows * (1 + _rounded_head(query.shape[-1]))


def _parts_of_keys(query: Tensor, key: Tensor, places: int) -> int:
    """Return in how many parts the keys are worked on (csrc/flash_attn, ``num_splits_heuristic``)."""
    batch, heads, queries, size = query.shape
    blocks = batch * heads * -(-queries // 64)
    of_keys = -(-key.shape[2] // (256 if size <= 64 else 128 if size <= 128 else 64))
    if blocks >= 0.8 * places:
        return 1
    efficiency = {}
    for parts in range(1, min(128, places, of_keys) + 1):
        if parts == 1 or -(-of_keys // parts) != -(-of_keys // (parts - 1)):
            waves = blocks * parts / places
            efficiency[parts] = waves / -(-blocks * parts // places)
    enough = 0.85 * max(efficiency.values())
    return next(parts for parts, reached in efficiency.items() if reached >= enough)


def _flash_backward(arguments: Sequence[Any], multiprocessors: int) -> Iterator[int]:
    """The gradient of the queries in fp32, and a number for each query (csrc/flash_attn, ``mha_bwd``)."""
    batch, heads, queries, size = arguments[1].shape
    rows = batch * heads * _multiple(queries, 128)
    yield 4 * rows * (1 + _rounded_head(size))


def _efficient(arguments: Sequence[Any], multiprocessors: int) -> Iterator[int]:
    """The result in fp32, where it is not so itself and a head is large (mem_eff_attention/kernel_forward.h)."""
    query, value = arguments[0], arguments[2]
    if query.dtype in HALF and value.shape[-1] > 128:
        yield 4 * query.shape[0] * query.shape[1] * query.shape[2] * value.shape[-1]


def _efficient_backward(arguments: Sequence[Any], multiprocessors: int) -> Iterator[int]:
    """Tiles of the queries' gradient with a lock each, and what is summed up in fp32.

    mem_eff_attention/kernel_backward.h, ``workspace_size``, of the kernels for compute capability 8.
    """
    query, key = arguments[1], arguments[2]
    batch, heads, queries, size = query.shape
    half = query.dtype in HALF
    rows = batch * heads * queries
    if not half:
        # The product of result and gradient, and its sums.
        yield 4 * (query.numel() + rows)
    high, wide = (64, 64) if size <= 64 else (128, 128) if half and size <= 128 else (128, 64)
    tiles = -(-queries // high) * -(-size // wide)
    sums = 2 * _multiple(key.shape[2], 64) * _multiple(size, 128) if half and size > 128 else 0
    yield 4 * rows + batch * heads * (tiles * (16 + 4 * high * wide) + 4 * sums)


def _rounded_head(size: int) -> int:
    return _multiple(size, 32 if size <= 128 else 64)


def _multiple(number: int, of: int) -> int:
    return -(-number // of) * of


SCRATCH: dict[Any, Callable[[Sequence[Any], int], Iterator[int]]] = {
    aten._scaled_dot_product_flash_attention.default: _flash,
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_efficient_attention.default: _efficient,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
}
"""What each operator uses while it runs; checked against torch's own CUDA code."""
KERNELS = {"scaled_dot_product_attention": cuda_attention}
