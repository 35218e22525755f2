"""Fitting the factors of a forecast to a table of real GPUs, and finding how wrong they are on what they have not seen.

For each regime the factors minimise the sum of the sizes of the relative errors (linear programming), with the compute
factor at least 1. The exponent of the used bandwidth is the one of a few whose errors are smallest, every GPU and
family weighing the same. Errors are found by leaving a GPU, or a family of networks, out of all of that.

The interval is conformal in spirit: its half width is a quantile of the sizes of the log errors on the GPUs and
families left out. Rows of one GPU err together, so the quantile that holds 80 % of a new GPU's rows lies above 80 %:
at 83 % where several GPUs are there to be left out, and at 90 % where one is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from bench.machine.datasheets import load_profile
from bench.predict.forecast import ALL, REFERENCE_BANDWIDTH, Factors, LeftOut, OwnFactor, RegimeFactors
from bench.predict.roofline import LAUNCH_S, sustained_share
from bench.predict.throughput_table import REGIMES, Regime, Row
from etad.errors import DataError, NothingToDoError

Floats = NDArray[np.float64]

LEVEL = 0.83
LEVEL_OF_ONE_GPU = 0.9
EXPONENTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
LEAST_ROWS = 8
"""Of a regime, and of a GPU for a factor of its own."""

KEPT_APART = (
    "resnet101",
    "densenet201",
    "hrnet_w48",
    "efficientnetv2_m",
    "vit_small_patch16_224",
    "swin_large_patch4_window7_224",
    "pit_b_224",
    "convnextv2_base",
)
"""One in five networks of the table, two of each family: no factor has seen them, so that a later check can."""

SOURCE = (
    "huggingface/pytorch-image-models aa4b5850, results/benchmark-*.csv; FLOPs, bytes and operators of a batch by "
    "bench/predict/step_costs.py"
)


@dataclass(frozen=True)
class _Fit:
    """Factors (compute, memory, launch), the exponent, and the bandwidths that it holds for."""

    factors: Floats
    exponent: float
    bandwidths: tuple[float, float]


class _Table:
    """The rows of one regime as arrays; ``mask`` arguments choose among them."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.gpus = np.array([row.gpu for row in rows])
        self.families = np.array([row.family for row in rows])
        self.times = np.array([row.batch_s for row in rows])
        peaks, bandwidths = {}, {}
        for name in sorted(set(self.gpus)):
            profile = load_profile(str(name))
            if profile.peak_fp16_flops_per_s is None:
                raise DataError(profile.no_peak("fp16"))
            peaks[name] = profile.peak_fp16_flops_per_s * sustained_share(profile, "fp16")
            bandwidths[name] = profile.memory_bandwidth_bytes_per_s
        self.bandwidth = np.array([bandwidths[name] for name in self.gpus])
        self.compute = np.array([row.flops for row in rows]) / np.array([peaks[name] for name in self.gpus])
        self.bytes = np.array([row.moved_bytes for row in rows])
        self.launch = np.array([row.operators for row in rows]) * LAUNCH_S

    def least(self, exponent: float, bandwidths: tuple[float, float]) -> Floats:
        """Return the least times, ``[rows, 3]``."""
        share = (np.clip(self.bandwidth, *bandwidths) / REFERENCE_BANDWIDTH) ** (exponent - 1)
        return np.stack([self.compute, self.bytes / (self.bandwidth * share), self.launch], axis=1)

    def fit(self, mask: NDArray[np.bool_]) -> _Fit:
        """Fit the factors to the chosen rows."""
        bandwidths = (float(self.bandwidth[mask].min()), float(self.bandwidth[mask].max()))
        # With one bandwidth, the exponent is no more than a part of the memory factor.
        exponents = EXPONENTS if bandwidths[0] < bandwidths[1] else (1.0,)
        weights = _cell_weights(self.gpus[mask], self.families[mask])
        found: list[tuple[float, _Fit]] = []
        for exponent in exponents:
            relative = self.least(exponent, bandwidths)[mask] / self.times[mask, None]
            factors = _least_absolute(relative)
            error = float(np.average(np.abs(relative @ factors - 1), weights=weights))
            found.append((error, _Fit(factors, exponent, bandwidths)))
        return min(found, key=lambda pair: pair[0])[1]

    def forecast(self, fit: _Fit) -> Floats:
        """Return the forecast time of every row."""
        times: Floats = self.least(fit.exponent, fit.bandwidths) @ fit.factors
        return times

    def left_out(self, mask: NDArray[np.bool_], kind: str) -> dict[str, Floats]:
        """Return, for every GPU or family among the chosen rows, log(measured / forecast) of a fit without it."""
        labels = self.gpus if kind == "gpu" else self.families
        names = sorted(set(labels[mask]))
        if len(names) < 2:
            return {}
        found = {}
        for name in names:
            out = mask & (labels == name)
            found[str(name)] = np.log(self.times[out] / self.forecast(self.fit(mask & ~out))[out])
        return found

    def half_width(self, mask: NDArray[np.bool_]) -> float:
        """Return half of the interval that the chosen rows give."""
        of_gpus = self.left_out(mask, "gpu")
        errors = [*of_gpus.values(), *self.left_out(mask, "family").values()]
        level = LEVEL if of_gpus else LEVEL_OF_ONE_GPU
        return float(np.quantile(np.abs(np.concatenate(errors)), level)) if errors else float("nan")

    def errors(self, kind: str) -> list[LeftOut]:
        """Return the errors on every GPU, or family, left out in turn."""
        everything = np.ones(len(self.times), dtype=bool)
        labels = self.gpus if kind == "gpu" else self.families
        found = []
        pooled = []
        for name, logs in self.left_out(everything, kind).items():
            inside = np.abs(logs) <= self.half_width(everything & (labels != name))
            pooled.append((logs, inside))
            found.append(_told(kind, name, logs, inside))
        if pooled:
            together = [np.concatenate(parts) for parts in zip(*pooled, strict=True)]
            found.append(_told(kind, ALL, *together))
        return found

    def own(self, name: str, fit: _Fit) -> OwnFactor | None:
        """Return the factor of a GPU itself: of its memory and launch times, so that arithmetic stays at the peak."""
        mine = self.gpus == name
        least = self.least(fit.exponent, fit.bandwidths)
        compute, rest = least[:, 0] * fit.factors[0], least[:, 1:] @ fit.factors[1:]
        if mine.sum() < LEAST_ROWS or not (rest[mine] > 0).all():
            return None

        def factor(mask: NDArray[np.bool_]) -> float:
            return float(max(np.median(((self.times - compute) / rest)[mask]), 0.05))

        logs = []
        for family in sorted(set(self.families[mine])):
            out = mine & (self.families == family)
            if (mine & ~out).any():
                logs.append(np.log(self.times[out] / (compute[out] + factor(mine & ~out) * rest[out])))
        width = float(np.quantile(np.abs(np.concatenate(logs)), LEVEL)) if logs else float("nan")
        return OwnFactor(rows=int(mine.sum()), memory=_short(factor(mine)), half_width=_short(width))


