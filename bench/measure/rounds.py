"""Rounds of one call each, taken until enough of them lie behind the warm-up."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.machine.clocks import Round, Stopwatch
from bench.timing_statistics import warmup_rounds

MOST_ROUNDS = 1000
"""Further rounds tell nothing new, and the record would hold them all."""
LEAST_ROUNDS = 2
"""So many are taken even when the time is over: one of them may be the warm-up."""


@dataclass(frozen=True)
class Limits:
    """When to stop: when both are met, in seconds and rounds after the warm-up, or when ``max_time_s`` is over.

    They are of all ``processes`` together.
    """

    min_time_s: float = 5.0
    rounds: int = 10
    max_time_s: float = 120.0
    processes: int = 1

    def of_one_process(self) -> "Limits":
        """Return the share of each process."""
        count = self.processes
        return Limits(self.min_time_s / count, math.ceil(self.rounds / count), self.max_time_s / count)

    def reached(self, rounds: Sequence[Round], elapsed_s: float) -> bool:
        """Say whether these rounds are enough."""
        if len(rounds) < LEAST_ROUNDS:
            return False
        if elapsed_s >= self.max_time_s or len(rounds) >= MOST_ROUNDS:
            return True
        durations = [one.duration_s for one in rounds]
        counted = durations[warmup_rounds(durations) :]
        return len(counted) >= self.rounds and sum(counted) >= self.min_time_s


def take_rounds(
    calls: Sequence[Callable[[], object]], watches: Sequence[Stopwatch], limits: Limits
) -> list[list[Round]]:
    """Time several calls in turn until there are enough rounds of each.

    They alternate, and every other turn runs in reverse, so that a machine that becomes slower or faster does so for
    all of them.
    """
    rounds: list[list[Round]] = [[] for _ in calls]
    numbers = list(range(len(calls)))
    begun = time.perf_counter()
    while True:
        for number in numbers:
            watches[number].begin_window()
            calls[number]()
            rounds[number].append(watches[number].end_window())
        numbers.reverse()
        elapsed_s = time.perf_counter() - begun
        if all(limits.reached(taken, elapsed_s) for taken in rounds):
            return rounds


def counted_rounds(rounds: Sequence[Round]) -> Sequence[Round]:
    """Return the rounds after the warm-up."""
    return rounds[warmup_rounds([one.duration_s for one in rounds]) :]
