"""The parts of torch without a promise of stability that we need, in one place, and a probe of those that trace.

A release of torch that changes one of them must stop the prediction, never shift it silently: ``probe`` runs once
before the first trace.
"""

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

__all__ = [
    "FakeTensorMode",
    "SteppingScaler",
    "TorchDispatchMode",
    "adds_in_place",
    "asks_for_device",
    "device_of",
    "dump_history",
    "fake_mode",
    "on_out_of_memory",
    "probe",
    "reads_a_value",
    "really",
    "record_history",
    "stop_history",
    "storage_id",
]


class PrivateApiError(RuntimeError):
    """This release of torch does not behave as the tracing needs."""


class SteppingScaler(torch.amp.GradScaler):
    """A gradient scaler that never skips a step. The true one reads a flag from the device, which has no value here."""

    def _maybe_opt_step(self, optimizer: torch.optim.Optimizer, optimizer_state: Any, *args: Any, **kwargs: Any) -> Any:
        return optimizer.step(*args, **kwargs)


class _FakeMode(FakeTensorMode):
    """Fake tensors whose operators are computed once for all arguments of the same types, shapes and strides.

    torch's own memory of that is left aside. It serves sparse, symbolic and many other tensors, and so many questions
    took most of a trace's time; and it forgets that outputs may share a storage.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.cache_enabled = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            described: list[Any] = [func, torch.get_default_dtype(), torch.is_inference_mode_enabled()]
            _describe(args, described)
            for name, value in (kwargs or {}).items():
                if isinstance(value, Tensor):
                    raise _UnlikeOthersError
                described.append(name)
                _describe((value,), described)
            key = tuple(described)
            known = _KNOWN_RESULTS.get(key)
        except (_UnlikeOthersError, TypeError):
            # A TypeError: something that cannot be a key.
            return super().__torch_dispatch__(func, types, args, kwargs)
        if known is not None:
            with torch._C.DisableTorchFunction():
                return self._made(known, args)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if isinstance(func, torch._ops.OpOverload) and not DEPENDS_ON_MORE.intersection(func.tags):
            with contextlib.suppress(_UnlikeOthersError), torch._C.DisableTorchFunction():
                _KNOWN_RESULTS[key] = self._recipe(result, args, set())
        return result

    def _made(self, recipe: "_Recipe", args: Any) -> Any:
        """Return a result like the one that a recipe was taken from."""
        if isinstance(recipe, _New):
            element = torch.empty_strided(recipe.shape, recipe.strides, dtype=recipe.dtype, device="meta")
            return FakeTensor(self, element, recipe.device)
        if isinstance(recipe, _View):
            element = torch.empty((), dtype=recipe.dtype, device="meta")
            element.set_(args[recipe.position].untyped_storage(), recipe.offset, recipe.shape, recipe.strides)
            return FakeTensor(self, element, recipe.device)
        if isinstance(recipe, _Argument):
            return args[recipe.position]
        if isinstance(recipe, _Several):
            parts = [self._made(part, args) for part in recipe.parts]
            return parts if recipe.is_list else tuple(parts)
        return None

    def _recipe(self, result: Any, args: Any, storages: set[int]) -> "_Recipe":
        """Return how to make such a result; ``storages`` are those of the outputs before."""
        if result is None:
            return _Nothing()
        if isinstance(result, list | tuple):
            return _Several(isinstance(result, list), tuple(self._recipe(part, args, storages) for part in result))
        if not isinstance(result, FakeTensor) or result.constant is not None:
            raise _UnlikeOthersError
        storage = storage_id(result)
        shape, strides, offset = result.shape, result.stride(), int(result.storage_offset())
        recipe: _Recipe = _New(shape, strides, result.dtype, result.fake_device)
        for position, argument in enumerate(args):
            if argument is result:
                return _Argument(position)
            if isinstance(argument, Tensor) and storage_id(argument) == storage:
                recipe = _View(position, shape, strides, offset, result.dtype, result.fake_device)
                break
            if isinstance(argument, list | tuple) and any(
                isinstance(part, Tensor) and storage_id(part) == storage for part in argument
            ):
                raise _UnlikeOthersError
        made = self._made(recipe, args)
        same_size = made.untyped_storage().nbytes() == result.untyped_storage().nbytes()
        if storage in storages or not same_size or made.storage_offset() != offset or _kind(made) != _kind(result):
            raise _UnlikeOthersError
        if isinstance(recipe, _New):
            storages.add(storage)
        return recipe


DEPENDS_ON_MORE = {torch.Tag.inplace_view, torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""Operators with such a tag change more than values, or return what only values decide."""


