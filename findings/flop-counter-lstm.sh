#!/usr/bin/env bash
# torch's FLOP counter counts a GRU in full and an LSTM of the same size as zero, unless oneDNN is switched off.
# torch 2.14.1, `torch.utils.flop_counter` on an x86 CPU; the script installs torch, 5 GB.
# One would guess that recurrent layers are either counted or not. The counter sees operators: a GRU is taken apart into
# matrix products, which it knows, and an LSTM runs as one oneDNN operator, which it does not: 0, in training as in
# inference. With oneDNN off, or with packed sequences of unequal length, the same LSTM is taken apart too, and counted
# exactly.
# Why it matters: two boundary detectors that differ by GRU and LSTM compare as 10 MFLOP and nothing, and a setting
# meant for numerics changes a published count.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode

print("torch", torch.__version__, "oneDNN", torch.backends.mkldnn.is_available())
batch, length, width = 2, 100, 64


def count(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


features = torch.randn(batch, length, width)
lstm, gru = torch.nn.LSTM(width, width, batch_first=True), torch.nn.GRU(width, width, batch_first=True)
by_hand = {gates: 2 * batch * length * gates * width * 2 * width for gates in (3, 4)}
print(f"by hand: GRU {by_hand[3]}, LSTM {by_hand[4]}")
counted_gru = count(lambda: gru(features))
counted_lstm = count(lambda: lstm(features))
training = count(lambda: lstm(features)[0].sum().backward())
with torch.backends.mkldnn.flags(enabled=False):
    without_onednn = count(lambda: lstm(features))
packed = count(lambda: lstm(pack_padded_sequence(features, [100, 10], batch_first=True)))
print(f"counted: GRU {counted_gru}, LSTM {counted_lstm}, LSTM forward and backward {training}")
print(f"counted: LSTM without oneDNN {without_onednn}, LSTM on sequences of 100 and 10 {packed}")
assert counted_gru == by_hand[3]
assert counted_lstm == training == 0
assert without_onednn == by_hand[4]
assert packed == by_hand[4] * (100 + 10) // (batch * length)
PYTHON
