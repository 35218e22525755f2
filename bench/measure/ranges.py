"""Phases as named ranges in a profile: torch's, and on a GPU NVIDIA's (NVTX), which Nsight Systems shows."""

from contextlib import ExitStack

import torch
from torch.profiler import record_function

from etad.phases import Phase


class PhaseRanges:
    """A step's listener (see etad.phases.Listener).

    Args:
        prefix: begins every range's name, so that they can be told from others.
        nvtx: mark NVTX ranges, too; needs CUDA.
    """

    def __init__(self, prefix: str, nvtx: bool) -> None:
        self._prefix, self._nvtx = prefix, nvtx
        self._open = ExitStack()

    def begin(self, phase: Phase) -> None:
        """Open the range of ``phase``."""
        name = f"{self._prefix}{phase}"
        if self._nvtx:
            self._open.enter_context(torch.cuda.nvtx.range(name))
        self._open.enter_context(record_function(name))

    def end(self, phase: Phase) -> None:
        """Close it."""
        self._open.close()
