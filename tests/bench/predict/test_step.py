"""Anybody's training step, predicted by the function that makes it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.predict.placing import StepError
from bench.predict.recorder import Category
from bench.predict.step import known_release, phase, predict_step
from bench.units import MIB
from etad.errors import ConfigError


def make_step(
    batch: int = 4,
    device: str | None = "cuda",
    amp: bool = False,
    loss_of: Callable[[Tensor], Any] = lambda loss: loss,
    teacher: bool = False,
) -> Callable[[], None]:
    model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 256)).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = torch.amp.GradScaler("cuda", enabled=amp)
    input_ = torch.randn(batch, 256, device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", enabled=amp):
            if teacher:
                with phase("teacher"), torch.no_grad():
                    model(input_)
            loss = loss_of(model(input_).square().mean())
        scaler.scale(loss).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    return step


PARAMETERS_BYTES = 4 * (256 * 1024 + 1024 + 1024 * 256 + 256)


@pytest.mark.parametrize("device", ["cuda", None])
def test_what_a_step_holds(device: str | None) -> None:
    found = predict_step(make_step, {"device": device})
    held = found.composition.categories
    assert held[Category.PARAMETER] == held[Category.GRADIENT] == PARAMETERS_BYTES
    assert held[Category.OPTIMIZER_STATE] == 2 * PARAMETERS_BYTES
    assert held[Category.INPUT] == 4 * 256 * 4
    assert found.allocated.low_bytes <= found.reserved.low_bytes
    assert found.memory.low.steady is not None
    assert set(found.memory.low.steady.phases) == {"forward", "backward", "optimizer"}
    assert any("test_step.py:" in tensor.line for tensor in found.composition.tensors)


def test_half_precision_a_marked_phase_and_buckets() -> None:
    plain = predict_step(make_step, {"batch": 4096}).allocated.low_bytes
    assert predict_step(make_step, {"batch": 4096, "amp": True}).allocated.low_bytes < plain
    marked = predict_step(make_step, {"teacher": True}).memory.low.steady
    assert marked is not None
    assert "teacher" in marked.phases
    small, copies = (predict_step(make_step, ddp=ddp).allocated.low_bytes for ddp in (None, "copies"))
    assert copies - small >= PARAMETERS_BYTES


def test_it_fits_or_not() -> None:
    found = predict_step(make_step, hardware="rtx_3060_laptop_6g")
    assert found.fits().verdict == "yes"
    assert found.fits(reserve_bytes=6144 * MIB).verdict == "no"


@pytest.mark.parametrize(
    ("loss_of", "problem"),
    [
        (lambda loss: loss * loss.item(), "reads a value of a tensor"),
        (lambda loss: loss if loss > 0 else -loss, "reads a value of a tensor"),
        (lambda loss: loss + loss.view(1).nonzero().sum(), "depends on values"),
        (lambda loss: torch.compile(torch.sin)(loss), "torch.compile cannot be predicted"),
        (lambda loss: loss @ loss, "RuntimeError"),
    ],
)
def test_what_cannot_be_predicted_names_the_line(loss_of: Callable[[Tensor], Any], problem: str) -> None:
    with pytest.raises(StepError, match=rf"test_step\.py:{loss_of.__code__.co_firstlineno}: .*{problem}"):
        predict_step(make_step, {"loss_of": loss_of})


def test_a_value_may_be_assumed() -> None:
    assert predict_step(make_step, {"loss_of": lambda loss: loss * loss.item()}, assume_value=1.0).allocated.low_bytes


def test_other_mistakes() -> None:
    with pytest.raises(StepError, match="has to return the callable that runs a step, not nothing"):
        predict_step(lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match="has no argument size; its arguments are: batch, device"):
        predict_step(make_step, {"size": 1})
    with pytest.raises(ConfigError, match="torch release 9: the rules know"):
        known_release("9")


def test_constants_have_their_values() -> None:
    def make() -> Callable[[], None]:
        rates = torch.linspace(0.0, 0.2, 3).tolist()
        assert rates == pytest.approx([0.0, 0.1, 0.2])
        return make_step(device=None)

    predict_step(make)


def test_nothing_is_left_behind() -> None:
    available, state = torch.cuda.is_available(), torch.get_rng_state()
    predict_step(make_step)
    assert torch.cuda.is_available() == available
    assert torch.equal(torch.get_rng_state(), state)