def fit_factors(rows: Sequence[Row], source: str = SOURCE, kept_apart: Sequence[str] = KEPT_APART) -> Factors:
    """Fit the factors of every regime that has rows.

    Args:
        rows: of the table; those of the networks kept apart are not looked at.
        source: where they come from.
        kept_apart: names of networks.

    Raises:
        NothingToDoError: no regime has enough rows.
        ConfigError: a GPU has no profile.
        DataError: a GPU has no half-precision peak.
    """
    used = [row for row in rows if row.model not in kept_apart]
    regimes: dict[Regime, RegimeFactors] = {}
    for regime in REGIMES:
        chosen = [row for row in used if row.regime == regime]
        if len(chosen) >= LEAST_ROWS and len({row.family for row in chosen}) > 2:
            regimes[regime] = _of_regime(chosen)
    if not regimes:
        raise NothingToDoError(f"no regime has {LEAST_ROWS} rows of three families to fit factors to")
    _widen_where_one_gpu(regimes)
    families = sorted({row.family for row in used})
    return Factors(
        source=source,
        precision="half precision",
        networks=f"{len({row.model for row in used})} image networks ({', '.join(families)}) at large batches",
        kept_apart=tuple(sorted(kept_apart)),
        vendors=tuple(sorted({load_profile(row.gpu).vendor for row in used})),
        regimes=regimes,
    )


