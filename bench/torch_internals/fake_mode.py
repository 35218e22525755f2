"""Fake tensors whose operators are computed once for all arguments of the same shapes."""

import contextlib
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from bench.torch_internals.dispatch import storage_id


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
