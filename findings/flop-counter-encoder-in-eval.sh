#!/usr/bin/env bash
# torch's FLOP counter counts zero for a TransformerEncoderLayer in inference, and on a CPU never its attention.
# torch 2.14.1, `torch.utils.flop_counter` on a CPU; the script installs torch, 5 GB.
# One would guess that a layer has one forward count, in training as in inference: the products of four projections, two
# attention products and two linear layers. In eval() without gradients the layer runs as one fused operator that the
# counter has no formula for: 0. In all other cases only the linear layers are there, because the CPU's flash attention
# has no formula either; the same attention written out as two products and a softmax is counted in full. Nothing warns.
# Why it matters: "cost per video" is measured in inference, where the counter says 0 for such a detector; with a long
# input, where attention is most of the work, a count made on a CPU is a fraction of that made on a GPU.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

print("torch", torch.__version__)
batch, length, width, hidden, heads = 2, 100, 64, 128, 4


def count(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


layer = torch.nn.TransformerEncoderLayer(width, heads, hidden, dropout=0.0, batch_first=True)
features = torch.randn(batch, length, width)
linear = 2 * batch * length * (4 * width * width + 2 * width * hidden)
attention = 2 * 2 * batch * length * length * width
print(f"by hand: linear layers {linear}, attention {attention}")
training = count(lambda: layer.train()(features))
with_gradients = count(lambda: layer.eval()(features))
with torch.no_grad():
    inference = count(lambda: layer.eval()(features))
print(f"counted: training {training}, eval with gradients {with_gradients}, eval without {inference}")
assert training == with_gradients == linear
assert inference == 0

query = torch.randn(batch, heads, length, width // heads)
fused = count(lambda: scaled_dot_product_attention(query, query, query))
written_out = count(lambda: torch.softmax(query @ query.transpose(-1, -2), -1) @ query)
print(f"attention alone: fused {fused}, written out {written_out}")
assert fused == 0 and written_out == attention
PYTHON
