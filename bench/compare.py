"""Two sets of records, and a verdict for every metric; see bench/judge.py for how one is found.

Cells pair by what was asked: suite, kind, device, measurement and config, where a setting that one side does not know
yet has its default.
"""

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from bench.gates import Gates
from bench.judge import RECORD, VERDICTS, Comparison, Verdict, compare_metric
from bench.record import Metric, Metrics, Record
from bench.statistics import median
from bench.store import flat, load_records
from etad.config import parse_config
from etad.errors import ConfigError, NothingToDoError, UserError

UNSTEADY = ("drifting", "throttled")
"""Stability verdicts under which a difference says nothing."""

REGRESSED = 1
NOT_COMPARABLE = 4


class NotComparableError(UserError):
    """There is nothing to compare with, or the two sides do not belong together."""

    exit_code = NOT_COMPARABLE


@dataclass(frozen=True)
class Compared:
    """All verdicts, and how the two sides' environments differ, one line each."""

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]

    def count(self) -> dict[Verdict, int]:
        """Return how often each verdict was given; those that never were are left out."""
        counts = Counter(comparison.verdict for comparison in self.comparisons)
        return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}

    def exit_code(self, strict: bool = False) -> int:
        """Return 1 for a regression, 4 for something incomparable, else 0; strict: 1 for missing or inconclusive."""
        found = self.count()
        if "regressed" in found or (strict and ("missing" in found or "inconclusive" in found)):
            return REGRESSED
        return NOT_COMPARABLE if "incomparable" in found else 0


def load_base(path: Path) -> list[Record]:
    """Return the records to compare with, of a file or a folder.

    Raises:
        NotComparableError: there are none.
        DataError: a file is damaged, or a cell is there twice.
    """
    try:
        return load_records(path)
    except NothingToDoError as error:
        raise NotComparableError(f"{error}, so there is nothing to compare with") from None


def compare_records(
    base: Sequence[Record],
    head: Sequence[Record],
    gates: Gates,
    across_devices: bool = False,
    ignored: Iterable[str] = (),
) -> Compared:
    """Judge every metric of ``head`` by ``base``.

    Args:
        base, head: records.
        gates: directions and thresholds.
        across_devices: pair cells of different devices, and of CPUs with different numbers of threads.
        ignored: settings ("step.snippet_ratio", or a section) by which cells may differ and still pair. Where several
            cells of one side become one by it (seeds), each is one sample.

    Raises:
        NotComparableError: one side has a cell twice, or no cell is on both sides.
    """
    keys = tuple(ignored)
    before, after = (_by_key(records, side, across_devices, keys) for records, side in ((base, "BASE"), (head, "HEAD")))
    everything = [*before.values(), *after.values()]
    label = _labels(everything, keys)
    pairs = [(before[key], after[key]) for key in before if key in after]
    missing = {key: record for key, record in before.items() if key not in after}
    new = {key: record for key, record in after.items() if key not in before}
    comparisons = [
        comparison
        for first, second in pairs
        for comparison in _compare_pair(first, second, label(second), gates, across_devices)
    ]
    moved = {key.cell: key for key in new}
    for key, record in missing.items():
        if key.cell in moved:
            other = new.pop(moved.pop(key.cell))
            reason = f"BASE is of {record.device}, HEAD of {other.device}; --across-devices compares them all the same"
            comparisons.append(Comparison(label(record), RECORD, "", "incomparable", reason))
        else:
            comparisons.append(Comparison(label(record), RECORD, "", "missing", "HEAD does not have this cell"))
    comparisons += [
        Comparison(label(record), RECORD, "", "new", "BASE does not have this cell") for record in new.values()
    ]
    if {comparison.verdict for comparison in comparisons} <= {"new", "missing"}:
        raise NotComparableError(
            f"BASE and HEAD have no cell in common; they differ in {', '.join(_differing(everything)) or 'the suite'}"
            " (--ignore KEY compares across a setting)"
        )
    return Compared(tuple(comparisons), tuple(_environment_notes(pairs)))


# Pairing ------------------------------------------------------------------------------------------------------------


class _Key(NamedTuple):
    """What was asked, as text, and of which device; "" where the device does not count."""

    cell: str
    device: str


def _by_key(records: Sequence[Record], side: str, across_devices: bool, ignored: Sequence[str]) -> dict[_Key, Record]:
    found: dict[_Key, list[Record]] = defaultdict(list)
    for record in records:
        found[_Key(_cell(record, ignored), "" if across_devices else record.device)].append(record)
    for same in found.values():
        if len(same) > 1 and not ignored:
            first, second, *_ = same
            raise NotComparableError(
                f"{side} has two records for one cell: {first.device}/{first.suite}/{first.cell_id} and "
                f"{second.device}/{second.suite}/{second.cell_id}; give a folder with one of them"
            )
    return {key: _pooled(same) for key, same in found.items()}


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
    asked = flat("config", config) | flat("measurement", record.measurement)
    kept = {
        key: value
        for key, value in asked.items()
        if not any(_is_below(key.partition(".")[2], name) for name in ignored)
    }
    return json.dumps([record.suite, record.kind, kept], sort_keys=True)


