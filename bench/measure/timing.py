"""Timing a cell in processes of its own, and the energy pass after it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import torch

from bench.cells import Task
from bench.machine.clocks import Round, Stopwatch, clock_of, listening_s
from bench.machine.energy_meters import gpu_meter, host_meter
from bench.machine.processes import Outcome, Runner, run_all
from bench.measure.energy import measure_energy
from bench.measure.host_workloads import DataLoading, Postprocessing, RealBatches
from bench.measure.roofs import measure_roof
from bench.measure.rounds import LEAST_ROUNDS, Limits, counted_rounds, take_rounds
from bench.measure.workload import Amounts, Workload
from bench.predict.roofline import Roof
from bench.records.record import Finding, Metrics
from etad.config import Config
from etad.distributed import choose_device, compute_on

TIMEOUT_S = 6 * 3600.0


@dataclass(frozen=True)
class Timing:
    """Task a cell's process returns.

    Attributes:
        rounds: all of them, warm-up first.
        amounts: what one round works through.
        roof: what the device can do, measured for a CPU, from a data sheet for a GPU.
        method: how time was taken.
        listening_s: what telling of one phase costs.
        device: the GPU's name; None: the CPU.
        warm: how many rounds are warm-up; None: as many as the samples show.
    """

    rounds: tuple[Round, ...]
    amounts: Amounts
    roof: Roof
    method: str
    listening_s: float
    device: str | None
    warm: int | None = None

    @property
    def warmup(self) -> Sequence[Round]:
        """The rounds that are warm-up."""
        return self.rounds[: len(self.rounds) - len(self.counted)]

    @property
    def counted(self) -> Sequence[Round]:
        """The rounds after the warm-up."""
        return counted_rounds(self.rounds) if self.warm is None else self.rounds[self.warm :]


def pooled(timings: Sequence[Timing]) -> Timing:
    """Put the timings of several processes together, round by round: what differs between them is scatter, no drift."""
    warmup = [one for timing in timings for one in timing.warmup]
    rounds = [one for turn in zip_longest(*(timing.counted for timing in timings)) for one in turn if one is not None]
    first = timings[0]
    # Whatever else runs on the machine only ever lowers what is reached.
    roof = functools.reduce(Roof.best, (timing.roof for timing in timings))
    method = first.method if len(timings) == 1 else f"{first.method}; {len(timings)} processes"
    return replace(first, rounds=(*warmup, *rounds), roof=roof, method=method, warm=len(warmup))


def time_cell(config: Config, task: Task, device_name: str, limits: Limits, real_data: bool = False) -> Timing:
    """Time one cell; called in a process of its own.

    Raises:
        UserError: there is no such device, or the data that is asked for cannot be used.
    """
    device = compute_on(device_name)
    clock = clock_of(device)
    roof = measure_roof(device, config)
    watch = Stopwatch(clock)
    workload = workload_of(config, task, device, watch, real_data)
    (rounds,) = take_rounds([workload], [watch], limits)
    return Timing(
        rounds=tuple(rounds),
        amounts=workload.amounts,
        # Whatever else runs on the machine only ever lowers what is reached.
        roof=roof.best(measure_roof(device, config)),
        method=clock.method,
        listening_s=listening_s(clock),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    )


def time_in_processes(
    config: Config, task: Task, device_name: str, limits: Limits, real_data: bool, runner: Runner = run_all
) -> Outcome[Timing]:
    """Time one cell in ``limits.processes`` processes, one after the other; the first that fails ends it.

    Raises:
        UserError: as :func:`time_cell`.
    """
    call = (config, task, device_name, limits.of_one_process(), real_data)
    outcomes: list[Outcome[Timing]] = []
    for outcome in runner(time_cell, [call] * limits.processes, TIMEOUT_S):
        outcomes.append(outcome)
        if outcome.value is None:
            break
    timings = [outcome.value for outcome in outcomes if outcome.value is not None]
    duration_s = sum(outcome.duration_s for outcome in outcomes)
    last, started_at = outcomes[-1], outcomes[0].started_at
    value = None if last.value is None else pooled(timings)
    return Outcome(last.status, value, last.message, started_at, duration_s)


def workload_of(
    config: Config, task: Task, device: torch.device, watch: Stopwatch, real_data: bool
) -> Workload | DataLoading | Postprocessing:
    """Return what is to be repeated; it tells ``watch`` of its phases."""
    if task == "data":
        return DataLoading(config, watch)
    if task == "post":
        return Postprocessing(config, watch, device)
    if not real_data:
        return Workload(config, task, device, [watch])
    batches = RealBatches(config, device, watch)
    return Workload(config, task, device, [watch], batches, batches.classes)


def energy_cell(config: Config, task: Task, device_name: str) -> tuple[Metrics, dict[str, Finding]]:
    """Measure what a cell costs in energy; called in a process of its own, after the one that was timed."""
    device = choose_device(device_name)
    clock = clock_of(device)
    workload = workload_of(config, task, device, Stopwatch(clock), real_data=False)
    for _ in range(LEAST_ROUNDS):
        workload()
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else None
    return measure_energy(workload, workload.amounts.videos, gpu_meter(uuid), host_meter(), clock.wait)
