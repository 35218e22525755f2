"""Clocks and the stopwatch; a GPU's by a double of its events, with a time of its own."""

from typing import Any

import pytest
import torch

from bench.machine.clocks import DeviceClock, HostClock, Stopwatch, clock_of, listening_s


class Gpu:
    """A GPU that works off what is issued: events get the time at which it reaches them, when it is waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = 0.0
        self.waits = 0
        self.queue: list[Any] = []
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing
                self.at_ms: float | None = None

            def record(self, stream: str) -> None:
                assert stream == "stream of cuda:1"
                gpu.queue.append(self)

            def elapsed_time(self, end: "Event") -> float:
                assert self.at_ms is not None
                assert end.at_ms is not None, "the event was read before the device was waited for"
                return end.at_ms - self.at_ms

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
        monkeypatch.setattr(torch.cuda, "synchronize", self.synchronize)

    def work(self, duration_ms: float) -> None:
        self.queue.append(duration_ms)

    def synchronize(self, device: torch.device) -> None:
        self.waits += 1
        for entry in self.queue:
            if isinstance(entry, float):
                self.now_ms += entry
            else:
                entry.at_ms = self.now_ms
        self.queue.clear()


def test_a_gpu_is_timed_by_its_own_events(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch)
    watch = Stopwatch(clock_of(torch.device("cuda", 1)))
    gpu.work(1000.0)  # what was going on before is waited for and does not count
    watch.begin_window()
    for duration_ms in (3.0, 4.0):
        watch.begin("encode")
        gpu.work(duration_ms)
        watch.end("encode")
    gpu.work(2.0)
    watch.begin("detect")
    gpu.work(5.0)
    watch.end("detect")
    taken = watch.end_window()
    assert gpu.waits == 2
    assert taken.duration_s == pytest.approx(0.014)
    assert taken.phases == {"encode": pytest.approx(0.007), "detect": pytest.approx(0.005)}
    assert 0 <= taken.issued_s < 1


def test_the_next_window_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch)
    watch = Stopwatch(DeviceClock(torch.device("cuda", 1)))
    for _ in range(2):
        watch.begin_window()
        watch.begin("detect")
        gpu.work(5.0)
        watch.end("detect")
        assert watch.end_window().phases == {"detect": pytest.approx(0.005)}


def test_a_cpu_is_timed_by_the_hosts_clock() -> None:
    clock = clock_of(torch.device("cpu"))
    assert isinstance(clock, HostClock)
    watch = Stopwatch(clock)
    watch.begin_window()
    watch.begin("detect")
    watch.end("detect")
    taken = watch.end_window()
    assert 0 <= taken.phases["detect"] <= taken.duration_s <= taken.issued_s + 1e-3
    # A pair of marks costs microseconds: with five phases, far below 1 % of a step of 100 ms.
    assert 0 < listening_s(clock) < 0.01 * 0.1 / 6
