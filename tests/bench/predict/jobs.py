"""Jobs of any_step.py: small steps, each of which needs a rule."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def _training(
    model: nn.Module, loss: Callable[[], Tensor], device: str, autocast: torch.dtype | None = None
) -> tuple[nn.Module, Callable[[], None]]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, autocast or torch.bfloat16, enabled=autocast is not None):
            value = loss()
        value.backward()
        optimizer.step()

    return model, step


def linears(device: str) -> tuple[nn.Module, Callable[[], None]]:
    model = nn.Sequential(nn.Linear(512, 768), nn.ReLU(), nn.Linear(768, 512))
    return _training(model, lambda: model(torch.ones(16, 80, 512, device=device)).sum(), device)
