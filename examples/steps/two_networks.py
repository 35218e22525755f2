"""A training step of two networks against each other, with an optimizer each.

etad-bench memory --step examples/steps/two_networks.py:make_step --batch 64
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F


def make_step(batch: int = 32, width: int = 64, noise: int = 100) -> Callable[[], None]:
    generator = nn.Sequential(
        nn.ConvTranspose2d(noise, 2 * width, 4),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 4),
        nn.ReLU(),
        nn.Conv2d(width, 3, 3, padding=1),
        nn.Tanh(),
    ).cuda()
    critic = nn.Sequential(
        nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(2 * width * 16, 1),
    ).cuda()  # fmt: skip
    of_generator = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    of_critic = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=(0.5, 0.999))
    images = torch.randn(batch, 3, 16, 16, device="cuda")

    def step() -> None:
        made = generator(torch.randn(batch, noise, 1, 1, device="cuda"))
        of_critic.zero_grad()
        loss = F.softplus(-critic(images)).mean() + F.softplus(critic(made.detach())).mean()
        loss.backward()
        of_critic.step()
        of_generator.zero_grad()
        F.softplus(-critic(made)).mean().backward()
        of_generator.step()

    return step