class _UnlikeOthersError(Exception):
    """Of this call nothing can be learnt for others, or it cannot be told which are like it."""


class _New(NamedTuple):
    """A tensor with a storage of its own."""

    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class _View(NamedTuple):
    """A view of the argument at a position."""

    position: int
    shape: torch.Size
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    device: torch.device


class _Argument(NamedTuple):
    """The very argument at a position."""

    position: int


class _Several(NamedTuple):
    """A list or a tuple of results."""

    is_list: bool
    parts: tuple["_Recipe", ...]


class _Nothing(NamedTuple):
    """None."""


_Recipe = _New | _View | _Argument | _Several | _Nothing

_KNOWN_RESULTS: dict[tuple[Any, ...], _Recipe] = {}


def _describe(args: Any, described: list[Any]) -> None:
    """Add what decides about the shapes of an operator's results."""
    for argument in args:
        if isinstance(argument, Tensor):
            if not isinstance(argument, FakeTensor) or argument.constant is not None:
                raise _UnlikeOthersError
            described += (
                argument.shape,
                argument.stride(),
                argument.storage_offset(),
                argument.dtype,
                argument.fake_device,
                _kind(argument),
            )
        elif isinstance(argument, list | tuple):
            described.append(len(argument))
            _describe(argument, described)
        elif isinstance(argument, torch.Generator):
            raise _UnlikeOthersError
        else:
            # 1 and 1.0 are equal, but make tensors of different types.
            described += (type(argument), argument)


def _kind(tensor: Tensor) -> int:
    """Return what dispatch decides by: dense or sparse, conjugated, made in inference mode ..."""
    return int(torch._C._dispatch_keys(tensor).raw_repr())


def fake_mode() -> FakeTensorMode:
    """Return a new mode. What operators make of which shapes is remembered by all of them: a second trace is faster."""
    return _FakeMode()


def really() -> AbstractContextManager[object]:
    """Return a context in which operators run on real tensors, from within a mode."""
    return _disable_current_modes()


def storage_id(tensor: Tensor) -> int:
    """Return the identity of a tensor's storage: equal for views, and reused once the storage has died."""
    return int(tensor.untyped_storage()._cdata)


def reads_a_value(operator: Any) -> bool:
    """Tell whether an operator brings a tensor's value to the host, which a fake tensor does not have."""
    return operator is torch.ops.aten._local_scalar_dense.default


def asks_for_device(operator: Any) -> bool:
    """Tell whether an operator asks a tensor where it lies, which a fake tensor answers itself."""
    return operator is torch.ops.prim.device.default


def device_of(tensor: Tensor) -> torch.device:
    """Return where a fake tensor pretends to lie, without dispatching the question."""
    assert isinstance(tensor, FakeTensor)
    return tensor.fake_device


AROUND_A_MODE = {__name__, "bench.predict.trace", "torch._compile", "torch._dynamo.eval_frame"}
"""Modules whose functions lie between an operator's caller and the mode that sees it."""


def adds_in_place(operator: Any, args: Any) -> bool:
    """Tell whether autograd would add to a gradient in place, if its tensors were true ones; ask while it does.

    Its engine does so where nobody else holds that gradient, but never to an instance of a subclass, as fake tensors
    are (torch/csrc/autograd/input_buffer.cpp, ``can_accumulate_inplace``).
    """
    if operator is not torch.ops.aten.add.Tensor or not _is_engines_call():
        return False
    return _holders(args[0]) <= _holders_of_a_lone_gradient() and _is_dense(args[0])


def _is_dense(tensor: Tensor) -> bool:
    """Tell whether a tensor fills its memory without gaps, in whatever order of its dimensions."""
    below = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != below:
                return False
            below *= size
    return True


def _is_engines_call() -> bool:
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"] in AROUND_A_MODE:
        frame = frame.f_back
    return frame.f_code is torch.autograd.graph._engine_run_backward.__code__


