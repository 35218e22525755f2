"""From records to a report: the sections in their order, and the summary."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.machine.datasheets import HardwareProfile, list_profiles
from bench.machine.prices import NO_RATES, Rates
from bench.published.figures import Figure
from bench.report.page.collect import Collected, Entry
from bench.report.page.costs import costs_section
from bench.report.page.curves import curve_sections
from bench.report.page.document import Report
from bench.report.page.fitting import Need, fitting_section, needs_of, verdict
from bench.report.page.holders import holders_section
from bench.report.page.overview import STATUSES, every_number, failures_section, stability_section, what_ran
from bench.report.page.pareto import Candidate, own_candidates, pareto_section
from bench.report.page.speed import SUITE, roofline_section, speed_section
from bench.report.reading import experiment
from bench.units import format_bytes, format_seconds

MOST_EXPERIMENTS = 4
"""In the summary."""
LONG = 70
"""Letters; longer settings are left to the charts."""


def build_report(
    collected: Collected,
    sources: Sequence[Path],
    figures: Sequence[Figure],
    profiles: Sequence[HardwareProfile],
    made: str,
    rates: Rates = NO_RATES,
) -> Report:
    """Return the report.

    Args:
        collected: the records.
        sources: where they came from.
        figures: published ones, to stand beside them.
        profiles: GPUs to compare the predicted memory with.
        made: when and by what it is made, in words.
        rates: prices; with any, there is a section on costs.
    """
    entries = collected.entries
    sections = [
        what_ran(entries),
        *curve_sections(entries),
        pareto_section(entries, figures),
        fitting_section(entries, profiles),
        holders_section(entries),
        speed_section(entries),
        roofline_section(entries),
        *([costs_section(entries, list_profiles(), rates)] if rates != NO_RATES else []),
        stability_section(entries),
        failures_section(entries),
        every_number(entries),
    ]
    return Report(
        title="ETAD benchmark report",
        subtitle=f"From {', '.join(map(str, sources))}; {made}",
        summary=list(_summary(entries, profiles)),
        warnings=collected.problems,
        sections=sections,
    )


def _summary(entries: Sequence[Entry], profiles: Sequence[HardwareProfile]) -> Iterator[str]:
    yield _what_there_is(entries)
    yield from _accuracies(own_candidates(entries))
    yield from _memories(list(needs_of(entries)), profiles)
    yield from _times(entries)
    failed = Counter(entry.record.status for entry in entries if not entry.record.succeeded)
    if failed:
        causes = ", ".join(f"{count} {STATUSES[status]}" for status, count in failed.items())
        yield f"{_count(failed.total(), 'record')} without a result: {causes}."
    unstable = sum(
        finding.verdict != "stable"
        for entry in entries
        for name, finding in entry.record.findings.items()
        if name.startswith("stability.")
    )
    if unstable:
        yield f"{unstable} timed quantit{'ies are' if unstable > 1 else 'y is'} not stable; see Stability and warnings."


def _what_there_is(entries: Sequence[Entry]) -> str:
    kinds = Counter(entry.record.kind for entry in entries)
    devices = {entry.record.device for entry in entries}
    experiments = {experiment(entry.record) for entry in entries}
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return (
        f"{_count(len(entries), 'record')} ({counts}) of {_count(len(experiments), 'experiment')} "
        f"on or for {_count(len(devices), 'device')}."
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _accuracies(candidates: Sequence[Candidate]) -> Iterator[str]:
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.dataset].append(candidate)
    for found in list(groups.values())[:MOST_EXPERIMENTS]:
        best, worst = (choose(found, key=lambda one: one.average_map) for choose in (max, min))
        text = f"{best.label}: average mAP {100 * best.average_map:.2f} % ({best.kind}, {best.source})"
        yield text + (f"; the lowest is {100 * worst.average_map:.2f} % at {worst.label}." if worst != best else ".")


def _memories(needs: Sequence[Need], profiles: Sequence[HardwareProfile]) -> Iterator[str]:
    groups: dict[tuple[str, str], list[Need]] = defaultdict(list)
    for need in needs:
        groups[need.experiment, need.kind].append(need)
    for (name, kind), found in list(groups.items())[:MOST_EXPERIMENTS]:
        ends = [found[0]] if found[-1].high_bytes == found[0].high_bytes else [found[0], found[-1]]
        yield f"{name}, reserved memory, {kind}: {'; '.join(_need_text(need, profiles) for need in ends)}."


def _need_text(need: Need, profiles: Sequence[HardwareProfile]) -> str:
    verdicts = Counter(verdict(need, profile.available_memory_bytes) for profile in profiles)
    size = " to ".join(dict.fromkeys(map(format_bytes, (need.low_bytes, need.high_bytes))))
    many = len(need.settings) > LONG
    what = f" with {'several settings' if many else need.settings}" if need.settings else ""
    unsure = f", uncertain for {verdicts['uncertain']}" if verdicts["uncertain"] else ""
    return f"{size}{what} (fits {verdicts['yes']} of {len(profiles)} known GPUs{unsure})"


def _times(entries: Sequence[Entry]) -> Iterator[str]:
    groups: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for entry in entries:
        record = entry.record
        step = record.metrics.get("step_s")
        if record.suite == SUITE and step is not None and step.value is not None:
            groups[experiment(record), record.device, record.kind].append(float(step.value))
    for (name, device, kind), found in list(groups.items())[:MOST_EXPERIMENTS]:
        times = " to ".join(dict.fromkeys(map(format_seconds, (min(found), max(found)))))
        yield f"{name} on {device}: {times} a step ({kind}, {_count(len(found), 'record')})."
