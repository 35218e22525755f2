"""Time: by the host's clock, or by a GPU's own events inside a window at whose ends the GPU has nothing left to do.

A GPU works on after the host has gone on, so the host's clock tells when work was issued, and events when it was done.
"""

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Marks moments in a device's work; the time between two of them is known once the device was waited for."""

    method: str

    def mark(self) -> Any:
        """Mark this moment."""

    def wait(self) -> None:
        """Wait until the device has done all that was asked of it."""

    def seconds(self, begin: Any, end: Any) -> float:
        """Return the time from one mark to another; after :meth:`wait`."""


class HostClock:
    """The clock of the host, for work that is done when the call returns."""

    method = "perf_counter"

    def mark(self) -> float:
        """See :class:`Clock`."""
        return time.perf_counter()

    def wait(self) -> None:
        """See :class:`Clock`."""

    def seconds(self, begin: float, end: float) -> float:
        """See :class:`Clock`."""
        return end - begin


class DeviceClock:
    """Events in the current stream of a CUDA device; their resolution is about half a microsecond."""

    method = "CUDA events in a synchronised window"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> torch.cuda.Event:
        """See :class:`Clock`."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait(self) -> None:
        """See :class:`Clock`."""
        torch.cuda.synchronize(self._device)

    def seconds(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """See :class:`Clock`."""
        return begin.elapsed_time(end) / 1000  # milliseconds


def clock_of(device: torch.device) -> Clock:
    """Return the clock of a device."""
    return DeviceClock(device) if device.type == "cuda" else HostClock()


@dataclass(frozen=True)
class Round:
    """One timed call.

    Attributes:
        duration_s: from its beginning until the device had done it.
        issued_s: until the host had issued it, by the host's clock; on a CPU the two are one.
        phases: seconds of each phase, all its occurrences together.
    """

    duration_s: float
    issued_s: float
    phases: dict[str, float]


class Stopwatch:
    """Times one window at a time and, as a listener (etad.phases.Listener), the phases within it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[str, Any] = {}
        self._marks: list[tuple[str, Any, Any]] = []

    def begin_window(self) -> None:
        """Wait for the device, then begin."""
        self._marks.clear()
        self._clock.wait()
        self._issued_from = time.perf_counter()
        self._begun = self._clock.mark()

    def end_window(self) -> Round:
        """Wait for the device, and return what the window took."""
        ended = self._clock.mark()
        issued_s = time.perf_counter() - self._issued_from
        self._clock.wait()
        phases: dict[str, float] = defaultdict(float)
        for phase, begin, end in self._marks:
            phases[phase] += self._clock.seconds(begin, end)
        return Round(self._clock.seconds(self._begun, ended), issued_s, dict(phases))

    def begin(self, phase: str) -> None:
        """See etad.phases.Listener."""
        self._open[phase] = self._clock.mark()

    def end(self, phase: str) -> None:
        """See etad.phases.Listener."""
        self._marks.append((phase, self._open.pop(phase), self._clock.mark()))


CALLS = 1000


def listening_s(clock: Clock) -> float:
    """Return what one pair of ``begin`` and ``end`` costs the host, in seconds."""
    watch = Stopwatch(clock)
    watch.begin_window()
    begun = time.perf_counter()
    for _ in range(CALLS):
        watch.begin("phase")
        watch.end("phase")
    cost_s = (time.perf_counter() - begun) / CALLS
    watch.end_window()
    return cost_s
