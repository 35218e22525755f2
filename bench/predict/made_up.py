"""Made-up values where a network is built of fake tensors, or asks them for values."""

from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from bench.torch_internals.dispatch import TorchDispatchMode, reads_a_value


class Building(TorchDispatchMode):
    """Answers 0 to whoever reads a value.

    Some networks draw weights anew while any is out of range: 0 says that none is.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, or answer."""
        if reads_a_value(func):
            return 0.0 if args[0].is_floating_point() else 0
        return func(*args, **(kwargs or {}))


class MadeUpArrays(TorchFunctionMode):
    """Answers where numpy asks for a tensor's values: numbers of snippets in order, zeros otherwise."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function, or answer."""
        if func is torch.Tensor.numpy:
            shape = tuple(args[0].shape)
            if args[0].dtype == torch.int64:
                return np.broadcast_to(np.arange(shape[-1]), shape)
            return np.zeros(shape, np.float32)
        return func(*args, **(kwargs or {}))
