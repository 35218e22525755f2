"""Statistics of timings: robust, without a distribution assumed, and reproducible.

Timings have a hard floor and a long tail of interruptions, so the centre is the median and the scatter the median
absolute deviation. Everything is in the unit of the samples.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Samples = Sequence[float] | Floats
StabilityVerdict = Literal["stable", "noisy", "drifting", "throttled"]

NORMAL_SCALE = 1.4826
"""Median absolute deviation times this is the standard deviation of a normal distribution."""
CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959964
"""Standard deviations on either side of a normal distribution's mean that hold :data:`CONFIDENCE` of it."""
RESAMPLES = 2000
MOST_PAIRED = 2000
"""Samples a side of which all differences are taken; of more, evenly spread ones."""
WARM_SIGMAS = 3.0
"""A first round is a warm-up if it is slower than the later ones by so many (robust) standard deviations."""
LEAST_SCATTER = 0.01
"""Of the median: what is taken as scatter where the samples show less, since a few of them may agree by chance."""
FEW_ROUNDS = 5
"""Fewer rounds say nothing of stability: their interval covers its median in less than 90 % of all cases."""
TOLERATED = 0.05
"""Of the median: a larger scatter is noise, a larger change from the first to the last third is a drift."""
DRIFT_P = 0.01
"""A trend is one when chance makes it in fewer cases than this."""


class Stability(NamedTuple):
    """Whether samples can be trusted to repeat, and the evidence; its text is a record's finding."""

    verdict: StabilityVerdict
    why: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.why}"


def median(samples: Samples) -> float:
    """Return the median.

    Raises:
        ValueError: there are no samples; likewise in every function here.
    """
    return float(np.median(_array(samples)))


def median_absolute_deviation(samples: Samples) -> float:
    """Return the median distance to the median, unscaled."""
    values = _array(samples)
    return float(np.median(np.abs(values - np.median(values))))


def bootstrap_interval(
    samples: Samples, statistic: Callable[..., Floats] = np.median, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95 % percentile-bootstrap interval of ``statistic`` (Efron and Tibshirani 1993, chapter 13).

    Args:
        samples: taken independently; of fewer than :data:`FEW_ROUNDS` the interval covers too rarely.
        statistic: a numpy reduction, called with ``axis=1``.
        seed: of the resampling; the same samples and seed give the same interval.

    Returns:
        Its ends; None of a single sample, which has no scatter.
    """
    values = _array(samples)
    if len(values) < 2:
        return None
    drawn = np.random.default_rng(seed).choice(values, (RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(drawn, axis=1), [tail, 1 - tail])
    return float(low), float(high)


def warmup_rounds(samples: Samples) -> int:
    """Return how many rounds at the beginning are warm-up: slower than the second half of all rounds shows as usual.

    At most half of the rounds. Rounds that begin fast and become slow are no warm-up but a drift.
    """
    values = _array(samples)
    half = len(values) // 2
    later = values[half:]
    usual = float(np.median(later))
    scatter = max(NORMAL_SCALE * median_absolute_deviation(later), LEAST_SCATTER * usual)
    slow = values[:half] > usual + WARM_SIGMAS * scatter
    return half if slow.all() else int(np.argmin(slow))


def stability(samples: Samples, throttle_reasons: Sequence[str] = ()) -> Stability:
    """Judge whether samples would repeat.

    Args:
        samples: of the rounds after warm-up, in order.
        throttle_reasons: why the device ran below its clock meanwhile, where that is known.
    """
    if throttle_reasons:
        return Stability("throttled", ", ".join(throttle_reasons))
    values = _array(samples)
    count, centre = len(values), float(np.median(values))
    if count < FEW_ROUNDS:
        return Stability("noisy", f"{count} rounds tell too little; take at least {FEW_ROUNDS}")
    third = count // 3
    first, last = float(np.median(values[:third])), float(np.median(values[-third:]))
    if abs(last - first) > TOLERATED * centre and _trend_p(values) < DRIFT_P:
        return Stability(
            "drifting", f"from the first to the last third of the rounds it changes by {(last - first) / centre:+.0%}"
        )
    scatter = NORMAL_SCALE * median_absolute_deviation(samples)
    if scatter > TOLERATED * centre:
        return Stability("noisy", f"rounds scatter by {scatter / centre:.0%} of the median")
    interval = bootstrap_interval(samples)
    assert interval is not None
    width = (interval[1] - interval[0]) / 2
    if width > TOLERATED * centre:
        return Stability("noisy", f"the median is known to {width / centre:.0%} only")
    return Stability("stable", f"the median of {count} rounds is known to {width / centre:.1%}" if centre else "all 0")


def mann_whitney(base: Samples, head: Samples) -> float:
    """Return the two-sided p of the Mann-Whitney U test: how easily chance alone would order the samples so.

    Exact for small sets without ties, otherwise the normal approximation with tie correction (scipy).
    """
    from scipy.stats import mannwhitneyu  # slow to import

    first, second = _array(base), _array(head)
    if np.ptp(np.concatenate([first, second])) == 0:
        return 1.0
    return float(mannwhitneyu(first, second, alternative="two-sided").pvalue)


class Shift(NamedTuple):
    """By how much one set of samples lies above another, in their unit."""

    estimate: float
    low: float
    high: float


def shift(base: Samples, head: Samples) -> Shift:
    """Return how far ``head`` lies above ``base``, with the 95 % interval that belongs to the Mann-Whitney test.

    The median of all differences of a head and a base sample (Hodges and Lehmann 1963); its interval leaves out as
    many differences at either end as the test's normal approximation allows (Lehmann 1963). It is never random, and
    says the same as :func:`mann_whitney`: it holds 0 where the test finds nothing.
    """
    first, second = _thinned(_array(base)), _thinned(_array(head))
    differences = np.sort(np.subtract.outer(second, first), axis=None)
    pairs = len(differences)
    spread = NORMAL_QUANTILE * np.sqrt(pairs * (len(first) + len(second) + 1) / 12)
    outside = max(int(pairs / 2 - spread), 0)
    low, high = differences[outside], differences[pairs - 1 - outside]
    return Shift(float(np.median(differences)), float(low), float(high))


def _thinned(values: Floats) -> Floats:
    # All differences of more samples would not fit into memory.
    return values if len(values) <= MOST_PAIRED else values[np.linspace(0, len(values) - 1, MOST_PAIRED).astype(int)]


def _trend_p(values: Floats) -> float:
    """Return the p of Kendall's tau between the samples and their order (Mann-Kendall test)."""
    from scipy.stats import kendalltau  # slow to import

    return float(kendalltau(np.arange(len(values)), values).pvalue)


def _array(samples: Samples) -> Floats:
    values = np.asarray(samples, np.float64)
    if not values.size:
        raise ValueError("statistics need at least one sample")
    return values
