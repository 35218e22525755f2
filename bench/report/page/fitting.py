"""Hardware side by side: which GPU has the memory for which setting."""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.machine.datasheets import CONTEXT_ALLOWANCE_BYTES, HardwareProfile
from bench.records.record import Kind, Metric, Record
from bench.report.page.charts import Range, range_chart
from bench.report.page.collect import Entry, spread_out, telling_names, title
from bench.report.page.document import Block, Chart, Charts, Column, Note, Section, Table, Value
from bench.report.page.parts import bytes_column, kind_column
from bench.report.page.settings import DEVICE, label_of_several
from bench.report.reading import experiment, fits, task_name, value_in
from bench.units import GIB, MIB, format_bytes

VERDICTS = {"yes": "● yes", "no": "○ no", "uncertain": "◐ uncertain"}
MOST_SETTINGS = 8
"""In the chart and the matrix; the table of verdicts holds all."""
NAMED = 3
"""GPUs of a row that have the same verdicts; the table with a row each names all."""
INSTEAD = "etad-bench memory --ratio 0.3 --strategy sequential,joint --hardware rtx_4090_24g --store RESULTS"


@dataclass(frozen=True)
class Need:
    """What a setting takes: reserved bytes from low to high, and the least it can do with."""

    experiment: str
    settings: str
    kind: Kind
    low_bytes: float
    high_bytes: float
    least_bytes: float

    @property
    def label(self) -> str:
        """Experiment and settings."""
        return ", ".join(filter(None, [self.experiment, self.settings]))


def fitting_section(entries: Sequence[Entry], profiles: Sequence[HardwareProfile]) -> Section:
    """Return the section: the verdicts of the records, then a comparison of every need with every profile."""
    memory = [entry for entry in entries if entry.record.suite == "memory" and _reserved(entry.record) is not None]
    needs = list(needs_of(memory))
    blocks: list[Block] = []
    if needs:
        shown = spread_out(needs, MOST_SETTINGS)
        more = f" {len(shown)} of {len(needs)} settings, from the least to the most." if len(needs) > len(shown) else ""
        blocks.append(Charts([_chart(shown, profiles, more)]))
        blocks += _matrices(shown, profiles)
        blocks.append(
            Note(
                "The tables compare the bytes of the records with each GPU's memory: it fits if the upper bound "
                f"leaves {CONTEXT_ALLOWANCE_BYTES // MIB} MiB for the CUDA context, it does not if the GPU has less "
                "than the step requests; between these it is uncertain, and etad-bench memory --hardware NAME looks "
                "closer."
            )
        )
    judged = [entry for entry in memory if fits(entry.record) is not None]
    if judged:
        blocks.append(_verdicts(judged))
    return Section("hardware", "Hardware side by side", blocks, INSTEAD)


def verdict(need: Need, available_bytes: int) -> str:
    """Return yes, no or uncertain, by the rule that the section states."""
    if need.high_bytes + CONTEXT_ALLOWANCE_BYTES <= available_bytes:
        return "yes"
    return "no" if need.least_bytes > available_bytes else "uncertain"


def _reserved(record: Record) -> Metric | None:
    metric = record.metrics.get("reserved_peak_bytes")
    return metric if metric is not None and metric.value else None


def needs_of(entries: Sequence[Entry]) -> Iterator[Need]:
    """Yield what the settings take, whatever GPU it was predicted for, the least first; equal ones are one."""
    memory = [entry for entry in entries if entry.record.suite == "memory" and _reserved(entry.record) is not None]
    cells: dict[str, list[Entry]] = defaultdict(list)
    for entry in memory:
        settings = {name: value for name, value in entry.settings.items() if name != DEVICE}
        same = [experiment(entry.record), task_name(entry.record), entry.record.kind, settings]
        cells[json.dumps(same, sort_keys=True)].append(entry)
    equal: dict[tuple[str, str, Kind, float, float, float], list[Entry]] = defaultdict(list)
    for group in cells.values():
        bounds = [_bounds(metric) for entry in group if (metric := _reserved(entry.record)) is not None]
        low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
        least = min(value_in(entry.record, "requested_peak_bytes") or low for entry in group)
        first = group[0].record
        # A page of 4 KiB more or less, as a ratio makes it, is the same need to a reader.
        equal[experiment(first), task_name(first), first.kind, low, high, round(least / MIB)].append(group[0])
    names = telling_names(memory)
    needs = []
    for (name, what, kind, low, high, least_mib), group in equal.items():
        text = label_of_several([entry.settings for entry in group], names[name])
        parts = ["" if what == "training step" else what, text]
        needs.append(Need(name, ", ".join(filter(None, parts)), kind, low, high, least_mib * MIB))
    yield from sorted(needs, key=lambda need: need.high_bytes)


