"""How long a step takes on hardware that is not here: least times by the roofline, scaled as measured records say.

A phase of F floating-point operations, B moved bytes and N operators is taken to need

    a F / peak  +  b B / bandwidth  +  c N * issue time

with factors a, b, c >= 0 that fit measured phases best, in relative terms (non-negative least squares). At best a is 1;
b may be below 1, since B is an upper bound on what is moved. The error of such a fit is what it is wrong by on a record
that it has not seen: each record in turn is left out of the fit and forecast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from bench.predict.roofline import Roof, least_times
from bench.predict.step_costs import Cost
from bench.records.record import Metrics, Record, value_of
from etad.errors import NothingToDoError

LEAST_SHARE = 0.01
"""Of a step: shorter phases are left out of the fit, since relative errors would give them the same weight."""
COUNTED = ("torch_counter_flops", "torch_counter_excess_flops", "lstm_formula_flops", "moved_bytes", "operators")
ROOF = ("peak_flops_per_s", "memory_bandwidth_bytes_per_s", "operator_issue_s")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Factors, and how far they can be trusted.

    Attributes:
        compute, memory, launch: the factors a, b and c of the module's text.
        records: measured records behind them.
        devices: slugs of the devices these were measured on, sorted.
        errors: signed relative error of the forecast step time of each record, left out of its fit; empty for one
            record, which leaves nothing to fit.
    """

    compute: float
    memory: float
    launch: float
    records: int
    devices: tuple[str, ...]
    errors: tuple[float, ...]

    @property
    def typical_error(self) -> float | None:
        """The median size of ``errors``; None: not known."""
        return float(np.median(np.abs(self.errors))) if self.errors else None

    @property
    def worst_error(self) -> float | None:
        """The largest size of ``errors``; None: not known."""
        return float(np.max(np.abs(self.errors))) if self.errors else None

    def step_s(self, phases: Mapping[str, Cost], roof: Roof) -> dict[str, float]:
        """Return the forecast time of every phase.

        Raises:
            ValueError: the roof is not known.
        """
        factors = np.array([self.compute, self.memory, self.launch])
        return {name: float(_least(cost, roof) @ factors) for name, cost in phases.items()}


def calibrate(records: Sequence[Record]) -> Calibration:
    """Fit the factors to measured records of training and inference; others, and those without counts, are skipped.

    Raises:
        NothingToDoError: none of the records can be used.
    """
    usable = [record for record in records if _usable(record)]
    if not usable:
        raise NothingToDoError(
            "no measured record to calibrate a forecast with; etad-bench throughput --store FOLDER makes some"
        )
    measured = [(_rows(record), _times(record)) for record in usable]
    compute, memory, launch = _fit(measured)
    errors = []
    for number, (rows, times) in enumerate(measured):
        others = measured[:number] + measured[number + 1 :]
        if others:
            errors.append(float(sum(rows @ _fit(others)) / sum(times) - 1))
    devices = tuple(sorted({record.device for record in usable}))
    return Calibration(compute, memory, launch, len(usable), devices, tuple(errors))


def _usable(record: Record) -> bool:
    if record.suite != "throughput" or record.kind != "measured" or not record.succeeded:
        return False
    roof_is_known = all(value_of(record.metrics, name) is not None for name in ROOF)
    return roof_is_known and any(map(_counted, record.phases.values()))


def _counted(metrics: Metrics) -> bool:
    return all(value_of(metrics, name) is not None for name in (*COUNTED, "time_s"))


def _phases(record: Record) -> list[Metrics]:
    return [metrics for metrics in record.phases.values() if _counted(metrics)]


def _fit(measured: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Return the factors for the least times and the times of the phases of some records."""
    rows, ones = [], []
    for least, taken in measured:
        heavy = taken >= LEAST_SHARE * taken.sum()
        rows.append(least[heavy] / taken[heavy, None])
        ones.append(np.ones(int(heavy.sum())))
    factors: Floats = nnls(np.concatenate(rows), np.concatenate(ones))[0]
    return factors


def _rows(record: Record) -> Floats:
    """Return the least times of the record's phases, ``[phases, 3]``."""
    peak, bandwidth, issue_s = (value_of(record.metrics, name) for name in ROOF)
    assert issue_s is not None
    roof = Roof(peak, bandwidth, issue_s, "record")
    return np.stack([_least(_cost(metrics), roof) for metrics in _phases(record)])


def _times(record: Record) -> Floats:
    return np.array([value_of(metrics, "time_s") for metrics in _phases(record)], dtype=float)


def _cost(metrics: Metrics) -> Cost:
    flops, excess, lstm, moved, operators = (int(value_of(metrics, name) or 0) for name in COUNTED)
    return Cost(flops, excess, lstm, moved, operators)


def _least(cost: Cost, roof: Roof) -> Floats:
    least = least_times(cost.total_flops, cost.moved_bytes, cost.operators, roof)
    if least.compute_s is None or least.memory_s is None:
        raise ValueError(f"no forecast: {roof.source}")
    return np.array([least.compute_s, least.memory_s, least.launch_s])
