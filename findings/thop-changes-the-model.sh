#!/usr/bin/env bash
# Counting a model with thop leaves entries in its checkpoint, and turns its frozen norms back to training.
# thop 0.1.1.post2209072238 with torch 2.14.1; the script installs torch, 5 GB.
# One would guess that `thop.profile` only looks. It registers two float64 buffers in every module, and afterwards
# removes them only where it had a counting rule: the model itself, attention, activations and modules of one's own keep
# `total_ops` and `total_params`, so that a checkpoint saved later has unexpected keys and does not load into a fresh
# model. And it restores the mode by calling `train()` on the whole model: a batch norm that was put into eval() because
# the encoder is frozen updates its statistics from then on. Attention is counted as 0.
# Why it matters: printing the cost at the start of a training run changes the run, and the file it leaves.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 thop==0.1.1.post2209072238
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import thop
import torch
from torch import nn

print("thop", version("thop"), "torch", torch.__version__)


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv1d(8, 8, 3, padding=1), nn.BatchNorm1d(8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, clip):
        features = self.encoder(clip).transpose(1, 2)
        return self.attention(features, features, features)[0]


detector = Detector().train()
detector.encoder.eval()
before = set(detector.state_dict())
macs, _ = thop.profile(detector, (torch.randn(1, 8, 20),), verbose=False)
added = sorted(set(detector.state_dict()) - before)
print(f"counted {macs:.0f} multiply-adds; added to the state_dict: {added}")
print("the frozen norm is in training mode:", detector.encoder[1].training)
assert {"total_ops", "attention.total_ops", "attention.out_proj.total_params"} <= set(added)
assert detector.encoder[1].training
try:
    Detector().load_state_dict(detector.state_dict())
except RuntimeError as error:
    print("a fresh model:", str(error).splitlines()[1].strip()[:80])
else:
    raise AssertionError("the checkpoint loads")
PYTHON
