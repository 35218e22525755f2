"""Speed: how long a step takes and what for, and how near it comes to what the device can do (roofline)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.records.record import Record
from bench.report.page.charts import Bar, Limit, Mark, scatter_chart
from bench.report.page.collect import Entry, spread_out, telling_names, title
from bench.report.page.document import Block, Chart, Charts, Column, Note, Section, Table, Value
from bench.report.page.parts import bar_charts, kind_column, number_column, seconds_column, share_column
from bench.report.reading import INTENSITY, SPEED, experiment, highest_roof, value_in
from bench.units import format_number, format_seconds

SUITE = "throughput"
MOST_BARS = 8
MOST_MARKS = 60
MOST_ROOFS = 4
INSTEAD = "etad-bench throughput --ratio 0.3,1.0 --store RESULTS"


def speed_section(entries: Sequence[Entry]) -> Section:
    """Return the section: durations, rates, energy and the phases of a step."""
    timed = [entry for entry in entries if entry.record.suite == SUITE and value_in(entry.record, "step_s") is not None]
    blocks: list[Block] = []
    if timed:
        titles = _titles(timed)
        phased = [entry for entry in timed if any(_phase_times(entry.record))]
        blocks += [Charts(_phase_charts(phased, titles))] if phased else []
        blocks.append(_table(timed, titles))
    return Section("speed", "Speed and energy", blocks, INSTEAD)


def roofline_section(entries: Sequence[Entry]) -> Section:
    """Return the section: a chart for every device and precision, with the records under its roof."""
    placed = [entry for entry in entries if value_in(entry.record, SPEED) and value_in(entry.record, INTENSITY)]
    if not placed:
        return Section("roofline", "Roofline", instead=INSTEAD)
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in placed:
        groups[entry.record.device, str(entry.settings.get("precision"))].append(entry)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    charts = [
        _roof_chart(number, f"{device}, {precision}", found)
        for number, ((device, precision), found) in enumerate(ordered[:MOST_ROOFS])
    ]
    blocks: list[Block] = [
        Note(
            "The slope is what the memory delivers, the level what the arithmetic units do. A step far below both "
            "waits for something else: the host, launches or data. Bytes are counted without fusion and caches, so the "
            "true intensity is at least the one shown."
        ),
        Charts(charts),
    ]
    if len(ordered) > MOST_ROOFS:
        blocks.append(
            Note(f"{len(ordered) - MOST_ROOFS} more devices or precisions have no chart; the table of speeds has all.")
        )
    return Section("roofline", "Roofline", blocks)


def _titles(entries: Sequence[Entry]) -> dict[Path, str]:
    """Return what tells the records apart, besides the device, by path."""
    names = telling_names(entries)
    return {entry.path: title(entry, names) for entry in entries}


def _verdict(record: Record, name: str) -> str | None:
    """Return a finding without its evidence, which the record holds."""
    return record.findings[name].verdict if name in record.findings else None


def _phase_charts(entries: Sequence[Entry], titles: dict[Path, str]) -> list[Chart]:
    several = len({entry.record.device for entry in entries}) > 1
    chosen = spread_out(sorted(entries, key=lambda entry: value_in(entry.record, "step_s") or 0.0), MOST_BARS)
    bars = [
        Bar(
            titles[entry.path] + (f", {entry.record.device}" if several else ""),
            [pair for pair in _phase_times(entry.record) if pair[1] > 0],
        )
        for entry in chosen
    ]
    what = "Where the time of a step goes"
    few = f"{len(chosen)} of {len(entries)} records, from the shortest step to the longest."
    caption = "Medians of the phases." + (f" {few}" if len(chosen) < len(entries) else "")
    kinds = list(dict.fromkeys(entry.record.kind for entry in chosen))
    return bar_charts("phases", what, bars, format_seconds, caption, kinds)


def _phase_times(record: Record) -> Iterator[tuple[str, float]]:
    for name, metrics in record.phases.items():
        metric = metrics.get("time_s")
        if metric is not None and metric.value is not None:
            yield name.replace("_", " "), float(metric.value)


def _table(entries: Sequence[Entry], titles: dict[Path, str]) -> Table:
    rows: list[list[Value]] = []
    for entry in sorted(entries, key=lambda entry: (entry.record.device, titles[entry.path])):
        record = entry.record
        step = record.metrics["step_s"]
        rows.append(
            [
                record.device,
                titles[entry.path],
                record.kind,
                step.value,
                step.low,
                step.high,
                len(step.samples) or None,
                _verdict(record, "stability.step_s"),
                *(
                    value_in(record, name)
                    for name in ("videos_per_s", "snippets_per_s", "mfu_ratio", "energy_per_video_j")
                ),
                _verdict(record, "bound"),
                record.cell_id,
            ]
        )
    columns = [
        Column("device", "device"),
        Column("settings", "settings"),
        kind_column(),
        seconds_column("step", "step_s"),
        seconds_column("low", "step_low_s"),
        seconds_column("high", "step_high_s"),
        Column("rounds", "rounds", "number"),
        Column("stability", "stability"),
        number_column("videos/s", "videos_per_s"),
        number_column("snippets/s", "snippets_per_s"),
        share_column("of peak", "mfu_ratio"),
        number_column("energy/video", "energy_per_video_j", "{:.3g} J".format),
        Column("bound by", "bound"),
        Column("cell", "cell_id", "code"),
    ]
    caption = "Steps timed or forecast; low and high: 95 % interval of the median, or bounds of a forecast"
    return Table("speeds", caption, columns, rows)


def _roof_chart(number: int, title: str, entries: Sequence[Entry]) -> Chart:
    titles = _titles(entries)
    marks = [
        Mark(
            value_in(entry.record, INTENSITY) or 0.0,
            value_in(entry.record, SPEED) or 0.0,
            titles[entry.path].removeprefix(f"{experiment(entry.record)}, "),
            _point_text(entry, titles),
            entry.record.kind,
        )
        for entry in entries[:MOST_MARKS]
    ]
    peaks = [peak for entry in entries if (peak := value_in(entry.record, "peak_flops_per_s"))]
    limits = []
    if roof := highest_roof([entry.record for entry in entries]):
        peak, bandwidth = roof
        ridge = peak / bandwidth
        xs = [mark.x for mark in marks]
        # The roof reaches past the ridge and past the marks, so that both of its parts can be seen.
        left, right = min(*xs, ridge) / 2, max(*xs, ridge) * 4
        points = [(left, left * bandwidth), (ridge, peak), (right, peak)]
        limits = [Limit(f"{format_number(peak)}FLOP/s, {format_number(bandwidth)}B/s", points)]
    svg = scatter_chart(
        f"roof{number}",
        f"Roofline of {title}",
        "arithmetic intensity, FLOP/byte",
        "achieved, FLOP/s",
        marks,
        limits=limits,
        log_y=True,
    )
    captions = []
    if not limits:
        captions.append("Peak and bandwidth of this device are not known, so there is no roof.")
    elif len(set(peaks)) > 1:
        lowest = format_number(min(peaks))
        captions.append(f"The roof is the highest of {len(peaks)} that were found; the lowest is {lowest}FLOP/s.")
    if len(entries) > MOST_MARKS:
        captions.append(f"{MOST_MARKS} of {len(entries)} records.")
    return Chart(title, svg, " ".join(captions), list(dict.fromkeys(mark.kind for mark in marks)))


def _point_text(entry: Entry, titles: dict[Path, str]) -> str:
    achieved = format_number(value_in(entry.record, SPEED) or 0.0)
    share = value_in(entry.record, "mfu_ratio")
    return f"{titles[entry.path]}: {achieved}FLOP/s" + (f", {share:.1%} of the peak" if share is not None else "")