def _is_below(setting: str, name: str) -> bool:
    return setting == name or setting.startswith(f"{name}.")


def _labels(records: Sequence[Record], ignored: Sequence[str]) -> Callable[[Record], str]:
    """Return a function that names a cell: suite, config, device if there are several, and what else tells it apart."""
    alike: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        alike[record.suite, _name(record)].append(record)
    differing = {
        group: [key for key in _differing(members) if not any(_is_below(key, name) for name in ("device", *ignored))]
        for group, members in alike.items()
    }
    several_devices = len({record.device for record in records}) > 1

    def label(record: Record) -> str:
        settings = _settings(record)
        parts = [record.suite, _name(record)]
        parts += [f"{key.rpartition('.')[2]}={settings.get(key)}" for key in differing[record.suite, _name(record)]]
        return " ".join([*parts, *(["on", record.device] if several_devices else [])])

    return label


def _name(record: Record) -> str:
    return str(record.config.get("name", record.cell_id))


def _differing(records: Sequence[Record]) -> list[str]:
    values: dict[str, set[str]] = defaultdict(set)
    for settings in map(_settings, records):
        for key, value in settings.items():
            values[key].add(str(value))
    return [key for key, seen in values.items() if len(seen) > 1]


def _settings(record: Record) -> dict[str, Any]:
    asked = flat("config", record.config) | flat("measurement", record.measurement)
    return {key.partition(".")[2]: value for key, value in asked.items()} | {"device": record.device}


# Environment --------------------------------------------------------------------------------------------------------

THREADS = "environment.torch.threads"
CONDITIONS = {
    "environment.torch.version": "torch",
    "environment.torch.cuda": "CUDA",
    "environment.torch.cudnn": "cuDNN",
    THREADS: "threads",
    "environment.torch.matmul_fp32_precision": "matmul precision",
    "environment.host.python": "Python",
    "environment.host.name": "host",
}
"""What a difference may come from, besides the code."""


def _environment_notes(pairs: Sequence[tuple[Record, Record]]) -> Iterator[str]:
    changes: Counter[str] = Counter()
    for base, head in pairs:
        before, after = (flat("environment", record.environment) for record in (base, head))
        for key, name in CONDITIONS.items():
            if before.get(key) != after.get(key):
                changes[f"{name}: {before.get(key)} -> {after.get(key)}"] += 1
    for change, count in changes.items():
        yield f"{change} ({count} {'cell' if count == 1 else 'cells'})"


# Metrics ------------------------------------------------------------------------------------------------------------


def _compare_pair(base: Record, head: Record, cell: str, gates: Gates, across_devices: bool) -> Iterator[Comparison]:
    if not (base.succeeded and head.succeeded):
        yield _compare_failures(base, head, cell)
        return
    same = base == head
    threads = [flat("environment", record.environment).get(THREADS) for record in (base, head)]
    same_speed = across_devices or not head.device.startswith("cpu") or threads[0] == threads[1]
    before, after = (_all_metrics(record) for record in (base, head))
    for name in before | after:
        gate = gates.of(name)
        if not gate.compare:
            continue
        found = compare_metric(cell, name, before.get(name), after.get(name), gate)
        if found is None:
            continue
        if same:
            found = replace(found, verdict="unchanged", reason="the same record")
        elif found.way in ("samples", "interval"):
            if not same_speed:
                reason = f"BASE ran with {threads[0]} threads, HEAD with {threads[1]}; --across-devices compares them"
                found = replace(found, verdict="incomparable", reason=reason)
            elif found.verdict in ("improved", "regressed") and (unsteady := _unsteady(name, base, head)):
                found = replace(found, verdict="inconclusive", reason=unsteady)
        yield found


def _compare_failures(base: Record, head: Record, cell: str) -> Comparison:
    verdict: Verdict
    if head.status == "skipped":
        verdict = "missing"
    elif base.succeeded:
        verdict = "regressed"
    elif head.succeeded:
        verdict = "new" if base.status == "skipped" else "improved"
    else:
        verdict = "unchanged" if base.status == head.status else "inconclusive"
    why = "" if head.failure is None else f": {head.failure.message}"
    return Comparison(cell, RECORD, "", verdict, f"{base.status} -> {head.status}{why}")


def _all_metrics(record: Record) -> dict[str, Metric]:
    phases = record.phases.items()
    return record.metrics | {f"{phase}: {name}": metric for phase, found in phases for name, metric in found.items()}


def _unsteady(name: str, base: Record, head: Record) -> str:
    for side, record in (("BASE", base), ("HEAD", head)):
        finding = record.findings.get(f"stability.{name}", "")
        if finding.startswith(UNSTEADY):
            return f"{side} was {finding}"
    return ""