def errors_apart(rows: Sequence[Row], factors: Factors) -> dict[str, list[LeftOut]]:
    """Return, by regime, the errors on the networks that were kept apart, of GPUs with their own factors."""
    found = {}
    for regime, fitted in factors.regimes.items():
        chosen = [row for row in rows if row.regime == regime and row.model in factors.kept_apart]
        if not chosen:
            continue
        table = _Table(chosen)
        fit = _Fit(
            np.array([fitted.compute, fitted.memory, fitted.launch]), fitted.bandwidth_exponent, fitted.bandwidths
        )
        least = table.least(fit.exponent, fit.bandwidths) * fit.factors
        own = np.array([fitted.gpus[name].memory if name in fitted.gpus else 1.0 for name in table.gpus])
        widths = np.array(
            [fitted.gpus[name].half_width if name in fitted.gpus else fitted.half_width for name in table.gpus]
        )
        logs = np.log(table.times / (least[:, 0] + own * least[:, 1:].sum(axis=1)))
        found[str(regime)] = [
            _told("gpu", str(name), logs[mine], np.abs(logs[mine]) <= widths[mine])
            for name in sorted(set(table.gpus))
            for mine in [table.gpus == name]
        ]
    return found


def _of_regime(rows: Sequence[Row]) -> RegimeFactors:
    table = _Table(rows)
    everything = np.ones(len(rows), dtype=bool)
    fit = table.fit(everything)
    compute, memory, launch = map(_short, fit.factors)
    own = {str(name): table.own(str(name), fit) for name in sorted(set(table.gpus))}
    return RegimeFactors(
        rows=len(rows),
        compute=compute,
        memory=memory,
        launch=launch,
        bandwidth_exponent=fit.exponent,
        bandwidths=fit.bandwidths,
        half_width=_short(table.half_width(everything)),
        gpus={name: factor for name, factor in own.items() if factor is not None},
        errors=(*table.errors("gpu"), *table.errors("family")),
    )


def _widen_where_one_gpu(regimes: dict[Regime, RegimeFactors]) -> None:
    """Where one GPU was measured, add what GPUs differ by in inference: what another GPU does was not seen there."""
    several = regimes.get("inference")
    spread = [] if several is None else [error.median_error for error in several.of_gpus if error.name != ALL]
    if not spread:
        return
    between = float(np.abs(np.log1p(spread)).max())
    for regime, factors in regimes.items():
        if not factors.of_gpus:
            width = _short(float(np.hypot(factors.half_width, between)))
            regimes[regime] = factors.model_copy(update={"half_width": width})


def _least_absolute(relative: Floats) -> Floats:
    """Return the factors with the least sum of |relative @ factors - 1|; the first is at least 1, the others 0."""
    rows, count = relative.shape
    above = np.block([[relative, -np.eye(rows)], [-relative, -np.eye(rows)]])
    bounds: list[tuple[float, None]] = [(1.0, None)] + [(0.0, None)] * (count - 1 + rows)
    goal = np.concatenate([np.zeros(count), np.ones(rows)])
    limits = np.concatenate([np.ones(rows), -np.ones(rows)])
    factors: Floats = linprog(goal, A_ub=above, b_ub=limits, bounds=bounds).x[:count]
    return factors


def _cell_weights(gpus: NDArray[np.str_], families: NDArray[np.str_]) -> Floats:
    """Return weights with which every family on every GPU counts the same."""
    cells = [f"{gpu} {family}" for gpu, family in zip(gpus, families, strict=True)]
    sizes = {cell: cells.count(cell) for cell in set(cells)}
    return np.array([1 / sizes[cell] for cell in cells])


def _told(kind: str, name: str, logs: Floats, inside: NDArray[np.bool_]) -> LeftOut:
    errors = np.expm1(-logs)
    low, high = np.quantile(errors, (0.1, 0.9))
    return LeftOut(
        kind=kind,  # type: ignore[arg-type]
        name=name,
        rows=len(logs),
        median_error=_short(float(np.median(errors))),
        typical_error=_short(float(np.median(np.abs(errors)))),
        low_error=_short(float(low)),
        high_error=_short(float(high)),
        inside=_short(float(inside.mean())),
    )


def _short(value: float) -> float:
    """Round to four digits: what follows is of no account, and differs between machines."""
    return float(f"{value:.4g}")
