"""A program written for a CUDA GPU, run on a CPU's fake tensors: what it asks torch about the GPU is answered."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _device, _foreach_utils

from bench.torch_internals.dispatch import require


@contextmanager
def as_if_cuda(capability: tuple[int, int], memory_bytes: int, differentiating: Callable[[], Any]) -> Iterator[None]:
    """Let a program find a CUDA GPU, whose tensors a mode has to place (bench/predict/placing.py).

    Args:
        capability: compute capability of the GPU.
        memory_bytes: of the GPU, for a program that asks.
        differentiating: makes a context for every call of ``torch.autograd.backward`` and ``torch.autograd.grad``.
    """
    require(callable(getattr(torch.amp.GradScaler, "_maybe_opt_step", None)), "GradScaler has _maybe_opt_step")
    properties = SimpleNamespace(
        name="predicted",
        major=capability[0],
        minor=capability[1],
        total_memory=memory_bytes,
        multi_processor_count=0,
    )
    answers: dict[str, Any] = {
        "is_available": True,
        "is_bf16_supported": capability[0] >= 8,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": properties.name,
        "get_device_capability": capability,
        "get_device_properties": properties,
        "mem_get_info": (memory_bytes, memory_bytes),
        "memory_stats": {},
        "is_current_stream_capturing": False,
    }
    answers |= dict.fromkeys(
        ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"), 0
    ) | dict.fromkeys(
        (
            *("set_device", "synchronize", "empty_cache", "manual_seed", "manual_seed_all", "init", "ipc_collect"),
            *("reset_peak_memory_stats", "reset_max_memory_allocated"),
        )
    )
    with ExitStack() as patches:
        # What a step does wrong is raised, and need not be logged, too.
        patches.enter_context(patch.object(logging.getLogger(fake_tensor.__name__), "disabled", True))
        for name, answer in answers.items():
            patches.enter_context(patch.object(torch.cuda, name, _answering(answer)))
        # Optimizers ask whether a graph is captured, from torch 2.14 on in this way.
        stream = SimpleNamespace(is_capturing=_answering(False))
        patches.enter_context(patch.object(torch.accelerator, "current_stream", _answering(stream)))
        for name in ("range_push", "range_pop", "mark"):
            patches.enter_context(patch.object(torch.cuda.nvtx, name, _answering(None)))
        patches.enter_context(patch.object(torch.autocast, "__init__", _autocast_of_the_cpu(torch.autocast.__init__)))
        # A scaler reads from the device whether to skip the step, and what its scale is.
        patches.enter_context(patch.object(torch.amp.GradScaler, "_maybe_opt_step", _step))
        patches.enter_context(patch.object(torch.amp.GradScaler, "get_scale", _scale))
        # "foreach", which is the default for CUDA tensors, is refused for subclasses such as fake ones.
        patches.enter_context(
            patch.object(_foreach_utils, "_foreach_supported_types", [torch.Tensor, torch.nn.Parameter, FakeTensor])
        )
        # A module that is moved swaps its subclasses, which nobody may hold a weak reference to.
        patches.enter_context(patch.object(torch.utils, "swap_tensors", _take_data))
        # A default device lies at the bottom of the modes, where it would come too late.
        patches.enter_context(patch.object(_device.DeviceContext, "__torch_function__", _as_it_is))
        for name in ("backward", "grad"):
            wrapped = _within(differentiating, getattr(torch.autograd, name))
            patches.enter_context(patch.object(torch.autograd, name, wrapped))
        yield


def makes_tensors(function: Any) -> bool:
    """Tell whether a function makes tensors on the default device."""
    return function in _device._device_constructors()


def default_device() -> torch.device | None:
    """Return the device that ``torch.device(...)`` as a context, or ``torch.set_default_device``, has set."""
    return _device.CURRENT_DEVICE


def _answering(answer: Any) -> Callable[..., Any]:
    return lambda *_, **__: answer


def _as_it_is(_: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    return func(*args, **(kwargs or {}))


def _autocast_of_the_cpu(init: Any) -> Callable[..., None]:
    def as_cpu(self: Any, device_type: str, dtype: torch.dtype | None = None, *rest: Any, **more: Any) -> None:
        if str(device_type).partition(":")[0] == "cuda":
            device_type, dtype = "cpu", dtype or torch.float16
        init(self, device_type, dtype, *rest, **more)

    return as_cpu


def _take_data(tensor: torch.Tensor, other: torch.Tensor) -> None:
    tensor.data = other.data


def _step(_: Any, optimizer: torch.optim.Optimizer, optimizer_state: Any, *args: Any, **kwargs: Any) -> Any:
    return optimizer.step(*args, **kwargs)


def _scale(scaler: Any) -> float:
    return float(scaler._init_scale) if scaler.is_enabled() else 1.0


def _within(context: Callable[[], Any], function: Any) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with context():
            return function(*args, **kwargs)

    return call
