"""Operators that do something else for a while."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch


@contextmanager
def replaced_kernels(key: str, kernels: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Inside, torch's dispatcher calls other functions.

    Args:
        key: dispatch key for which it does, as ``AutogradCPU``.
        kernels: by name of operator, without "aten::".
    """
    library = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():
            # That kernels are replaced, which some releases tell.
            warnings.simplefilter("ignore", UserWarning)
            for name, kernel in kernels.items():
                library.impl(name, kernel, key, allow_override=True)
        yield
    finally:
        library._destroy()


def below_autograd() -> AbstractContextManager[Any]:
    """Return a context in which a replaced kernel of autograd may call the operator that it stands for."""
    context: AbstractContextManager[Any] = torch._C._AutoDispatchBelowAutograd()
    return context
