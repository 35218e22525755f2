"""Two sets of records, and a verdict for every metric.

Which cells belong together is in bench/compare/pairing.py, how a metric is judged in bench/compare/verdicts.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.compare.pairing import NOT_COMPARABLE, NotComparableError, by_cell, cell_names, differing_settings
from bench.compare.thresholds import Gates
from bench.compare.verdicts import RECORD, VERDICTS, Comparison, Verdict, compare_metric
from bench.records.flat import flat_cells
from bench.records.record import Metric, Record, value_of
from bench.records.store import load_records
from etad.errors import NothingToDoError

UNSTEADY = ("drifting", "throttled")
"""Stability verdicts under which a difference says nothing."""
CALIBRATION = {"memory_bandwidth_bytes_per_s": "memory bandwidth", "peak_flops_per_s": "peak"}
"""What a timing's record says of the machine at that time."""
SAME_MACHINE = 0.2
"""Relative change of a calibration up to which it was the same machine."""

REGRESSED = 1
MOST_NAMED = 8
"""Settings in an error message."""


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
    before, after = (by_cell(records, side, across_devices, keys) for records, side in ((base, "BASE"), (head, "HEAD")))
    everything = [*before.values(), *after.values()]
    label = cell_names(everything, keys)
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
        differing = ", ".join(differing_settings(everything)[:MOST_NAMED]) or "suite or kind"
        raise NotComparableError(
            f"BASE and HEAD have no cell in common; they differ in {differing} (--ignore KEY compares across a setting)"
        )
    return Compared(tuple(comparisons), tuple(_environment_notes(pairs)))


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
        before, after = (flat_cells("environment", record.environment) for record in (base, head))
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
    threads = [flat_cells("environment", record.environment).get(THREADS) for record in (base, head)]
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
            elif found.verdict in ("improved", "regressed") and (
                doubt := _unsteady(name, base, head) or _another_machine(base, head)
            ):
                found = replace(found, verdict="inconclusive", reason=doubt)
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
        finding = record.findings.get(f"stability.{name}")
        if finding is not None and finding.verdict in UNSTEADY:
            return f"{side} was {finding}"
    return ""


def _another_machine(base: Record, head: Record) -> str:
    """Say that the machine itself was faster or slower, as a virtual one is when its cores move."""
    for name, words in CALIBRATION.items():
        before, after = (value_of(record.metrics, name) for record in (base, head))
        if before and after and abs(after / before - 1) > SAME_MACHINE:
            return f"the machine itself differed: its {words} was {after / before:.2f} times that of BASE"
    return ""
