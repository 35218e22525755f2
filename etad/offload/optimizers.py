"""Adam and AdamW whose moments are stored elsewhere, or smaller, than torch stores them.

The update itself is torch's fused kernel. It gets one parameter at a time, with moments that come out of storage for it
and go back: from host memory (``OffloadedAdam``), or from eight bits a number (``Int8Adam``).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from etad.offload.placement import Placement

BLOCK = 256
"""Numbers that share a scale."""
POWER = 3
"""A code c stands for (c / levels) to this power, in parts of the block's largest number: fine steps near zero."""
LEVELS = {torch.int8: 127, torch.uint8: 255}
MOMENTS = ("exp_avg", "exp_avg_sq")


class StoredAdam(torch.optim.Optimizer):
    """Adam (or AdamW) with its moments in storage between updates; subclasses say where.

    Args:
        groups: parameter groups with their ``lr``.
        decoupled: weight decay as in AdamW; otherwise as in Adam.
        weight_decay: of all groups.
        placement: moves what is stored.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], decoupled: bool, weight_decay: float, placement: Placement
    ) -> None:
        self._placement = placement
        defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": weight_decay}
        super().__init__(groups, {**defaults, "decoupled_weight_decay": decoupled})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. ``closure`` is not supported."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def state_dict(self) -> dict[str, Any]:
        """Return the state dict; what it holds is complete."""
        self._placement.wait()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict. Each tensor goes into storage at once, in its own type, and never to the device whole.

        Raises:
            ValueError: it belongs to other parameters, or to an optimizer that stores its moments in another way.
        """
        super().load_state_dict({**state_dict, "state": {}})
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            saved = state_dict["state"].get(number)
            if saved is None:
                continue
            state = self._new_state(parameter)
            if saved.keys() != state.keys():
                raise ValueError(f"an optimizer state of {', '.join(saved)}, not of {', '.join(state)}")
            for name, tensor in state.items():
                tensor.copy_(saved[name])
            self.state[parameter] = state

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state.update(self._new_state(parameter))
        moments = [self._fetch(state, name, parameter) for name in MOMENTS]
        beta1, beta2 = group["betas"]
        adam(
            [parameter],
            [parameter.grad],
            [moments[0]],
            [moments[1]],
            [],
            [state["step"]],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
            decoupled_weight_decay=group["decoupled_weight_decay"],
        )
        for name in MOMENTS:
            # Out of the list, so that each is freed as soon as it is stored.
            self._store(state, name, moments.pop(0))

    def _new_state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        step = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return {"step": step, **self._empty_moments(parameter)}

    def _empty_moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return the storage of moments that are zero."""
        raise NotImplementedError

    def _fetch(self, state: dict[str, Tensor], name: str, parameter: nn.Parameter) -> Tensor:
        """Return a moment on the parameter's device, in its shape and type."""
        raise NotImplementedError

    def _store(self, state: dict[str, Tensor], name: str, moment: Tensor) -> None:
        """Put a moment into storage."""
        raise NotImplementedError


class OffloadedAdam(StoredAdam):
    """Keeps the moments in host memory. The update is that of torch's fused Adam, number for number."""

    def _empty_moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        return {name: self._placement.empty_on_host(parameter).zero_() for name in MOMENTS}

    def _fetch(self, state: dict[str, Tensor], name: str, parameter: nn.Parameter) -> Tensor:
        return self._placement.to_device(state[name])

    def _store(self, state: dict[str, Tensor], name: str, moment: Tensor) -> None:
        state[name].copy_(moment, non_blocking=True)


class Int8Adam(StoredAdam):
    """Keeps the moments in eight bits a number, with a scale for every block of ``BLOCK`` numbers.

    Of the second moment the root is kept, and never as zero: a number too small for its block is taken for the smallest
    that there is, which makes its step shorter and not infinite. Rounding is random, so that changes smaller than a
    level add up over the steps instead of being lost.
    """

    def _empty_moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        blocks = -(-parameter.numel() // BLOCK)
        state = {}
        for name, dtype in zip(MOMENTS, (torch.int8, torch.uint8), strict=True):
            state[f"{name}_codes"] = torch.zeros(blocks, BLOCK, dtype=dtype, device=parameter.device)
            state[f"{name}_scales"] = torch.zeros(blocks, 1, device=parameter.device)
        return state

    def _fetch(self, state: dict[str, Tensor], name: str, parameter: nn.Parameter) -> Tensor:
        codes = state[f"{name}_codes"]
        levels = codes / LEVELS[codes.dtype]
        values = levels.abs().pow_(POWER).mul_(levels.sign_()).mul_(state[f"{name}_scales"])
        if name == "exp_avg_sq":
            values.square_()
        moment = torch.empty_like(parameter)
        return moment.copy_(values.view(-1)[: parameter.numel()].view(parameter.shape))

    def _store(self, state: dict[str, Tensor], name: str, moment: Tensor) -> None:
        codes, scales = state[f"{name}_codes"], state[f"{name}_scales"]
        values = torch.zeros_like(codes, dtype=moment.dtype)
        values.view(-1)[: moment.numel()].view(moment.shape).copy_(moment)
        if name == "exp_avg_sq":
            values.sqrt_()
        scales.copy_(torch.linalg.vector_norm(values, torch.inf, dim=1, keepdim=True))
        # A block of zeros has no scale.
        values.div_(torch.where(scales == 0, 1.0, scales))
        values = values.abs().pow_(1 / POWER).mul_(LEVELS[codes.dtype]).copysign_(values)
        values.add_(torch.rand_like(values)).floor_()
        lowest = 1 if name == "exp_avg_sq" else -LEVELS[codes.dtype]
        codes.copy_(values.clamp_(lowest, LEVELS[codes.dtype]))
