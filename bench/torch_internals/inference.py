"""Inference mode for tracing: what matters of it for memory, without what hides from a dispatch mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class _AsNoGrad:
    """Stands in for ``torch._C._InferenceMode``.

    In inference mode an operator made of others reaches a dispatch mode whole, and only below autocast; so none of its
    parts could be cast any more. Without gradients it comes in its parts. Autocast keeps no weights in inference mode.
    """

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        if self._enabled:
            self._cached = torch.is_autocast_cache_enabled()
            torch.set_autocast_cache_enabled(False)
            self._no_grad = torch.no_grad()
            self._no_grad.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self._enabled:
            self._no_grad.__exit__(*error)
            torch.set_autocast_cache_enabled(self._cached)


@contextmanager
def inference_in_parts() -> Iterator[None]:
    """Inside, ``torch.inference_mode`` only does without gradients and without autocast's cache of weights."""
    true = torch._C._InferenceMode
    torch._C._InferenceMode = _AsNoGrad  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        torch._C._InferenceMode = true  # type: ignore[misc]
