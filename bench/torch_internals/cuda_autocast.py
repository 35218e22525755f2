"""CUDA's autocast for tensors that autocast takes for a CPU's.

The two cast other operators. torch knows which of them CUDA's casts (its dispatcher has a kernel for each, GPU or not);
how, is written in aten/src/ATen/autocast_mode.h and repeated here. Inside ``cuda_autocast`` the CPU's kernels are
replaced, so that parts of operators that are made of others are cast, too.
"""

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.torch_internals.nested import tensors_in

HALF = (torch.float16, torch.bfloat16)
SINGLE = {
    *("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt"),
    *("sinh", "tan", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "softplus", "layer_norm"),
    *("native_layer_norm", "rms_norm", "group_norm", "frobenius_norm.dim", "nuclear_norm", "nuclear_norm.dim"),
    *("cosine_similarity", "poisson_nll_loss", "cosine_embedding_loss", "nll_loss", "nll_loss2d"),
    *("hinge_embedding_loss", "kl_div", "l1_loss", "smooth_l1_loss", "huber_loss", "mse_loss"),
    *("margin_ranking_loss", "multilabel_margin_loss", "soft_margin_loss", "triplet_margin_loss"),
    *("multi_margin_loss", "binary_cross_entropy_with_logits", "dist", "pdist", "cdist", "renorm", "logsumexp"),
    *("upsample_nearest1d", "_upsample_nearest_exact1d", "upsample_nearest2d", "_upsample_nearest_exact2d"),
    *("upsample_nearest3d", "_upsample_nearest_exact3d", "upsample_linear1d", "upsample_bilinear2d"),
    *("_upsample_bilinear2d_aa", "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bicubic2d_aa"),
}
"""Operators whose operands become fp32 (``AT_FORALL_FP32``)."""
SINGLE_RESULT = {
    *("prod", "prod.dim_int", "softmax.int", "log_softmax.int", "cumprod", "cumsum", "linalg_vector_norm"),
    *("linalg_matrix_norm", "linalg_matrix_norm.str_ord", "sum", "sum.dim_IntList"),
}
"""Operators that are told to give fp32 (``AT_FORALL_FP32_SET_OPT_DTYPE``)."""
NORMS = {"norm.Scalar", "norm.ScalarOpt_dim"}
"""Operators that call another one that gives fp32 (``AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE``)."""
WIDEST = {
    *("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot", "grid_sampler", "index_put", "tensordot"),
    "scatter_add",
}
"""Operators whose operands become as wide as the widest (``AT_FORALL_PROMOTE``)."""
IN_HALF = {
    *("_convolution", "_convolution.deprecated", "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d"),
    *("conv_transpose2d.input", "conv_transpose3d.input", "convolution", "prelu", "addmm", "addmv", "addr"),
    *("matmul", "einsum", "mm", "mv", "linalg_vecdot", "linear", "addbmm", "baddbmm", "bmm", "chain_matmul"),
    *("linalg_multi_dot", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "lstm_cell", "gru_cell"),
    *("rnn_tanh_cell", "rnn_relu_cell", "_scaled_dot_product_flash_attention", "scaled_dot_product_attention"),
}
"""Operators whose operands become fp16 or bf16 (``AT_FORALL_LOWER_PRECISION_FP``)."""

Kernel = Callable[..., Any]
Cache = dict[int, tuple[Tensor, Tensor]]


def _names(key: str) -> set[str]:
    registered: list[str] = torch._C._dispatch_get_registrations_for_dispatch_key(key)
    return {name.removeprefix("aten::") for name in registered if name.startswith("aten::")}


@contextmanager
def cuda_autocast() -> Iterator[None]:
    """Inside, ``torch.autocast("cpu")`` casts what ``torch.autocast("cuda")`` would."""
    here, there = _names("AutocastCPU"), _names("AutocastCUDA")
    cache: Cache = {}
    clear = torch.clear_autocast_cache

    def clear_both() -> None:
        cache.clear()
        clear()

    library = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():
            # That kernels are replaced, which some releases tell.
            warnings.simplefilter("ignore", UserWarning)
            _register(library, here, there, cache)
        torch.clear_autocast_cache = clear_both
        yield
    finally:
        torch.clear_autocast_cache = clear
        library._destroy()


def _register(library: torch.library.Library, here: set[str], there: set[str], cache: Cache) -> None:
    for name in sorted(there & SINGLE):
        library.impl(name, _casting(_operator(name), _to_single), "AutocastCPU", **_OVERRIDING)
    for name in sorted(there & SINGLE_RESULT):
        library.impl(name, _with_single_result(_operator(name)), "AutocastCPU", **_OVERRIDING)
    for name in sorted(there & NORMS):
        library.impl(name, _norm, "AutocastCPU", **_OVERRIDING)
    for name in sorted(there & WIDEST):
        library.impl(name, _in_widest(_operator(name)), "AutocastCPU", **_OVERRIDING)
    # Where the CPU's kernel does the same, its cache of weights serves all.
    for name in sorted(there & IN_HALF - here):
        library.impl(name, _casting(_operator(name), functools.partial(_to_half, cache)), "AutocastCPU")
    for name in sorted(here - there - _KEPT):
        library.impl(name, torch.library.fallthrough_kernel, "AutocastCPU", **_OVERRIDING)


_KEPT = {"mkldnn_rnn_layer"}
"""No operator of a GPU, but what stands for one."""
_OVERRIDING = {"allow_override": True}


def _operator(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


@functools.cache
def _autocast_keys() -> Any:
    return torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


def _casting(operator: Any, cast: Callable[[Any], Any]) -> Kernel:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_autocast_keys()):
            return operator(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})

    return kernel


def _with_single_result(operator: Any) -> Kernel:
    positions = [argument.name for argument in operator._schema.arguments if not argument.kwarg_only]

    def kernel(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(positions, args, strict=False)) | kwargs
        first = args[0]
        with torch._C._ExcludeDispatchKeyGuard(_autocast_keys()):
            if given.get("dtype") is None and first.is_floating_point() and first.dtype != torch.float64:
                given["dtype"] = torch.float32
            return operator(**given)

    return kernel


def _norm(input_: Tensor, p: Any = 2, dim: Any = (), keepdim: bool = False) -> Tensor:
    with torch._C._ExcludeDispatchKeyGuard(_autocast_keys()):
        dtype = torch.float32 if input_.dtype in HALF else input_.dtype
        result: Tensor = torch.ops.aten.norm.ScalarOpt_dim_dtype(input_, p, dim, keepdim, dtype=dtype)
        return result


def _in_widest(operator: Any) -> Kernel:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        floating = [a for a in tensors_in((*args, *kwargs.values())) if a.is_floating_point()]
        widen = any(a.dtype == torch.float32 for a in floating)
        with torch._C._ExcludeDispatchKeyGuard(_autocast_keys()):
            return operator(*map(_to_single, args), **kwargs) if widen else operator(*args, **kwargs)

    return kernel


def _to_single(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(torch.float32) if value.dtype in HALF else value
    return [_to_single(one) for one in value] if isinstance(value, list | tuple) else value


def _to_half(cache: Cache, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_to_half(cache, one) for one in value]
    dtype = torch.get_autocast_dtype("cpu")
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype in (torch.float64, dtype):
        return value
    keeps = value.dtype == torch.float32 and value.requires_grad and value.is_leaf and not value._is_view()
    if not keeps or not torch.is_autocast_cache_enabled():
        return value.to(dtype)
    if id(value) not in cache:
        cache[id(value)] = value, value.to(dtype)
    return cache[id(value)][1]
