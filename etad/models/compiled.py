"""Modules compiled, and a forward pass as a CUDA graph."""

import os
import shutil
import sys
from typing import Any

import torch
from torch import Tensor, nn

from etad.errors import ConfigError

WARM_UP_CALLS = 3
"""Calls before a capture, in which libraries choose their algorithms and take their workspaces."""


def compile_module(module: nn.Module) -> None:
    """Compile a module with ``torch.compile``, in place: names and parameters stay.

    Chunks have one shape, but for the last one, so each is compiled for its own shapes.

    Raises:
        ConfigError: there is no C++ compiler, which torch.compile needs.
    """
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(f"efficiency.compile: no C++ compiler ({compiler}) is here; install one, or set it to false")
    module.compile(dynamic=False)


class GraphedForward:
    """A module's forward pass without gradient, replayed from a CUDA graph for every shape that it is given.

    The graph reads the parameters where they lie, and so follows their updates. The output is a copy.

    Args:
        module: on a GPU; its output must depend on its input and parameters alone.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._graphs: dict[tuple[Any, ...], _Graph] = {}
        self._pool: Any = None

    def __call__(self, x: Tensor, *arguments: Any) -> Tensor:
        """Call the module with ``x`` and what else it takes, which has to be hashable."""
        precision = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = (tuple(x.shape), x.stride(), x.dtype, precision, *arguments)
        if key not in self._graphs:
            self._graphs[key] = self._capture(x, arguments)
        graph = self._graphs[key]
        graph.input_.copy_(x, non_blocking=True)
        graph.graph.replay()
        return graph.output.clone()

    def _capture(self, x: Tensor, arguments: tuple[Any, ...]) -> "_Graph":
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph, input_ = torch.cuda.CUDAGraph(), x.clone()
        # Weights in half precision that autocast had cached before would be read after they are gone.
        dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
        with torch.autocast("cuda", dtype=dtype, enabled=enabled, cache_enabled=False):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP_CALLS):
                    self._module(input_, *arguments)
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(graph, pool=self._pool):
                output = self._module(input_, *arguments)
        return _Graph(graph, input_, output)


class _Graph:
    """A captured call, with the memory that it reads and writes."""

    def __init__(self, graph: torch.cuda.CUDAGraph, input_: Tensor, output: Tensor) -> None:
        self.graph, self.input_, self.output = graph, input_, output
