"""Statistics of timings, on samples whose answer is known."""

import numpy as np
import pytest

from bench.timing_statistics import (
    bootstrap_interval,
    mann_whitney,
    median,
    median_absolute_deviation,
    stability,
    warmup_rounds,
)

RNG = np.random.default_rng(7)
QUIET = (1.0 + 0.004 * RNG.standard_normal(30)).tolist()


def test_centre_and_scatter_ignore_an_outlier() -> None:
    samples = [1.0, 2.0, 3.0, 4.0, 100.0]
    assert median(samples) == 3.0
    assert median_absolute_deviation(samples) == 1.0
    with pytest.raises(ValueError, match="at least one sample"):
        median_absolute_deviation([])


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    sets = np.random.default_rng(1).lognormal(0.0, 0.2, (200, 15))
    covered = sum(low <= 1.0 <= high for low, high in filter(None, map(bootstrap_interval, sets.tolist())))
    assert 0.90 <= covered / 200 <= 0.99


def test_the_interval_is_reproducible_and_of_any_statistic() -> None:
    assert bootstrap_interval(QUIET, seed=3) == bootstrap_interval(QUIET, seed=3)
    interval = bootstrap_interval(QUIET, np.max)
    assert interval is not None
    assert interval[1] == max(QUIET)
    assert bootstrap_interval([1.0]) is None
    assert bootstrap_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("samples", "rounds"),
    [
        (QUIET, 0),
        ([9.0, *QUIET], 1),
        ([9.0, 3.0, 1.2, *QUIET], 3),
        ([10.0, 5.0, 5.1], 1),
        ([10.0, 5.0], 1),
        ([1.0], 0),
        ([0.9, *QUIET], 0),
        # An interruption later on is no warm-up.
        ([*QUIET[:4], 9.0, *QUIET[4:]], 0),
        # Never settled: half of the rounds, not more.
        ([8.0, 7.0, 6.0, 5.0, 1.0, 1.0, 1.0, 1.0], 4),
    ],
)
def test_warm_up_is_found(samples: list[float], rounds: int) -> None:
    assert warmup_rounds(samples) == rounds


def test_warm_up_is_rarely_found_where_there_is_none() -> None:
    sets = np.random.default_rng(2).lognormal(0.0, 0.05, (500, 12))
    assert sum(warmup_rounds(samples) > 0 for samples in sets.tolist()) <= 25


def test_stability() -> None:
    assert stability(QUIET).verdict == "stable"
    assert stability(QUIET[:4]).verdict == "noisy"
    assert "at least 5" in str(stability(QUIET[:4]))
    assert stability(RNG.lognormal(0.0, 0.3, 30).tolist()).verdict == "noisy"
    drift = stability([sample * (1 + 0.01 * number) for number, sample in enumerate(QUIET)])
    assert drift.verdict == "drifting"
    assert "changes by +" in drift.why
    assert str(stability(QUIET, ["sw_power_cap"])) == "throttled: sw_power_cap"
    assert stability([0.0] * 6).verdict == "stable"


def test_mann_whitney() -> None:
    slower = [sample * 1.1 for sample in QUIET]
    assert mann_whitney(QUIET, slower) < 1e-6
    assert mann_whitney(QUIET[:15], QUIET[15:]) > 0.05
    assert mann_whitney([1.0, 1.0], [1.0, 1.0, 1.0]) == 1.0
    # All 252 orders of five and five are alike by chance, and two of them are this extreme.
    assert mann_whitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
