"""Where a device allocates otherwise than the fake tensors of trace.py, which behave like a CPU.

Each rule is one small function that names its source. There are three kinds of them:

- an operator is replaced by one that allocates what the device's own implementation does (``cuda_calls``);
- an operator uses memory while it runs that no tensor shows (``Scratch``);
- an output's size is not known to fake tensors (``mkldnn_rnn_workspace``), or its layout is another one.

What cannot be known without the GPU is marked ``uncertain``: a prediction is made without it (low) and with it (high).
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.predict.attention import SCRATCH as ATTENTION
from bench.predict.attention import attention_scratch
from bench.predict.cuda_calls import cuda_calls
from bench.predict.matrix_products import (
    CUBLASLT_WORKSPACE_BYTES,
    GEMMS,
    copied_bytes,
    cublas_workspace_bytes,
    lt_workspace_is_apart,
    uses_cublaslt,
)
from bench.predict.reductions import REDUCTIONS, Multiprocessors, scratch_of_reduction
from bench.predict.releases import (
    FOREACH_BY_DEFAULT,
    GRADIENTS_SET_TO_NONE,
    RETURNS_WORKSPACE,
    Release,
    release_of,
)
from bench.torch_internals.dispatch import outside_modes

aten = torch.ops.aten


class Scratch(NamedTuple):
    """Memory that an operator uses while it runs.

    Attributes:
        size_bytes: how much.
        is_first: whether it is there before the result is.
        uncertain: whether it is a bound instead of a known number.
        kept_as: what it stays as, once for the forward and once for the backward pass, whose threads share none; empty
            if it goes.
    """

    size_bytes: int
    is_first: bool = False
    uncertain: bool = False
    kept_as: str = ""


@dataclass(frozen=True)
class Rules:
    """How a device differs.

    Attributes:
        name: of the device, for the reader.
        functions: makes a context in which operators are replaced; None for none.
        scratch: ``(operator, arguments, result)`` -> scratch of that call.
        outputs: ``(operator, arguments)`` -> true size in bytes of outputs, by position.
        layout: ``(operator, arguments, result)`` -> the result as the device lays it out.
        made_of_others: operators whose parts allocate, too, which fake tensors do not show.
        foreach: whether the optimizer works on all tensors of a group at once. It is the default for CUDA tensors, and
            costs intermediate results of the whole group's size (``torch.optim.Optimizer``, ``foreach``).
        gradients_to_none: whether ``zero_grad`` gives gradients up by default, instead of writing zeros.
        host_memory: whether the tensors that a GPU run keeps in the host's memory count.
        flat_lstm: whether the weights of an LSTM are moved into one allocation, as cuDNN wants them
            (``nn.LSTM.flatten_parameters``).
    """

    name: str
    functions: Callable[[], AbstractContextManager[None]] | None
    scratch: Callable[[Any, Sequence[Any], Any], Iterator[Scratch]]
    outputs: Callable[[Any, Sequence[Any]], Mapping[int, int]]
    layout: Callable[[Any, Sequence[Any], Any], Any]
    made_of_others: frozenset[Any]
    foreach: bool
    gradients_to_none: bool
    host_memory: bool
    flat_lstm: bool


def cpu() -> Rules:
    """Rules of a CPU: the trace as it is. They serve the checks against really executed steps."""
    return Rules(
        name="cpu",
        functions=None,
        scratch=lambda operator, arguments, result: iter(()),
        outputs=mkldnn_rnn_workspace,
        layout=lambda operator, arguments, result: result,
        made_of_others=frozenset(),
        foreach=False,
        gradients_to_none=True,
        host_memory=True,
        flat_lstm=False,
    )


DEFAULT_CAPABILITY = (8, 0)
DEFAULT_MULTIPROCESSORS = 108
"""Of the GPU predicted for where none is named: an A100's."""


