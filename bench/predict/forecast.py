"""How long a step takes on hardware that is not here: least times by the roofline, scaled as real GPUs say.

A batch of F floating-point operations, B moved bytes and N operators is taken to need

    a F / peak  +  g (b B / bandwidth  +  c N * issue time)

The factors a, b, c belong to a regime (inference or training, memory format, compiled or not) and come from a public
table of real GPUs (bench/predict/factor_fit.py). a is at least 1: nothing computes faster than the peak, which is that
of the data sheet, less what a board's power does not carry (bench/predict/roofline.py). b may be below 1, since B is
an upper bound on what is moved. ``bandwidth`` is what eager kernels use of a wide memory, see
:meth:`RegimeFactors.used_bandwidth`. g is 1, and where the GPU itself was measured its own factor.

Every time comes with an interval: from the errors on GPUs and families of networks that were left out of the fit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import Field

from bench.cells import Task
from bench.machine.datasheets import VENDORS, HardwareProfile, Vendor
from bench.predict.roofline import Roof
from bench.predict.step_costs import Cost
from bench.predict.throughput_table import Regime
from etad.config import Config
from etad.errors import ConfigError, explained
from etad.files import read_yaml
from etad.phases import Phase
from etad.resources import resource_folder

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

HOLDS = 0.8
"""Of the rows left out, what an interval is meant to hold."""


ALL = "all"


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class LeftOut(_Part):
    """Errors on what was left out of a fit. An error is forecast / measured - 1: negative is too fast."""

    kind: Literal["gpu", "family"]
    """What was left out: all rows of a GPU, or of a family of networks."""
    name: str
    """Which one; "all": each in turn, all errors together."""
    rows: Annotated[int, Field(ge=1)]
    """How many rows it has."""
    median_error: float
    """Median of the errors, with sign."""
    typical_error: NotNegative
    """Median of their sizes."""
    low_error: float
    """10 % of the rows are below it."""
    high_error: float
    """10 % of the rows are above it."""
    inside: Share
    """Of the rows, how many the interval holds that the others give."""


class OwnFactor(_Part):
    """What a GPU that was measured itself adds."""

    rows: Annotated[int, Field(ge=1)]
    """How many rows it has."""
    memory: Positive
    """The factor g of the module's text."""
    half_width: Positive
    """Half of its interval, in the natural logarithm of time; of families of networks left out."""


class RegimeFactors(_Part):
    """The factors of one regime."""

    rows: Annotated[int, Field(ge=1)]
    """Rows that they are fitted to."""
    compute: Annotated[float, Field(ge=1.0, allow_inf_nan=False)]
    """Of the time at the peak. Not below 1, which is the peak."""
    memory: NotNegative
    """Of the time for the counted bytes."""
    launch: NotNegative
    """Of the time to issue the operators."""
    bandwidth_exponent: Share
    """How the used bandwidth grows with the data sheet's, among the GPUs of the fit; 1: in step."""
    bandwidths: tuple[Positive, Positive]
    """Smallest and largest bandwidth among them, in bytes per second."""
    half_width: Positive
    """Half of the interval on a GPU that was not measured, in the natural logarithm of time."""
    gpus: dict[str, OwnFactor] = {}
    """Hardware profile -> its own factor."""
    errors: tuple[LeftOut, ...]
    """What was left out, and what came of it."""

    @property
    def of_gpus(self) -> list[LeftOut]:
        """What came of leaving GPUs out; empty where one GPU was measured."""
        return [error for error in self.errors if error.kind == "gpu"]

    def used_bandwidth(self, bandwidth: float) -> float:
        """Return what is used of ``bandwidth``, in bytes per second, but for the factor ``memory``.

        Eager kernels fill a wide memory less well. Beyond the GPUs of the fit the share stays that of the nearest.
        """
        low, high = self.bandwidths
        share = (min(max(bandwidth, low), high) / REFERENCE_BANDWIDTH) ** (self.bandwidth_exponent - 1)
        return bandwidth * share


REFERENCE_BANDWIDTH = 1e12


class Factors(_Part):
    """A file of factors."""

    source: str
    """Where the measurements come from."""
    precision: str
    """In which they ran."""
    networks: str
    """What was measured, so that a reader sees what was not."""
    kept_apart: tuple[str, ...] = ()
    """Networks that no factor has seen, for a later check."""
    vendors: tuple[Vendor, ...]
    """Whose GPUs were measured."""
    regimes: dict[Regime, RegimeFactors]
    """Regime -> its factors."""

    def lacking(self, profile: HardwareProfile) -> str | None:
        """Return why there is no forecast for a GPU; None where there is."""
        if profile.vendor in self.vendors:
            return None
        return f"{profile.name}: no factors for GPUs of {VENDORS[profile.vendor]}, of which none was measured"


