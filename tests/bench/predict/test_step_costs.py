"""Counts of arithmetic, against hand counts and against each other."""

import functools
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.cells import Task
from bench.measure.workload import Workload, amounts_of
from bench.predict.made_up import Building, MadeUpArrays
from bench.predict.operator_flops import lstm_flops
from bench.predict.quick_flops import snippet_flop
from bench.predict.step_costs import Cost, CostCounter, count, forward_macs, fvcore_count
from bench.torch_internals.fake_mode import fake_mode
from etad.config import load_config
from etad.models.encoders import SnippetEncoder
from tests.bench.small_traces import small

SHARED = ("conv", "linear", "addmm", "matmul", "bmm")
"""What fvcore and torch's counter both count, by fvcore's names."""


@functools.cache
def counted(task: Task = "train") -> dict[str, Cost]:
    return count(small(snippets=8), task)


def r2plus1d_34_flop(frames: int, size: int) -> int:
    """The published encoder by hand (specification, section 2): 2 operations a multiply-add, convolutions only."""

    def convolution(inputs: int, outputs: int, kernel: tuple[int, int, int], output: tuple[int, int]) -> int:
        return 2 * inputs * outputs * math.prod(kernel) * output[0] * output[1] ** 2

    side = size // 2
    total = convolution(3, 45, (1, 7, 7), (frames, side)) + convolution(45, 64, (3, 1, 1), (frames, side))
    inputs = 64
    for outputs, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            stride = 2 if block == 0 and outputs != 64 else 1
            after = (math.ceil(frames / stride), math.ceil(side / stride))
            if stride == 2:
                total += convolution(inputs, outputs, (1, 1, 1), after)
            for width, before in ((inputs, frames), (outputs, after[0])):
                middle = width * outputs * 27 // (width * 9 + 3 * outputs)
                total += convolution(width, middle, (1, 3, 3), (before, after[1]))
                total += convolution(middle, outputs, (3, 1, 1), after)
            inputs, (frames, side) = outputs, after
    return total


def test_the_published_encoder_is_what_a_hand_count_gives() -> None:
    config = load_config("anet_e2e")
    by_hand = r2plus1d_34_flop(frames=16, size=112)
    assert by_hand / 1e9 == pytest.approx(152.4, abs=0.05)
    _, forward, _ = snippet_flop(config.model.encoder, config.data.frames)
    assert forward == by_hand


def test_torch_counts_two_for_what_fvcore_counts_one() -> None:
    config = load_config("anet_e2e", ["data.frames.clip_frames=4", "data.frames.crop=16"])
    encoder = SnippetEncoder(config.model.encoder, config.data.frames).eval()
    clip = torch.zeros(1, 3, 4, 16, 16, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(clip)
    macs, uncounted = fvcore_count(encoder, (clip,))
    assert counter.get_total_flops() == 2 * sum(macs.get(name, 0) for name in SHARED) == r2plus1d_34_flop(4, 16)
    assert macs["batch_norm"] > 0
    assert uncounted["aten::add_"] > 0


def test_torch_counts_two_for_what_fvcore_counts_one_in_a_whole_detection() -> None:
    config = small(snippets=8)
    cost = sum(counted(task="infer").values(), Cost())
    macs = forward_macs(config, task="infer")
    assert cost.flops == 2 * sum(macs.by_operator.get(name, 0) for name in SHARED)
    assert cost.excess_flops == 0
    assert macs.total == sum(macs.by_operator.values()) > cost.flops / 2
    assert macs.uncounted["aten::lstm"] == 2 * config.train.batch
    assert cost.uncounted["torchvision.roi_align"] > 0


def test_a_fake_step_counts_what_a_real_one_does() -> None:
    config = small(snippets=8)
    workload = Workload(config, task="train", device=torch.device("cpu"))
    workload()
    with FlopCounterMode(display=False) as counter:
        workload()
    ours = sum(counted().values(), Cost())
    assert ours.flops == counter.get_total_flops()
    real = CostCounter(real=True)
    with real:
        workload()
    assert sum(real.costs.values(), Cost()).lstm_flops == ours.lstm_flops


def test_phases_are_told_apart() -> None:
    config, costs = small(snippets=8), counted()
    _, forward, _ = snippet_flop(config.model.encoder, config.data.frames)
    assert set(costs) == {"encode", "detect", "update_detector", "backpropagate", "update_encoder", "other"}
    # Nothing but convolutions in the encoder: every snippet costs the same.
    assert costs["encode"].flops == amounts_of(config, task="train").snippets * forward
    assert costs["encode"].lstm_flops == 0 < costs["detect"].lstm_flops
    assert costs["update_encoder"].flops == 0 < costs["update_encoder"].moved_bytes
    for cost in costs.values():
        assert cost.operators >= cost.uncounted.total()


def test_lstm_by_hand() -> None:
    batch, steps, inputs, hidden = 3, 5, 7, 11
    products = 0
    for _ in range(batch * steps):
        for _ in range(4):  # input, forget, cell and output gate: a matrix times the input, another times the state
            products += hidden * inputs + hidden * hidden
    assert lstm_flops(batch, steps, inputs, hidden) == 2 * products


def test_lstms_are_counted_where_torch_runs_them_whole() -> None:
    costs, config = counted(), small(snippets=8)
    hidden = config.model.detector.hidden
    forward = 2 * lstm_flops(config.train.batch, config.data.length, hidden, hidden)  # one in each direction
    assert sum(cost.lstm_flops for cost in costs.values()) == 3 * forward
    assert counted(task="infer")["detect"].lstm_flops == forward


@pytest.mark.parametrize("groups", [1, 4])
def test_torch_forgets_the_groups_of_a_weight_gradient(groups: int) -> None:
    convolution = nn.Conv1d(16, 8, 3, padding=1, groups=groups, bias=False)
    counter = CostCounter(real=True)
    with counter:
        convolution(torch.ones(2, 16, 10, requires_grad=True)).sum().backward()
    (cost,) = counter.costs.values()
    forward = 2 * 2 * 10 * 8 * 16 // groups * 3
    assert cost.total_flops == 3 * forward
    assert cost.excess_flops == (groups - 1) * forward


def test_bytes_are_those_of_inputs_and_outputs() -> None:
    counter = CostCounter(real=True)
    left, right = torch.ones(4, 8), torch.ones(8, 2)
    with counter:
        product = left @ right
        product.t()  # a view moves nothing
        product.add_(1.0)
        right[:, :1].expand(8, 100) + 0.0  # what is repeated is there once
    (cost,) = counter.costs.values()
    assert cost.operators == 3
    assert cost.moved_bytes == 4 * (32 + 16 + 8) + 4 * (8 + 8) + 4 * (16 + 800)


def test_fake_tensors_answer_who_reads_them() -> None:
    with fake_mode(), Building():
        assert torch.full((2,), 7.0).gt(3).any().item() == 0
    with fake_mode(), MadeUpArrays():
        assert torch.zeros(2, 3, dtype=torch.int64).numpy().tolist() == [[0, 1, 2], [0, 1, 2]]
        assert torch.ones(2).numpy().tolist() == [0.0, 0.0]


def test_a_count_needs_no_values_of_any_sampler() -> None:
    config = small(snippets=8, proposal_sampler="label_guided", snippet_sampler="gradient")
    assert sum(count(config).values(), Cost()).flops == sum(counted().values(), Cost()).flops
