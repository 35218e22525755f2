"""A sweep's records: one record in a few words, and the table of a part, mean and spread over seeds."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from pydantic import JsonValue

from bench.records.record import Metric, Record
from bench.report.reading import fits
from bench.report.terminal.tables import format_value, grid
from bench.sweep.cells import SEED, SweepCell
from bench.sweep.estimate import Estimate
from bench.units import MIB, format_seconds

Format = Literal["table", "md", "json", "csv"]

Row = tuple[Mapping[str, JsonValue], Record]
"""What was chosen on the axes of a part, and the record."""


@dataclass(frozen=True)
class Shown:
    """How a metric is shown: divided by ``scale``, with ``digits`` decimals, under ``title``, which names the unit."""

    metric: str
    title: str
    scale: float
    digits: int

    def number(self, value: float) -> str:
        """Return a value of the metric as it is shown."""
        return f"{value / self.scale:.{self.digits}f}"


SHOWN = {
    "memory": (
        Shown("allocated_peak_bytes", "allocated [MiB]", MIB, 1),
        Shown("requested_peak_bytes", "requested [MiB]", MIB, 1),
        Shown("reserved_peak_bytes", "reserved [MiB]", MIB, 1),
        Shown("process_peak_bytes", "process [MiB]", MIB, 1),
        Shown("margin_bytes", "margin [MiB]", MIB, 1),
    ),
    "throughput": (
        Shown("step_s", "step [ms]", 1e-3, 1),
        Shown("videos_per_s", "videos/s", 1, 2),
        Shown("mfu_ratio", "MFU [%]", 0.01, 1),
        Shown("energy_per_video_j", "energy/video [J]", 1, 2),
    ),
    "accuracy": (
        Shown("average_mAP", "average mAP [%]", 0.01, 2),
        Shown("mAP_at_tiou_0.5", "mAP@0.5 [%]", 0.01, 2),
        Shown("train_s", "training [s]", 1, 1),
        Shown("infer_s", "inference [s]", 1, 1),
    ),
}
"""By suite, the metrics of its table; those that no record knows are left out."""


def headline(record: Record) -> str:
    """Return what matters most of a record in a few words: its first known metric, or why there is none."""
    if record.failure is not None:
        return record.failure.message
    for shown in SHOWN[record.suite]:
        metric = record.metrics.get(shown.metric)
        if metric is not None and metric.value is not None:
            return f"{shown.title} {_value(shown, record, metric)}"
    return ""


def format_sweep(cells: Sequence[SweepCell], records: Mapping[str, Record], form: Format) -> str:
    """Return the records of a sweep as text: a table for each part, or for JSON the records themselves.

    Args:
        cells: of the sweep.
        records: by cell id; cells without one are left out.
        form: see :data:`Format`; csv has the raw numbers.
    """
    if form == "json":
        found = [records[cell.cell_id].to_tree() for cell in cells if cell.cell_id in records]
        return json.dumps(found, indent=1)
    by_part: dict[str, list[Row]] = {}
    for cell in cells:
        for part, chosen in cell.chosen.items():
            if cell.cell_id in records:
                by_part.setdefault(part, []).append((chosen, records[cell.cell_id]))
    if form == "csv":
        return _as_csv(by_part)
    return "\n\n".join(_part_table(part, rows, form) for part, rows in by_part.items())


def format_estimates(expected: Sequence[Estimate], predicted_for: str, form: Format) -> str:
    """Return what is expected of cells as text.

    Args:
        expected: the cells.
        predicted_for: the GPU that memory is predicted for.
        form: see :data:`Format`; json and csv have the raw numbers.
    """
    if form in ("json", "csv"):
        frame = pd.DataFrame([_raw(estimate) for estimate in expected])
        return frame.to_csv(index=False).rstrip("\n") if form == "csv" else frame.to_json(orient="records", indent=1)
    lines = [["cell", "so far", "reserved [MiB]", "fits", "time"], *(_line(estimate) for estimate in expected)]
    if all(line[3] == "-" for line in lines[1:]):
        lines = [[*line[:3], line[4]] for line in lines]
    times = [estimate.duration_s for estimate in expected if estimate.status is None]
    known = [time_s for time_s in times if time_s is not None]
    total = f"{format_seconds(sum(known))} one after the other" if known else "unknown"
    unknown = f", and {len(times) - len(known)} of unknown duration" if known and len(known) < len(times) else ""
    notes = [
        f"reserved: predicted for {predicted_for}, not validated; a..b: without and with a bound of cuDNN's scratch",
        "time: median over records of the same cell with any seed",
        f"{len(times)} cells without a record: {total}{unknown}",
    ]
    return grid(lines, "md" if form == "md" else "table", notes)


def _line(estimate: Estimate) -> list[str]:
    reserved = estimate.memory.metrics.get("reserved_peak_bytes")
    fit = fits(estimate.memory)
    return [
        estimate.cell.label,
        estimate.status or "-",
        "unknown" if reserved is None else format_value(reserved),
        fit or "-",
        "unknown" if estimate.duration_s is None else format_seconds(estimate.duration_s),
    ]


def _raw(estimate: Estimate) -> dict[str, object]:
    reserved = estimate.memory.metrics.get("reserved_peak_bytes")
    return {
        "cell_id": estimate.cell.cell_id,
        "part": estimate.cell.part,
        **estimate.cell.chosen[estimate.cell.part],
        "status": estimate.status,
        "predicted_reserved_peak_bytes": None if reserved is None else reserved.value,
        "predicted_reserved_peak_bytes_high": None if reserved is None else reserved.high,
        "fits": fits(estimate.memory),
        "duration_s": estimate.duration_s,
        "command": estimate.cell.cell.command,
    }


def part_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return one row a combination of axis values, over its seeds, with raw numbers.

    Columns: the axes; ``status`` ("ok", or "2 ok, 1 timeout"); ``seeds``, if a combination has several; ``fits``, where
    a GPU was predicted for; for each known metric its mean, and ``<metric>_sd``, the sample standard deviation, or
    ``<metric>_low`` and ``_high``, the interval of a single record.

    Args:
        rows: of one part, whose records are of one suite.
    """
    grouped = _grouped(rows)
    several = any(len(records) > 1 for records in grouped.values())
    frame = []
    for axes, records in grouped.items():
        row: dict[str, object] = {**dict(axes), "status": _statuses(records)}
        if several:
            row["seeds"] = len(records)
        if verdict := fits(records[0]):
            row["fits"] = verdict
        for shown in SHOWN[rows[0][1].suite]:
            metrics = [record.metrics[shown.metric] for record in records if shown.metric in record.metrics]
            values = [metric.value for metric in metrics if metric.value is not None]
            row[shown.metric] = sum(values) / len(values) if values else None
            if len(values) > 1:
                row[f"{shown.metric}_sd"] = pd.Series(values).std(ddof=1)
            elif len(metrics) == 1:
                row |= {f"{shown.metric}_{end}": getattr(metrics[0], end) for end in ("low", "high")}
        frame.append(row)
    return pd.DataFrame(frame).dropna(axis="columns", how="all")


