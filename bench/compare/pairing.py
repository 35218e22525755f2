"""Which cells of two sets of records belong together, and what a cell is called.

Cells pair by what was asked: suite, kind, device, measurement and config, where a setting that one side does not know
yet has its default.
"""

import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bench.records.flat import flat_cells
from bench.records.record import Metric, Metrics, Record
from bench.timing_statistics import median
from etad.config import parse_config
from etad.errors import ConfigError, UserError

NOT_COMPARABLE = 4


class NotComparableError(UserError):
    """There is nothing to compare with, or the two sides do not belong together."""

    exit_code = NOT_COMPARABLE


class Key(NamedTuple):
    """What was asked, as text, and of which device; "" where the device does not count."""

    cell: str
    device: str


def by_cell(records: Sequence[Record], side: str, across_devices: bool, ignored: Sequence[str]) -> dict[Key, Record]:
    """Return the records of one side by what pairs them; what becomes one cell by ``ignored`` is pooled.

    Args:
        records: of one side.
        side: what errors call it.
        across_devices: whether the device does not count.
        ignored: settings, or sections, that do not count.

    Raises:
        NotComparableError: a cell is there twice, and nothing is ignored.
    """
    found: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        found[Key(_cell(record, ignored), "" if across_devices else record.device)].append(record)
    for same in found.values():
        if len(same) > 1 and not ignored:
            first, second, *_ = same
            raise NotComparableError(
                f"{side} has two records for one cell: {first.device}/{first.suite}/{first.cell_id} and "
                f"{second.device}/{second.suite}/{second.cell_id}; give a folder with one of them"
            )
    return {key: _pooled(same) for key, same in found.items()}


def cell_names(records: Sequence[Record], ignored: Sequence[str]) -> Callable[[Record], str]:
    """Return a function that names a cell: suite, config, device if there are several, and what else tells it apart."""
    alike: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        alike[record.suite, _name(record)].append(record)
    told = ("device", *ignored)
    differing = {
        group: [key for key in differing_settings(members) if not any(_is_below(key, name) for name in told)]
        for group, members in alike.items()
    }
    devices = {group: len({record.device for record in members}) for group, members in alike.items()}

    def label(record: Record) -> str:
        settings, group = _settings(record), (record.suite, _name(record))
        parts = [*group, *(f"{key.rpartition('.')[2]}={settings.get(key)}" for key in differing[group])]
        return " ".join([*parts, *(["on", record.device] if devices[group] > 1 else [])])

    return label


def differing_settings(records: Sequence[Record]) -> list[str]:
    """Return the settings (and "device") in which records differ, by their dotted keys."""
    values: dict[str, set[str]] = defaultdict(set)
    for settings in map(_settings, records):
        for key, value in settings.items():
            values[key].add(str(value))
    return [key for key, seen in values.items() if len(seen) > 1]


def _pooled(records: Sequence[Record]) -> Record:
    """Return one record for several: its metrics have the value of each as a sample."""
    if len(records) == 1:
        return records[0]
    # What failed has no values; the rest still tells of the cell.
    useful = [record for record in records if record.succeeded] or records
    phases = {phase: _pooled_metrics([record.phases.get(phase, {}) for record in useful]) for phase in useful[0].phases}
    metrics = _pooled_metrics([record.metrics for record in useful])
    return useful[0].model_copy(update={"metrics": metrics, "phases": phases})


def _pooled_metrics(several: Sequence[Metrics]) -> Metrics:
    pooled: Metrics = {}
    for name, metric in several[0].items():
        values = [metrics[name].value for metrics in several if name in metrics]
        known = [value for value in values if value is not None]
        if len(set(known)) == 1:
            pooled[name] = metric.model_copy(update={"samples": tuple(known)})
        elif known:
            pooled[name] = Metric(value=median(known), unit=metric.unit, samples=tuple(known))
    return pooled


def _cell(record: Record, ignored: Sequence[str]) -> str:
    config: Mapping[str, Any] = record.config
    # What is not an experiment of this version pairs with its equal.
    with contextlib.suppress(ConfigError):
        # A setting that came after the record was written gets the default, which is what ran then.
        config = parse_config(config, "record").resolved()
    asked = flat_cells("config", config) | flat_cells("measurement", record.measurement)
    kept = {
        key: value
        for key, value in asked.items()
        if not any(_is_below(key.partition(".")[2], name) for name in ignored)
    }
    return json.dumps([record.suite, record.kind, kept], sort_keys=True)


def _is_below(setting: str, name: str) -> bool:
    return setting == name or setting.startswith(f"{name}.")


def _name(record: Record) -> str:
    return str(record.config.get("name", record.cell_id))


def _settings(record: Record) -> dict[str, Any]:
    asked = flat_cells("config", record.config) | flat_cells("measurement", record.measurement)
    return {key.partition(".")[2]: value for key, value in asked.items()} | {"device": record.device}