def _bounds(metric: Metric) -> tuple[float, float]:
    value = float(metric.value or 0)
    return (value if metric.low is None else float(metric.low), value if metric.high is None else float(metric.high))


def _chart(needs: Sequence[Need], profiles: Sequence[HardwareProfile], more: str) -> Chart:
    sizes = sorted({round(profile.memory_bytes / GIB, 1) for profile in profiles})
    rows = [
        Range(need.label, need.low_bytes / GIB, need.high_bytes / GIB, need.kind, _range_text(need)) for need in needs
    ]
    svg = range_chart(
        "fit", "Reserved memory of each setting", "reserved memory, GiB (log); lines: sizes of GPUs", rows, sizes
    )
    caption = f"A bar runs from the lower to the upper bound.{more}"
    return Chart(
        "What each setting reserves, and where GPUs end", svg, caption, list(dict.fromkeys(n.kind for n in needs))
    )


def _range_text(need: Need) -> str:
    return " to ".join(dict.fromkeys(map(format_bytes, (need.low_bytes, need.high_bytes))))


def _matrices(needs: Sequence[Need], profiles: Sequence[HardwareProfile]) -> Iterator[Table]:
    """Yield the verdicts with equal GPUs in one row, and the same with a row for each."""
    judged = [
        (profile, [verdict(need, profile.available_memory_bytes) for need in needs])
        for profile in sorted(profiles, key=lambda profile: (profile.available_memory_bytes, profile.name))
    ]
    verdicts = [
        Column(need.label, need.label.replace(" ", "_"), "mark", lambda value: VERDICTS[str(value)]) for need in needs
    ]
    grouped: list[list[Value]] = []
    for _, same in itertools.groupby(judged, key=lambda pair: pair[1]):
        group = list(same)
        sizes = dict.fromkeys(f"{profile.available_memory_bytes / GIB:.3g}" for profile, _ in (group[0], group[-1]))
        names = [profile.name for profile, _ in group]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        grouped.append([" to ".join(sizes) + " GiB", ", ".join(names[:NAMED]) + more, *group[0][1]])
    caption = "Does it fit? Every known GPU against these settings, from the bytes of the records"
    yield Table("gpu-classes", caption, [Column("memory", "memory"), Column("GPUs", "hardware"), *verdicts], grouped)
    each: list[list[Value]] = [[profile.name, profile.available_memory_bytes, *found] for profile, found in judged]
    columns = [Column("GPU", "hardware"), bytes_column("memory", "memory_bytes"), *verdicts]
    yield Table("gpus", "The same, one row a GPU", columns, each, folded=True)


def _verdicts(entries: Sequence[Entry]) -> Table:
    names = telling_names(entries)
    rows = []
    for entry in entries:
        record = entry.record
        reserved, margin = record.metrics["reserved_peak_bytes"], record.metrics.get("margin_bytes")
        rows.append(
            [
                str(record.measurement.get("hardware")),
                _number(record.measurement.get("hardware_memory_bytes")),
                title(entry, names),
                fits(record),
                record.failure.message if record.failure else record.metrics["fits"].reason,
                *_bounds(reserved),
                *(_bounds(margin) if margin is not None and margin.value is not None else (None, None)),
                record.kind,
                record.cell_id,
            ]
        )
    columns = [
        Column("GPU", "hardware"),
        bytes_column("memory", "memory_bytes"),
        Column("settings", "settings"),
        Column("fits", "fits", form="mark", show=lambda value: VERDICTS[str(value)]),
        Column("why", "why"),
        bytes_column("reserved from", "reserved_low_bytes"),
        bytes_column("to", "reserved_high_bytes"),
        bytes_column("margin from", "margin_low_bytes"),
        bytes_column("to", "margin_high_bytes"),
        kind_column(),
        Column("cell", "cell_id", "code"),
    ]
    return Table("verdicts", "Verdicts of the records, each GPU looked at closely", columns, rows, most=40)


def _number(value: object) -> int | float | None:
    return value if isinstance(value, int | float) else None
