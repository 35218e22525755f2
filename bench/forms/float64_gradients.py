"""The gradient of a form of the step in float64: it tells another computation from other rounding.

Two forms that compute the same thing add in another order, and in float32 that alone can change a gradient by a
thousandth: rounding decides whether a ReLU lets a gradient through where its input is all but 0, and whether a sample
of RoIAlign at the edge of the sequence counts, and among millions there are some. In float64 that is a billion times
rarer, so there forms of one computation agree. How far float32 is from it in any form, the reference's own included,
says what float32 can tell.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bench.batches import CLASSES, random_batch
from bench.forms.differences import Gradients, gradient_differences
from etad.config import Config
from etad.data.batch import Batch
from etad.host_memory import keep_freed_memory
from etad.models.etad import Etad
from etad.models.roi_align import choose_form
from etad.sampling.proposals import proposal_count
from etad.seeding import stream
from etad.step import TrainingStep

SNIPPETS = 2
"""Of a step from frames; both of one video, and one of them is drawn."""
ACTIONS = ((0.13, 0.41), (0.58, 0.93))
METHOD = f"one step on one video, from frames on {SNIPPETS} snippets; largest difference over largest gradient"


class InFloat64(TorchFunctionMode):
    """Makes float64 of whatever is asked to be float32. Random draws stay what they are, and so does a dtype taken."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function."""
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        args = tuple(_widened(one) for one in args)
        return func(*args, **{name: _widened(one) for name, one in (kwargs or {}).items()})


def compare_in_float64(configs: Mapping[str, Config]) -> dict[str, dict[str, float]]:
    """Return how far every form's gradient is from the first one's in float64; called in a process of its own.

    The published network takes about 20 seconds a form on two cores, and 3.5 GiB.

    Args:
        configs: forms of one experiment that trains in fp32 on a CPU.

    Returns:
        For each form, for the encoder (if it is trained) and likewise for the detector:

        - ``encoder_gradient_difference_float64``: of the form in float64; not for the first form;
        - ``encoder_gradient_rounding``: of the form in float32.
    """
    keep_freed_memory()
    small = {name: smaller(config) for name, config in configs.items()}
    torch.manual_seed(0)
    weights = Etad(next(iter(small.values())), CLASSES).state_dict()
    batch = random_batch(next(iter(small.values())))
    # Its own actions mirror each other: rounding would decide which of them a proposal in the middle belongs to.
    batch = replace(batch, segments=tuple(torch.tensor(ACTIONS) for _ in batch.segments))
    found: dict[str, dict[str, float]] = {name: {} for name in small}
    exact: Gradients | None = None
    for name, config in small.items():
        gradients = gradients_in_float64(config, weights, batch)
        if exact is None:
            exact = gradients
        else:
            for part, difference in gradient_differences(exact, gradients).items():
                found[name][f"{part}_gradient_difference_float64"] = difference
        for part, difference in gradient_differences(exact, gradients_of(config, weights, batch)).items():
            found[name][f"{part}_gradient_rounding"] = difference
    return found


def smaller(config: Config) -> Config:
    """Return the same form of a step on one video and, from frames, on two snippets.

    The network is the same, and RoIAlign keeps the form that ``auto`` takes at full size.
    """
    form = choose_form(config.efficiency.roi_align, "cpu", proposal_count(config), config.data.length)
    encoder = config.model.encoder.model_copy(update={"weights": None})
    update: dict[str, Any] = {
        "train": config.train.model_copy(update={"batch": 1}),
        "model": config.model.model_copy(update={"encoder": encoder}),
        "efficiency": config.efficiency.model_copy(update={"roi_align": form}),
    }
    if config.data.input == "frames":
        update["data"] = config.data.model_copy(update={"length": min(config.data.length, SNIPPETS)})
        sizes = {"chunk": 1, "snippet_ratio": 0.5 if config.step.snippet_ratio else 0.0, "proposal_ratio": 1.0}
        update["step"] = config.step.model_copy(update=sizes)
    return config.model_copy(update=update)


def gradients_in_float64(config: Config, weights: Mapping[str, Tensor], batch: Batch) -> Gradients:
    """Return the gradient of a step, all of it computed in float64; arguments are those of :func:`gradients_of`."""
    with InFloat64():
        return gradients_of(config, weights, batch, torch.float64)


def gradients_of(
    config: Config, weights: Mapping[str, Tensor], batch: Batch, dtype: torch.dtype = torch.float32
) -> Gradients:
    """Return the gradient of a step by parameter.

    Args:
        config: the experiment.
        weights: of the network.
        batch: on the CPU.
        dtype: of the weights, and of features if those are the input.
    """
    model = Etad(config, CLASSES).train()
    model.load_state_dict(weights)
    model.to(dtype)
    # It has no state, unlike the experiment's own, and no gradient depends on it.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    gradients: dict[str, Tensor] = {}

    def keep(*_: Any) -> None:
        gradients.update({name: p.grad for name, p in model.named_parameters() if p.grad is not None})

    optimizer.register_step_pre_hook(keep)
    input_ = batch.input_.to(dtype) if batch.input_.is_floating_point() else batch.input_
    batch = replace(batch, input_=input_, segments=tuple(one.to(dtype) for one in batch.segments))
    TrainingStep(model, optimizer, config)(
        batch, lambda purpose: [stream("workload", index, purpose) for index in batch.indices]
    )
    return gradients


def _widened(argument: Any) -> Any:
    return torch.float64 if argument is torch.float32 else argument