def _holders(tensor: Tensor) -> int:
    """Return how many hold a tensor or its storage; the caller's own call counts, too."""
    return int(tensor._use_count()) + int(torch._C._storage_Use_Count(storage_id(tensor)))


@functools.cache
def _holders_of_a_lone_gradient() -> int:
    found = _holders_while_adding(lambda x: x * 1 + x * 2)
    _require(len(found) == 1, "autograd adds gradients by an operator")
    return found[0]


def _holders_while_adding(function: Callable[[Tensor], Tensor]) -> list[int]:
    """Return the holders of the gradients that are added to while a function of one tensor is differentiated."""
    found: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.add.Tensor and _is_engines_call():
                found.append(_holders(args[0]))
            return func(*args, **(kwargs or {}))

    with really(), fake_mode(), Watch():
        function(torch.ones(2, 3, requires_grad=True)).sum().backward()
    return found


def is_composite(operator: Any) -> bool:
    """Tell whether an operator only calls others. Autograd takes those apart; in inference mode nobody does."""
    return bool(operator.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd))


def on_out_of_memory(observer: Callable[[int, int, int, int], None]) -> str | None:
    """Let CUDA's allocator call ``observer`` just before it raises ``torch.OutOfMemoryError``.

    Args:
        observer: gets the device's number, the bytes that the driver was asked for, the device's bytes in all, and
            those that are free.

    Returns:
        Why that is not possible; None if it is.
    """
    attach = getattr(torch._C, "_cuda_attach_out_of_memory_observer", None)
    if attach is None:
        return f"torch {torch.__version__} does not tell what was asked for"
    attach(observer)
    return None


def record_history(frames: bool) -> None:
    """Let CUDA's allocator write down what it does from now on, with or without the Python stack of every request."""
    context = "alloc" if frames else None
    torch.cuda.memory._record_memory_history(enabled="all", context=context, stacks="python")


def dump_history(path: Path) -> None:
    """Write what was recorded, in the format of torch's memory visualiser (https://pytorch.org/memory_viz)."""
    torch.cuda.memory._dump_snapshot(str(path))


def stop_history() -> None:
    """Record no more."""
    torch.cuda.memory._record_memory_history(enabled=None)


@functools.cache
def probe() -> None:
    """Check every assumption on a few bytes.

    Raises:
        PrivateApiError: naming the assumption that does not hold.
    """
    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return 1.0 if reads_a_value(func) else func(*args, **(kwargs or {}))

    with fake_mode(), Watch():
        tensor = torch.ones(3, 5)
        view = tensor[1:]
        _require(tensor.untyped_storage().nbytes() == 60, "a fake tensor's storage has the size of a real one")
        _require(device_of(tensor) == tensor.device, "a fake tensor knows its device")
        for again in (view, tensor[1:]):
            _require(storage_id(tensor) == storage_id(again), "views of a fake tensor share its storage")
        del again
        ended: list[None] = []
        reference = weakref.ref(tensor.untyped_storage(), lambda _: ended.append(None))
        del tensor
        _require(not ended, "a storage lives as long as its last view")
        _require(view.sum().item() == 1.0, "reading a value can be answered by a dispatch mode")
        del view
        _require(bool(ended) and reference() is None, "the end of a fake tensor's storage can be observed")
        first, second = _holders_while_adding(_with_a_shared_gradient)
        _require(first > second == _holders_of_a_lone_gradient(), "it can be counted who holds a gradient")
        weight = torch.nn.Parameter(torch.ones(2, 2))
        (torch.randperm(2, generator=torch.Generator()).float() @ weight).sum().backward()
        with really():
            _require(torch.ones(2).sum().item() == 2.0, "the modes can be left for a while")
        _require(weight.grad is not None, "a backward pass runs on fake tensors")
    _require("aten.mv.default" in seen or "aten.mm.default" in seen, "a dispatch mode sees the operators")
    _require(callable(getattr(torch.amp.GradScaler, "_maybe_opt_step", None)), "GradScaler has _maybe_opt_step")


def _with_a_shared_gradient(x: Tensor) -> Tensor:
    one, other = x * 1, x.sin()
    later = one.exp()
    # When the gradient of one is added to that of later, it still waits for other, too.
    return (one + other) + later


def _require(holds: bool, assumption: str) -> None:
    if not holds:
        raise PrivateApiError(f"torch {torch.__version__}: it no longer holds that {assumption}; see bench/predict")
