"""When the pictures of a video are on the screen, and which of them a constant rate shows.

A snippet is a stretch of time: it is cut from the pictures that FFmpeg's ``fps`` filter would show at
``data.frames.fps`` (``libavfilter/vf_fps.c``, rounding near), counted from the first picture. At its own constant rate
a video gives its own frames; another rate, a variable one, or skipped frames repeat or leave out pictures, and time
stays right. Arithmetic is exact, so that a time that lies between two frames is rounded alike everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np
from numpy.typing import NDArray

LONGEST_S = 30 * 24 * 3600
"""A video that claims to last longer has damaged times."""
_REORDERED = 16
"""Most pictures that H.264 and HEVC store before one that is shown earlier."""
_STEADY = 0.1
"""At a constant rate pictures last equally long up to this part of it,"""
_ROUNDED_S = 0.002
"""and up to this: Matroska rounds to milliseconds."""


def exact_rate(fps: float) -> Fraction:
    """Return a frame rate as the fraction that is meant: 29.97002997 is 30000/1001."""
    return Fraction(fps).limit_denominator(1001)


@dataclass(frozen=True, eq=False)
class TimeLine:
    """When the pictures of a file are on the screen.

    Attributes:
        start_s: when the first picture appears, seconds, at least 0; 0 is where a player starts to count.
        ticks: when each picture appears, counted from the first, int64 ``[F]``, F at least 1, never decreasing.
        end: tick at which the last picture disappears, above the last of ``ticks``.
        tick_s: length of a tick, seconds.
    """

    start_s: float
    ticks: NDArray[np.int64]
    end: int
    tick_s: Fraction

    @classmethod
    def of_pictures(
        cls,
        times: Sequence[int | None],
        durations: Sequence[int],
        tick_s: Fraction,
        rate: Fraction,
        file_start: Fraction = Fraction(0),
    ) -> Self:
        """Return the time line of pictures whose times a file gives, however badly.

        The k-th picture in display order gets the k-th smallest time, since some files give times of storage instead.
        A time that is missing lies evenly between its neighbours; where all are missing, the rate counts. Where the
        clock is set back (parts of broadcasts joined as they are), time goes on.

        Args:
            times: of each picture, in ticks, in the order of display or of storage; at least one.
            durations: of each picture, in ticks; 0: not known.
            tick_s: length of a tick, seconds.
            rate: pictures per second, where nothing else tells.
            file_start: time that a player shows as 0, seconds.

        Raises:
            ValueError: the times span more than ``LONGEST_S``; the message says how much.
        """
        if all(time is None for time in times):
            return cls(0.0, np.arange(len(times)), len(times), 1 / rate)
        # Python integers, since damaged times may differ by more than int64 holds.
        known = [time for time in times if time is not None]
        if (max(known) - min(known)) * tick_s > LONGEST_S:
            raise ValueError(f"its times span {float((max(known) - min(known)) * tick_s) / 86400:.0f} days")
        base = min(known)
        nominal = max(round(1 / (rate * tick_s)), 1)
        filled = _continuous(_filled([None if time is None else time - base for time in times], nominal), nominal)
        order = np.argsort(filled, kind="stable")
        ordered = filled[order]
        gaps = np.diff(ordered)
        usual = int(np.median(gaps[gaps > 0])) if (gaps > 0).any() else nominal
        ticks = ordered - ordered[0]
        start = (base + int(ordered[0])) * tick_s - file_start
        last = durations[int(order[-1])]
        end = int(ticks[-1]) + (last if 0 < last * tick_s <= LONGEST_S else usual)
        # A file's start is known to the microsecond.
        return cls(max(round(start * 1_000_000), 0) / 1_000_000, ticks, end, tick_s)

    def __len__(self) -> int:
        return len(self.ticks)

    def same_as(self, other: "TimeLine") -> bool:
        """Return whether ``other`` shows as many pictures at the same times."""
        mine, theirs = ((line.start_s, line.end, line.tick_s) for line in (self, other))
        return mine == theirs and np.array_equal(self.ticks, other.ticks)

    @property
    def duration_s(self) -> float:
        """Seconds from the first picture to the end of the last one."""
        return float(self.end * self.tick_s)

    @property
    def end_s(self) -> float:
        """When the last picture disappears, seconds."""
        return self.start_s + self.duration_s

    def count(self, fps: Fraction) -> int:
        """Return how many frames show the video at ``fps`` frames/s, at least 1."""
        return max(int(self._nearest(np.array([self.end]), fps)[0]), 1)

    def shown(self, numbers: NDArray[np.int64], fps: Fraction) -> NDArray[np.int64]:
        """Return which picture each frame shows that is numbered 0..``count(fps) - 1`` at ``fps`` frames/s."""
        return np.asarray(np.searchsorted(self._nearest(self.ticks, fps), numbers, side="right") - 1, dtype=np.int64)

    def repeats(self, fps: Fraction) -> NDArray[np.int64]:
        """Return how often each picture is shown at ``fps`` frames/s: int64 ``[F]``; the sum is ``count(fps)``."""
        firsts = np.minimum(self._nearest(self.ticks, fps), self.count(fps))
        return np.diff(firsts, append=self.count(fps))

    def picture_at(self, time_s: float) -> int:
        """Return the number of the picture that is on the screen; before the first one the first."""
        tick = Fraction(time_s - self.start_s) / self.tick_s
        return max(int(np.searchsorted(self.ticks, float(tick), side="right")) - 1, 0)

    @property
    def mean_rate(self) -> float:
        """Pictures per second, over the whole."""
        return len(self) / self.duration_s

    @property
    def rates(self) -> tuple[float, float]:
        """The lowest and the highest number of pictures per second at any time; equal where the rate is constant."""
        gaps = np.diff(self.ticks)
        gaps_s = gaps[gaps > 0] * float(self.tick_s)
        if not len(gaps_s):
            return self.mean_rate, self.mean_rate
        usual_s = float(np.median(gaps_s))
        if np.abs(gaps_s - usual_s).max() <= max(_STEADY * usual_s, _ROUNDED_S):
            return self.mean_rate, self.mean_rate
        return 1 / float(gaps_s.max()), 1 / float(gaps_s.min())

    def _nearest(self, ticks: NDArray[np.int64], fps: Fraction) -> NDArray[np.int64]:
        """Return the frame at ``fps`` that is nearest to each tick; halves are rounded up."""
        step = self.tick_s * fps
        fits = (2 * self.end + 1) * step.numerator + step.denominator < 2**62
        exact = ticks if fits else ticks.astype(object)
        result = (2 * exact * step.numerator + step.denominator) // (2 * step.denominator)
        return result.astype(np.int64)


def _filled(times: Sequence[int | None], step: int) -> NDArray[np.int64]:
    """Return times without holes: between known ones evenly, outside of them by ``step``."""
    places = np.array([place for place, time in enumerate(times) if time is not None])
    known = np.array([time for time in times if time is not None], dtype=np.int64)
    if len(known) == len(times):
        return known
    everywhere = np.arange(len(times))
    result = np.rint(np.interp(everywhere, places, known)).astype(np.int64)
    result += step * (np.minimum(everywhere - places[0], 0) + np.maximum(everywhere - places[-1], 0))
    return result


def _continuous(times: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Return times that go on where the clock was set back: where one lies before more pictures than are reordered."""
    result = times.copy()
    place = _REORDERED + 1
    while place < len(result):
        windows = np.lib.stride_tricks.sliding_window_view(result, _REORDERED + 1).min(axis=1)
        back = np.flatnonzero(result[place:] < windows[place - _REORDERED - 1 : -1])
        if not len(back):
            break
        place += int(back[0])
        begins = int(result[place : place + _REORDERED + 1].min())
        result[place:] += int(result[:place].max()) + step - begins
        place += _REORDERED + 1
    return result
