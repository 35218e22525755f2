"""A training step of a convolutional image classifier, as its author would write it: AMP with a scaler, SGD.

etad-bench memory --step examples/steps/image_classifier.py:make_step --batch 16,32 --hardware rtx_3060_laptop_6g
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F


def block(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


def make_step(batch: int = 16, size: int = 64, width: int = 32) -> Callable[[], None]:
    model = nn.Sequential(
        block(3, width, 2),
        block(width, 2 * width, 2),
        block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 1000),
    )
    model.cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler("cuda")
    images = torch.randn(batch, 3, size, size).to("cuda", memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.long, device="cuda")

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = F.cross_entropy(model(images), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    return step
