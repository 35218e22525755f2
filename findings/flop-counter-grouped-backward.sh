#!/usr/bin/env bash
# torch's FLOP counter says that the backward pass of a depthwise convolution costs 65 times its forward pass.
# torch 2.14.1, `torch.utils.flop_counter`; the script installs torch, 5 GB.
# One would guess that a backward pass costs twice the forward pass, one product for the input's gradient and one for
# the weight's, with groups or without, and the counter's forward count does know the groups. Its formula for the
# weight's gradient does not: it counts as many times too much as there are groups. So 4 groups give 5 instead of 2
# times the forward count, and 64 groups, a depthwise convolution of 64 channels, 65.
# Why it matters: adapters, X3D, CSN, MobileNet-like and ConvNeXt-like encoders are depthwise. Their training FLOP, and
# a utilisation (MFU) derived from it, come out many times too high, while inference is right.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.utils.flop_counter import FlopCounterMode

print("torch", torch.__version__)
batch, channels, length, kernel = 2, 64, 100, 3


def count(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


for groups in (1, 4, 64):
    convolution = torch.nn.Conv1d(channels, channels, kernel, padding=1, groups=groups)
    clip = torch.randn(batch, channels, length, requires_grad=True)
    forward = count(lambda: convolution(clip))
    backward = count(lambda: convolution(clip).sum().backward()) - forward
    print(f"{groups} groups: forward {forward}, backward {backward}, ratio {backward / forward:g}")
    assert forward == 2 * batch * length * channels * channels * kernel // groups
    # One for the input's gradient, and as many as there are groups for the weight's.
    assert backward == (1 + groups) * forward
PYTHON