@dataclass(frozen=True)
class Forecast:
    """A time, in seconds, with the interval that holds :data:`HOLDS` of what was left out of the fit."""

    time_s: float
    low_s: float
    high_s: float

    def __add__(self, other: "Forecast") -> "Forecast":
        return Forecast(self.time_s + other.time_s, self.low_s + other.low_s, self.high_s + other.high_s)

    def times(self, number: float) -> "Forecast":
        """Return the time of ``number`` such steps."""
        return Forecast(self.time_s * number, self.low_s * number, self.high_s * number)


def load_factors(path: Path | None = None) -> Factors:
    """Read a file of factors; None: the shipped one.

    Raises:
        ConfigError: unreadable, or not such a file; one line.
    """
    path = path or resource_folder("profiles") / "forecast" / "factors.yaml"
    try:
        return Factors.model_validate(read_yaml(path))
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {explained(error, Factors)[0]}") from None


def dump_factors(factors: Factors) -> str:
    """Return ``factors`` as YAML that :func:`load_factors` reads."""
    tree: dict[str, Any] = factors.model_dump(mode="json")
    return yaml.safe_dump(tree, sort_keys=False, width=110, allow_unicode=True)


def regime_of(config: Config, task: Task, phase: str) -> Regime:
    """Return the regime of a phase: the encode phase of a training step has no gradient, as inference."""
    efficiency = config.efficiency
    inference = task == "infer" or phase == Phase.ENCODE
    if efficiency.compile and inference:
        return "inference_compiled"
    if efficiency.channels_last:
        return "inference_channels_last" if inference else "training_channels_last"
    return "inference" if inference else "training"


def forecast_phases(
    costs: Mapping[str, Cost], roof: Roof, profile: HardwareProfile, config: Config, task: Task, factors: Factors
) -> dict[str, Forecast]:
    """Return the time of every phase.

    Args:
        costs: what each phase costs.
        roof: of the GPU, at the step's precision.
        profile: the GPU.
        config, task: the cell.
        factors: of the regimes.

    Raises:
        ConfigError: the file has no factors for a regime that is needed.
    """
    found = {}
    for phase, cost in costs.items():
        regime = regime_of(config, task, phase)
        if regime not in factors.regimes:
            raise ConfigError(f"no factors for the regime {regime}; etad-bench forecast --fit CSV makes some")
        found[phase] = forecast(cost, roof, profile.name, factors.regimes[regime], "compiled" not in regime)
    return found


def forecast(cost: Cost, roof: Roof, gpu: str, factors: RegimeFactors, eager: bool = True) -> Forecast:
    """Return the time of what costs ``cost``.

    Args:
        cost: the arithmetic, bytes and operators.
        roof: of the GPU; its peak and bandwidth are known.
        gpu: name of its profile.
        factors: of the regime.
        eager: the host issues every operator, and the time cannot be less than that takes.
    """
    assert roof.peak_flops_per_s is not None
    assert roof.bandwidth_bytes_per_s is not None
    own = factors.gpus.get(gpu)
    issuing = cost.operators * roof.operator_s
    moving = cost.moved_bytes / factors.used_bandwidth(roof.bandwidth_bytes_per_s)
    rest = factors.memory * moving + factors.launch * issuing
    time_s = factors.compute * cost.total_flops / roof.peak_flops_per_s + rest * (1.0 if own is None else own.memory)
    if eager:
        time_s = max(time_s, issuing)
    width = math.exp(factors.half_width if own is None else own.half_width)
    # Nothing is faster than the arithmetic at the peak.
    low_s = max(time_s / width, cost.total_flops / roof.peak_flops_per_s)
    return Forecast(time_s, min(low_s, time_s), time_s * width)


def gpu_never_measured(profile: HardwareProfile, config: Config, task: Task, factors: Factors) -> str | None:
    """Return in which regimes of a cell the GPU itself was not measured, in words; None: it was in all."""
    phases = [Phase.ENCODE] if task == "infer" else list(Phase)
    regimes = list(dict.fromkeys(regime_of(config, task, phase) for phase in phases))
    missing = [regime for regime in regimes if profile.name not in factors.regimes[regime].gpus]
    return f"{profile.name} in {' and '.join(missing).replace('_', ' ')}" if missing else None


def never_measured(config: Config, task: Task, factors: Factors) -> list[str]:
    """Return what else of a forecast rests on no measurement, in words."""
    told = []
    if config.efficiency.compile and task == "train":
        told.append("compiled training, taken as eager")
    if config.step.precision == "fp32":
        told.append(f"fp32: all measurements are in {factors.precision}")
    told.append(f"video networks: measured were {factors.networks}")
    return told
