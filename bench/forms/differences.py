"""How far the numbers of two forms of one computation are apart: features, the detector's outputs, gradients."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.measure.workload import Workload
from bench.records.record import Metric, Metrics

ENCODER = "feature_extractor."
PARTS = ("encoder", "detector")
METHOD = "first call, same weights, batch and draws as the reference"

Gradients = Mapping[str, Tensor]
"""By parameter."""


@dataclass
class Numbers:
    """What a variant computed in its first call, on the host.

    Attributes:
        features: what entered the detector, ``[B, C, T]``.
        outputs: by name: the detector's scores ``[B, K]`` and refined segments ``[B, K, 2]``.
        gradients: by parameter.
    """

    features: Tensor | None = None
    outputs: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)


def first_numbers(workload: Workload) -> Numbers:
    """Call a workload once and return what it computed; for the optimizer it is a step like any other."""
    numbers, detector = Numbers(), workload.model.base_detector

    def entered(_: Any, inputs: tuple[Any, ...]) -> None:
        numbers.features = _on_host(inputs[0])

    def left(_: Any, inputs: Any, output: Any) -> None:
        numbers.outputs = {"score": _on_host(output.scores), "segment": _on_host(output.segments)}

    def before_update(*_: Any) -> None:
        for name, parameter in workload.model.named_parameters():
            if parameter.grad is not None:
                numbers.gradients[name] = _on_host(parameter.grad)

    with ExitStack() as hooks:
        hooks.callback(detector.register_forward_pre_hook(entered).remove)
        hooks.callback(detector.register_forward_hook(left).remove)
        if workload.optimizer is not None:
            hooks.callback(workload.optimizer.register_step_pre_hook(before_update).remove)
        workload()
    return numbers


def differing(reference: Numbers, other: Numbers) -> dict[str, float]:
    """Return how far ``other`` is from ``reference``, as metrics.

    - ``feature_cosine_difference``: 1 - cosine of the features of a position, at the position where it is largest;
    - ``score_difference``, ``segment_difference``: largest absolute difference of the detector's outputs;
    - ``encoder_gradient_cosine_difference``, ``detector_...``: 1 - cosine of the gradient of all parameters;
    - ``encoder_gradient_difference``, ``detector_...``: largest absolute difference over the largest gradient.
    """
    found = {}
    if reference.features is not None and other.features is not None:
        cosines = torch.cosine_similarity(reference.features.double(), other.features.double(), dim=1)
        found["feature_cosine_difference"] = _to_one(float(cosines.min()))
    for name in reference.outputs.keys() & other.outputs.keys():
        found[f"{name}_difference"] = float((reference.outputs[name] - other.outputs[name]).abs().max())
    for part, difference in gradient_differences(reference.gradients, other.gradients).items():
        pairs = _pairs(reference.gradients, other.gradients, part)
        product, first, second = (sum(terms) for terms in zip(*(_products(*pair) for pair in pairs), strict=True))
        cosine = product / math.sqrt(first * second) if second else 0.0
        found[f"{part}_gradient_cosine_difference"] = _to_one(cosine)
        found[f"{part}_gradient_difference"] = difference
    return found


def gradient_differences(reference: Gradients, other: Gradients) -> dict[str, float]:
    """Return the largest absolute difference over the largest gradient, of "encoder" and "detector" as far as trained.

    Tensor by tensor: as one vector each, the gradients of a large encoder would take gigabytes.
    """
    found = {}
    for part in PARTS:
        pairs = _pairs(reference, other, part)
        largest = max((float(first.abs().max()) for first, _ in pairs), default=0.0)
        if largest:
            apart = max(float((first.double() - second.double()).abs().max()) for first, second in pairs)
            found[part] = apart / largest
    return found


def difference_metrics(differences: Mapping[str, float], method: str = METHOD) -> Metrics:
    """Return differences as metrics; see :func:`differing`."""
    return {name: Metric(value=value, unit="1", method=method) for name, value in differences.items()}


def _on_host(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu().clone()


def _pairs(reference: Gradients, other: Gradients, part: str) -> list[tuple[Tensor, Tensor]]:
    names = sorted(reference.keys() & other.keys())
    return [(reference[name], other[name]) for name in names if name.startswith(ENCODER) == (part == "encoder")]


def _products(first: Tensor, second: Tensor) -> tuple[float, float, float]:
    """Return the scalar product of both, and of each with itself."""
    a, b = first.flatten().double(), second.flatten().double()
    return float(a @ b), float(a @ a), float(b @ b)


def _to_one(cosine: float) -> float:
    # Rounding may take a cosine above 1.
    return max(1.0 - cosine, 0.0)
