"""Which of the GPUs in a price list trains an experiment for the least money, and fits it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.cells import Cell
from bench.machine.datasheets import HardwareProfile
from bench.machine.prices import Rates
from bench.predict.forecast import Factors
from bench.records.record import Metrics, Record, value_of
from bench.suites.forecast import forecast_cells
from bench.suites.plan import wanted

MOST = 5
"""GPUs that fit, after which the search ends: predicting memory takes seconds a GPU."""


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        offers: memory records of the GPUs that fit, or may, cheapest first, with the forecast's time and costs.
        too_small: GPUs that would have cost less, and do not fit.
        without_forecast: why GPUs of the list have no forecast, one line each.
    """

    offers: tuple[Record, ...]
    too_small: tuple[str, ...]
    without_forecast: tuple[str, ...]


def cheapest(
    cell: Cell,
    profiles: Sequence[HardwareProfile],
    factors: Factors,
    videos: int,
    rates: Rates,
    command: Sequence[str],
    most: int = MOST,
) -> Found:
    """Return the GPUs that train for the least money by forecast, and fit by prediction.

    Args:
        cell: the training step.
        profiles: GPUs that have a price.
        factors, videos, rates: as :func:`bench.suites.forecast.forecast_cells` takes them.
        command: command line without the GPU.
        most: how many GPUs to find.
    """
    forecasts = list(forecast_cells([cell], profiles, factors, videos, rates))
    by_name = {profile.name: profile for profile in profiles}
    lacking = [record.failure.message for record in forecasts if record.failure is not None]
    dearer_last = sorted((record for record in forecasts if record.succeeded), key=_rent)
    offers: list[Record] = []
    too_small: list[str] = []
    for record in dearer_last:
        name = str(record.measurement["hardware"])
        memory = next(iter(_memory(cell, by_name[name], command)), None)
        if memory is None or memory.status == "oom":
            too_small.append(name)
            continue
        offers.append(memory.model_copy(update=_joined(memory, record)))
        if len(offers) == most:
            break
    return Found(tuple(offers), tuple(too_small), tuple(lacking))


def _memory(cell: Cell, profile: HardwareProfile, command: Sequence[str]) -> Iterator[Record]:
    if profile.no_memory_prediction is None:
        yield from wanted(cell.config, [profile], command)


def _joined(memory: Record, forecast: Record) -> dict[str, object]:
    of_time: Metrics = {
        name: metric for name, metric in forecast.metrics.items() if name == "step_s" or name.startswith("schedule_")
    }
    return {"metrics": memory.metrics | of_time, "findings": memory.findings | forecast.findings}


def _rent(record: Record) -> float:
    return float(value_of(record.metrics, "schedule_rent_money") or float("inf"))
