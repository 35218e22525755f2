"""The steps of examples/ allocate what is predicted, and what a step of anybody's may and may not do."""

import gc
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from bench.predict.placing import StepError
from bench.predict.recorder import Category
from bench.predict.step import StepPrediction, phase, predict_step
from bench.units import GIB
from etad.errors import ConfigError
from tests.bench.predict.any_step import executed
from tests.bench.predict.step_jobs import CASES, make_step_of
from tests.stand_in.stand_in import compile_stand_in, why_not

HERE = "test_step_library.py"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    library = compile_stand_in(tmp_path_factory.mktemp("stand_in"))
    return executed("tests.bench.predict.step_jobs:JOBS", list(CASES), library)


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.parametrize("name", CASES)
def test_the_examples_allocate_what_is_predicted(name: str, done: dict[str, dict[str, Any]]) -> None:
    function, arguments = CASES[name]
    found = predict_step(make_step_of(function), arguments)
    assert found.allocated.low_bytes == pytest.approx(max(done[name]["allocated"]), rel=0.005)
    assert found.reserved.low_bytes == pytest.approx(max(done[name]["reserved"]), rel=0.005)


def linear(batch: int = 8, width: int = 1024) -> Callable[[], None]:
    model = nn.Linear(width, width, bias=False).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    given = torch.randn(batch, width).cuda()

    def step() -> None:
        optimizer.zero_grad()
        model(given).sum().backward()
        optimizer.step()

    return step


def without_device(batch: int = 8, width: int = 1024) -> Callable[[], None]:
    model = nn.Linear(width, width, bias=False)
    optimizer = torch.optim.Adam(model.parameters())
    given = torch.randn(batch, width)

    def step() -> None:
        optimizer.zero_grad()
        model(given).sum().backward()
        optimizer.step()

    return step


@pytest.mark.parametrize("make_step", [linear, without_device])
def test_what_a_step_holds_is_told_by_category(make_step: Callable[..., Callable[[], None]]) -> None:
    held = predict_step(make_step).composition.categories
    weight = 1024 * 1024 * 4
    assert held[Category.PARAMETER] == held[Category.GRADIENT] == weight
    assert held[Category.OPTIMIZER_STATE] == 2 * weight
    assert held[Category.INPUT] == 8 * 1024 * 4


def test_the_largest_tensors_name_the_line_that_made_them() -> None:
    tensors = predict_step(linear).composition.tensors
    source, first = inspect.getsourcelines(linear)
    lines = {int(re.fullmatch(rf".*{HERE}:(\d+)", one.line).group(1)) for one in tensors if one.line}  # type: ignore[union-attr]
    assert lines
    assert all(first <= line < first + len(source) for line in lines)


def test_a_larger_batch_is_an_argument() -> None:
    sizes = [predict_step(linear, {"batch": batch}) for batch in (8, 16)]
    inputs = [one.composition.categories[Category.INPUT] for one in sizes]
    assert inputs == [8 * 4096, 16 * 4096]
    assert sizes[1].step.batch == 16


def test_fits_answers_for_a_gpu() -> None:
    found = predict_step(linear, hardware="rtx_3060_laptop_6g")
    assert found.fits().verdict == "yes"
    refused = found.fits(reserve_bytes=6 * GIB)
    assert refused.verdict == "no"
    assert refused.reason
    with pytest.raises(ConfigError, match="name a GPU"):
        predict_step(linear).fits()
    with pytest.raises(ConfigError, match="no_such_gpu"):
        found.fits("no_such_gpu")


def test_phases_are_forward_backward_optimizer_or_those_that_are_marked() -> None:
    def phases(found: StepPrediction) -> set[str | None]:
        return {part.phase for part in found.trace.steady}

    def marked() -> Callable[[], None]:
        step = linear()

        def all_of_it() -> None:
            with phase("everything"):
                step()

        return all_of_it

    assert phases(predict_step(linear)) >= {"forward", "backward", "optimizer"}
    assert "everything" in phases(predict_step(marked))
    assert "optimizer" not in phases(predict_step(marked))


def reads(how: Callable[[torch.Tensor], object]) -> Callable[[], Callable[[], None]]:
    def make_step() -> Callable[[], None]:
        model = nn.Linear(4, 1).cuda()

        def step() -> None:
            loss = model(torch.ones(2, 4, device="cuda")).sum()
            how(loss)

        return step

    return make_step


@pytest.mark.parametrize("how", [torch.Tensor.item, float, bool, lambda loss: loss.tolist()])
def test_a_value_that_is_read_is_refused_with_the_line(how: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(StepError, match=rf"{HERE}:\d+: the step reads a value of a tensor") as refused:
        predict_step(reads(how))
    assert "\n" not in str(refused.value)
    assert predict_step(reads(how), assume_value=1.0).allocated.low_bytes > 0


def test_values_that_follow_from_constants_are_known() -> None:
    def make_step(device: str) -> Callable[[], None]:
        widths = [int(width) for width in torch.linspace(256, 1024, 3).tolist()]
        model = nn.Sequential(*(nn.Linear(8, width) for width in widths)).to(device)
        return lambda: [layer(torch.ones(1, 8, device=device)) for layer in model] and None

    held = predict_step(make_step).composition.categories
    assert held[Category.PARAMETER] == 4 * 9 * (256 + 640 + 1024)


def _returns_nothing() -> None:
    nn.Linear(2, 2).cuda()


def _returns_a_model() -> Any:
    return torch.zeros(2)


def _compiles() -> Any:
    return torch.compile(nn.Linear(2, 2).cuda())


def _fails() -> Any:
    model = nn.Linear(2, 2).cuda()
    return lambda: model(torch.zeros(3, 3, device="cuda"))


def _values_decide() -> Any:
    given = torch.randn(8, device="cuda")
    return lambda: given[given > 0]


@pytest.mark.parametrize(
    ("make_step", "said"),
    [
        (_returns_nothing, "has to return the callable that runs a step, not nothing"),
        (_returns_a_model, "has to return the callable that runs a step, not FakeTensor"),
        (_compiles, "torch.compile cannot be predicted"),
        (_fails, "RuntimeError"),
        (_values_decide, "depends on values"),
    ],
)
def test_what_cannot_be_predicted_is_one_line_with_the_place(make_step: Callable[[], Any], said: str) -> None:
    with pytest.raises(StepError) as refused:
        predict_step(make_step)
    assert re.search(rf"{HERE}:\d+: .*{re.escape(said)}", str(refused.value))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "said"), [({"depth": 3}, "has no argument depth"), ({"batch": 8, "size": 1}, "has no argument size")]
)
def test_arguments_that_the_function_does_not_have_are_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        predict_step(linear, arguments)


@pytest.mark.parametrize("release", ["1.0", "99.1", "new"])
def test_a_release_that_the_rules_do_not_know_is_refused(release: str) -> None:
    with pytest.raises(ConfigError, match=f"torch release {release}"):
        predict_step(linear, torch_release=release)


def test_the_process_is_left_as_it_was() -> None:
    available, state = torch.cuda.is_available(), torch.get_rng_state()
    with pytest.raises(StepError):
        predict_step(_fails)
    predict_step(linear)
    gc.collect()
    assert torch.cuda.is_available() == available
    assert torch.equal(torch.get_rng_state(), state)
    assert nn.Linear(2, 2)(torch.ones(1, 2)).tolist()
