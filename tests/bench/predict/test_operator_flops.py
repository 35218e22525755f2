"""Formulas of single operators, against products counted by hand."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from bench.predict.step_costs import Cost, CostCounter

BATCH, HEADS, LENGTH, WIDTH, HIDDEN = 2, 4, 10, 16, 24
ATTENTION = 2 * 2 * BATCH * LENGTH * LENGTH * WIDTH
"""Scores and weighted values, 2 operations a multiply-add."""
LINEAR = 2 * BATCH * LENGTH * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN)
"""Query, key, value and output projections, and the two layers behind the attention."""


def counted(counter: CostCounter) -> Cost:
    return sum(counter.costs.values(), Cost())


def test_fused_attention_counts_as_its_products() -> None:
    query, key, value = torch.randn(3, BATCH, HEADS, LENGTH, WIDTH // HEADS, requires_grad=True).unbind()
    with CostCounter(real=True) as forward, torch.no_grad():
        scaled_dot_product_attention(query, key, value)
    assert counted(forward).total_flops == ATTENTION
    with CostCounter(real=True) as both:
        scaled_dot_product_attention(query, key, value).sum().backward()
    # The backward pass computes the scores again, and two products for each of the forward pass.
    assert counted(both).total_flops == ATTENTION + 5 * ATTENTION // 2
    assert not {name for name in counted(both).uncounted if "attention" in name}


@pytest.mark.parametrize("gradients", [True, False])
def test_a_transformer_layer_counts_the_same_in_inference(gradients: bool) -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.0, batch_first=True).eval()
    with CostCounter(real=True) as counter, torch.set_grad_enabled(gradients):
        layer(torch.randn(BATCH, LENGTH, WIDTH))
    assert counted(counter).total_flops == LINEAR + ATTENTION


def test_multi_head_attention_counts_the_same_in_inference() -> None:
    layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    source = torch.randn(BATCH, LENGTH, WIDTH)
    with CostCounter(real=True) as counter, torch.no_grad():
        layer(source, source, source, need_weights=False)
    assert counted(counter).total_flops == 2 * BATCH * LENGTH * 4 * WIDTH * WIDTH + ATTENTION