def _part_table(title: str, rows: Sequence[Row], form: Literal["table", "md"]) -> str:
    table = grid(_text_rows(rows), form, dict.fromkeys(record.failure.message for _, record in rows if record.failure))
    if form == "md":
        return f"**{title}**\n\n{table}"
    return "\n".join([title, *(f"  {line}" for line in table.splitlines())])


def _grouped(rows: Sequence[Row]) -> dict[tuple[tuple[str, str], ...], list[Record]]:
    """Return the records by the axis values that they share; the seed is no axis."""
    grouped: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for chosen, record in rows:
        axes = tuple((axis, "-" if value is None else str(value)) for axis, value in chosen.items() if axis != SEED)
        grouped.setdefault(axes, []).append(record)
    return grouped


def _text_rows(rows: Sequence[Row]) -> list[list[str]]:
    grouped = _grouped(rows)
    frame = part_frame(rows)
    axes = list(dict.fromkeys(axis for combination in grouped for axis, _ in combination))
    facts = [name for name in ("status", "seeds", "fits") if name in frame]
    shown = [column for column in SHOWN[rows[0][1].suite] if column.metric in frame]
    lines = [[*(axis.rsplit(".", 1)[-1] for axis in axes), *facts, *(column.title for column in shown)]]
    for (combination, records), row in zip(grouped.items(), frame.to_dict("records"), strict=True):
        chosen = dict(combination)
        line = [chosen.get(axis, "-") for axis in axes] + [str(row[name]) for name in facts]
        line += [_cell(column, records, row.get(f"{column.metric}_sd")) for column in shown]
        lines.append(line)
    return lines


def _cell(shown: Shown, records: Sequence[Record], spread: float | None) -> str:
    metrics = [(record, record.metrics[shown.metric]) for record in records if shown.metric in record.metrics]
    known = [(record, metric) for record, metric in metrics if metric.value is not None]
    if len(known) == 1:
        return _value(shown, *known[0])
    if not known:
        return "-"
    mean = sum(metric.value or 0 for _, metric in known) / len(known)
    return f"{shown.number(mean)} ± {shown.number(spread or 0.0)}"


def _value(shown: Shown, record: Record, metric: Metric) -> str:
    """Return what was measured, or between which bounds the prediction lies: "2829.1..3221.0"."""
    if record.kind == "measured":
        return shown.number(metric.value or 0)
    bounds = [metric.value if bound is None else bound for bound in (metric.low, metric.high)]
    return "..".join(dict.fromkeys(shown.number(bound) for bound in bounds if bound is not None))


def _statuses(records: Sequence[Record]) -> str:
    counts = Counter(record.status for record in records)
    if len(counts) == 1:
        return records[0].status
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _as_csv(by_part: Mapping[str, Sequence[Row]]) -> str:
    frames = []
    for part, rows in by_part.items():
        frame = part_frame(rows)
        frame.insert(0, "part", part)
        frames.append(frame)
    return pd.concat(frames).to_csv(index=False).rstrip("\n")
