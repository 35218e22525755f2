"""Values of small tensors that a program makes of constants, such as lengths or a table of rates.

Fake tensors have no values. Yet a program may well read those it has just made of constants
(``torch.linspace(0, 0.2, 12).tolist()``), and build a network by them. So whatever is small and follows from constants
alone is computed besides. Random numbers are not known, nor is anything that depends on them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.torch_internals.dispatch import FakeTensor, outside_modes, storage_id
from bench.torch_internals.nested import tensors_in

MOST_BYTES = 65536
"""Size of the largest tensors that are followed."""


class KnownValues:
    """Real tensors with the values of fake ones, by the identity of their storages."""

    def __init__(self) -> None:
        self._real: dict[int, Tensor] = {}

    def follow(self, operator: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Compute what an operator makes, if all that it is given is known; forget what it may have changed if not."""
        given = list(tensors_in((args, kwargs)))
        known = all(self._knows(tensor) for tensor in given)
        if not known or torch.Tag.nondeterministic_seeded in operator.tags or operator.is_view:
            if operator._schema.is_mutable:
                self._forget_changed(operator, args, kwargs)
            return
        if not isinstance(result, Tensor) or result.untyped_storage().nbytes() > MOST_BYTES:
            return
        if storage_id(result) not in self._real or operator._schema.is_mutable:
            self._compute(operator, args, kwargs, result)

    def value_of(self, tensor: Tensor) -> float | int | None:
        """Return the value of a tensor of one element; None: not known."""
        if not self._knows(tensor):
            return None
        with outside_modes():
            value: float | int = self._as_real(tensor).item()
        return value

    def forget(self, identity: int) -> None:
        """Forget a storage, which ended."""
        self._real.pop(identity, None)

    def _compute(self, operator: Any, args: Any, kwargs: Any, result: Tensor) -> None:
        with outside_modes(), torch.no_grad():
            try:
                made = operator(*_mapped(args, self._as_real), **_mapped(kwargs, self._as_real))
            except (RuntimeError, TypeError, ValueError):
                self._forget_changed(operator, args, kwargs)
                return
        if storage_id(result) not in self._real and isinstance(made, Tensor) and made.stride() == result.stride():
            self._real[storage_id(result)] = made

    def _knows(self, tensor: Tensor) -> bool:
        return not isinstance(tensor, FakeTensor) or storage_id(tensor) in self._real

    def _as_real(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, FakeTensor):
            return tensor.detach()
        storage = self._real[storage_id(tensor)].untyped_storage()
        empty = torch.empty(0, dtype=tensor.dtype)
        return empty.set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())

    def _forget_changed(self, operator: Any, args: Any, kwargs: Any) -> None:
        for position, argument in enumerate(operator._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = args[position] if position < len(args) else kwargs.get(argument.name)
                for tensor in tensors_in(given):
                    self._real.pop(storage_id(tensor), None)


def _mapped(values: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(values, Tensor):
        return function(values)
    if isinstance(values, list | tuple):
        return type(values)(_mapped(value, function) for value in values)
    if isinstance(values, dict):
        return {name: _mapped(value, function) for name, value in values.items()}
    return values