def cuda(
    compute_capability: tuple[int, int] = DEFAULT_CAPABILITY,
    torch_release: Release | None = None,
    multiprocessors: int = DEFAULT_MULTIPROCESSORS,
) -> Rules:
    """Rules of a CUDA GPU, for torch's default settings (``cudnn.benchmark`` off, no workspace variables set).

    Args:
        compute_capability: of the GPU.
        torch_release: of the torch that is to run there, (2, 15) for instance; None: the one that is here.
        multiprocessors: how many the GPU has; it decides how a sum is shared out.
    """
    release = torch_release or release_of(torch.__version__)
    workspace = cublas_workspace_bytes(compute_capability, release)
    returned, apart = release >= RETURNS_WORKSPACE, lt_workspace_is_apart(release)
    gpu = Multiprocessors.of_gpu(multiprocessors, compute_capability)

    def matrix_product(operator: Any, arguments: Sequence[Any]) -> Iterator[Scratch]:
        lt = operator is aten.addmm.default and uses_cublaslt(*arguments[:3])
        if returned:
            yield Scratch(CUBLASLT_WORKSPACE_BYTES if lt else workspace)
        else:
            yield Scratch(workspace, kept_as="cuBLAS")
            if lt and apart:
                yield Scratch(CUBLASLT_WORKSPACE_BYTES, kept_as="cuBLASLt")
        yield Scratch(sum(copied_bytes(arguments[position]) for position in GEMMS[operator]))

    def scratch(operator: Any, arguments: Sequence[Any], result: Any) -> Iterator[Scratch]:
        for position in READS_IN_ORDER.get(operator, ()):
            if not arguments[position].is_contiguous():
                yield Scratch(_bytes(arguments[position]), is_first=True)
        if operator in GEMMS:
            yield from matrix_product(operator, arguments)
        elif operator in REDUCTIONS:
            partial, counters = scratch_of_reduction(operator, arguments, result, gpu)
            yield Scratch(partial + -(-counters // 512) * 512 if partial else 0)
        elif operator is aten._softmax_backward_data.default:
            # The product of gradient and result (aten/src/ATen/native/cuda/SoftMax.cu, softmax_backward_cuda_out).
            yield Scratch(_bytes(arguments[0]))
        elif operator in ATTENTION:
            yield from map(Scratch, attention_scratch(operator, arguments, multiprocessors))
        elif operator is aten.convolution.default:
            yield from convolution_scratch(arguments, result)
        elif operator is aten.convolution_backward.default:
            yield from convolution_backward_scratch(arguments, result)

    return Rules(
        name=f"cuda sm_{compute_capability[0]}{compute_capability[1]}",
        functions=functools.partial(cuda_calls, release),
        scratch=scratch,
        outputs=statistics_of_batch_norm,
        layout=cuda_layout,
        made_of_others=MADE_OF_OTHERS,
        foreach=release >= FOREACH_BY_DEFAULT,
        gradients_to_none=release >= GRADIENTS_SET_TO_NONE,
        host_memory=False,
        flat_lstm=True,
    )


READS_IN_ORDER = {
    aten.native_layer_norm.default: (0,),
    aten.native_layer_norm_backward.default: (0, 1),
    aten._softmax.default: (0,),
    aten._log_softmax.default: (0,),
    aten._softmax_backward_data.default: (0,),
    aten._log_softmax_backward_data.default: (0, 1),
}
"""Operators that copy operands which are not contiguous, and which of them (aten/src/ATen/native/cuda/SoftMax.cu,
layer_norm_kernel.cu)."""

MADE_OF_OTHERS = frozenset({aten._safe_softmax.default, aten.logsumexp.default})
"""Operators that are made of others below autograd (``CompositeExplicitAutograd`` in native_functions.yaml)."""


def convolution_scratch(arguments: Sequence[Any], result: Tensor) -> Iterator[Scratch]:
    """Yield what cuDNN's forward convolution uses while it runs.

    Operands that are not contiguous, or channels-last where one of them is, are copied first
    (aten/src/ATen/native/cudnn/ConvShared.cpp). The algorithm's own
    workspace depends on the algorithm that cuDNN's heuristics choose, which cannot be asked without the GPU. The bound:
    its tensor-core kernels work channels-last, so in the worst usual case each operand (input, weight, output) is
    converted once. FFT and Winograd algorithms may take more, and torch sets no limit.
    """
    yield from _copies(arguments[:2])
    yield Scratch(sum(map(_bytes, (*arguments[:2], result))), uncertain=True)


def convolution_backward_scratch(arguments: Sequence[Any], result: Sequence[Tensor | None]) -> Iterator[Scratch]:
    """Yield what cuDNN's backward convolutions use, one after the other: gradient of the input, then of the weight.

    The basis is that of ``convolution_scratch``.
    """
    gradient, input_, weight = arguments[:3]
    yield from _copies((gradient, input_, weight))
    of_input, of_weight = result[0], result[1]
    if of_input is not None:
        yield Scratch(sum(map(_bytes, (gradient, weight, of_input))), uncertain=True)
    if of_weight is not None:
        yield Scratch(sum(map(_bytes, (gradient, input_, of_weight))), uncertain=True)


def _copies(operands: Sequence[Tensor]) -> Iterator[Scratch]:
    wanted = _common_format(operands)
    for operand in operands:
        if not operand.is_contiguous(memory_format=wanted):
            yield Scratch(_bytes(operand), is_first=True)


def _common_format(operands: Sequence[Tensor]) -> torch.memory_format:
    """Return the format in which cuDNN takes a convolution's operands: channels-last where one of them is."""
    channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(operands[0].dim())
    if channels_last is not None and any(_is_only(operand, channels_last) for operand in operands):
        return channels_last
    return torch.contiguous_format


def _is_only(operand: Tensor, memory_format: torch.memory_format) -> bool:
    return operand.is_contiguous(memory_format=memory_format) and not operand.is_contiguous()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


BATCH_NORMS = {aten.native_batch_norm.default, aten._native_batch_norm_legit_no_training.default}


def statistics_of_batch_norm(operator: Any, arguments: Sequence[Any]) -> Mapping[int, int]:
    """Return the sizes of what BatchNorm keeps for its backward pass, in fp32, where it is not cuDNN's.

    torch's own kernels serve half precision; evaluation or not, they keep mean and inverse deviation of every channel
    (aten/src/ATen/native/cuda/Normalization.cu). A CPU's keep nothing in evaluation, as cuDNN.
    """
    if operator not in BATCH_NORMS or arguments[0].dtype == torch.float32:
        return {}
    return dict.fromkeys((1, 2), 4 * arguments[0].shape[1])


def cuda_layout(operator: Any, arguments: Sequence[Any], result: Any) -> Any:
    """Return an operator's result in the memory format that it has on a GPU.

    cuDNN's convolutions keep the format of their operands (a CPU's, only some, depending on its threads). The gradient
    of a BatchNorm in evaluation is contiguous, whatever its input is: ``batch_norm_backward_cuda``
    (aten/src/ATen/native/cuda/Normalization.cu).
    """
    if operator is aten.convolution.default:
        return result.contiguous(memory_format=_common_format(arguments[:2]))
    if operator is aten.convolution_backward.default:
        wanted = _common_format(arguments[:3])
        of_operands = (None if part is None else part.contiguous(memory_format=wanted) for part in result[:2])
        return *of_operands, result[2]
    if operator is aten.native_batch_norm_backward.default and not arguments[7] and result[0] is not None:
        return result[0].contiguous(), *result[1:]
    return result


def mkldnn_rnn_workspace(operator: Any, arguments: Sequence[Any]) -> Mapping[int, int]:
    """Return the size of what a CPU's LSTM keeps for its backward pass, which fake tensors take for empty.

    oneDNN does not document it, so the layer is run once on zeros of the same shapes.
    """
    if operator is not aten.mkldnn_rnn_layer.default:
        return {}
    with outside_modes():
        real = [torch.zeros(a.shape, dtype=a.dtype) if isinstance(a, Tensor) else a for a in arguments]
        workspace = operator(*real)[3]
        # In inference nothing is kept.
        return {} if workspace is None else {3: workspace.untyped_storage().nbytes()}
