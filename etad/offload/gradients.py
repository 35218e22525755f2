"""The encoder's gradient, summed over the chunks outside ``parameter.grad``: in bf16, or in host memory.

Each chunk's gradient is taken as soon as autograd has it, so that the full-size, full-precision gradient of no more
than one parameter exists at a time. The optimizer then gets one parameter's sum after the other; it treats parameters
separately, so the update is the same.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from etad.offload.placement import Placement


class GradientSums:
    """Sums the gradients of parameters.

    Args:
        parameters: those whose gradients it takes; their ``grad`` stays None.
        kind: "bf16" rounds every sum to bf16, on the device; "offloaded" sums in the parameter's type on the host.
        placement: moves gradients.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], kind: Literal["bf16", "offloaded"], placement: Placement
    ) -> None:
        self._kind, self._placement = kind, placement
        self.sums: dict[nn.Parameter, Tensor] = {}
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._add)

    def pop(self, parameter: nn.Parameter) -> Tensor:
        """Return the sum for a parameter, on its device and in its type, and forget it."""
        return self._placement.to_device(self.sums.pop(parameter)).to(parameter.dtype)

    def average(self, total: Callable[[Tensor], Tensor], world: int) -> None:
        """Replace every sum by the mean over the processes; ``total`` adds a tensor over them."""
        for parameter in list(self.sums):
            mean = total(self._placement.to_device(self.sums.pop(parameter))) / world
            self.sums[parameter] = self._placement.to_host(mean) if self._kind == "offloaded" else mean

    def update(self, optimizer: torch.optim.Optimizer, clip_norm: float | None) -> None:
        """Update one parameter after the other, so that only one gradient is whole; the sums are used up.

        Args:
            optimizer: holds the parameters, and has no other gradient.
            clip_norm: largest norm of all gradients together; None: whatever it is.
        """
        factor = None if clip_norm is None else self._clip_factor(clip_norm)
        for parameter in list(self.sums):
            gradient = self.pop(parameter)
            parameter.grad = gradient if factor is None else gradient.mul_(factor.to(gradient.device))
            optimizer.step()
            parameter.grad = None

    def _clip_factor(self, norm: float) -> Tensor:
        """Return what gradients are multiplied by so that their norm together is at most ``norm``."""
        total = nn.utils.get_total_norm(self.sums.values())
        return (norm / (total + 1e-6)).clamp(max=1.0)

    def _add(self, parameter: Tensor) -> None:
        assert isinstance(parameter, nn.Parameter)
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        if self._kind == "offloaded":
            gradient = self._placement.to_host(gradient)
        if parameter in self.sums:
            # Into bf16 it is rounded once, after the addition.
            self.sums[parameter].add_(gradient)
        else:
            self.sums[parameter] = gradient.to(torch.bfloat16) if self._kind == "bf16" else gradient
