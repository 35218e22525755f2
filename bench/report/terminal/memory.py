"""Memory records for a person: one cell in full, several as a table with the slope over batch sizes."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from bench.cells import KNOBS, why_without_effect
from bench.published.figures import load_published
from bench.records.names import LEVELS
from bench.records.record import Metric, Metrics, Record
from bench.report.reading import fits, held, setting
from bench.report.terminal.tables import (
    Column,
    Format,
    format_records,
    format_value,
    grid,
    heading,
    metric_column,
    warnings_and_failures,
)
from bench.units import MIB, format_bytes

PUBLISHED = "published"
SLOPE = "allocated_slope_per_video_bytes"


def format_memory(records: Sequence[Record], options: Sequence[str], form: Format) -> str:
    """Return the records as text.

    Args:
        records: of the suite memory.
        options: knobs that were given; a table has a column for each.
        form: a table of one record is the full report.
    """
    if form == "table" and len(records) == 1:
        return "\n".join(_report(records[0]))
    records = with_slopes(records)
    slopes = any(SLOPE in record.metrics for record in records)
    columns = [
        *(Column(option, lambda record, option=option: setting(record, option)) for option in options),  # type: ignore[misc]
        Column("result", lambda record: record.status),
        metric_column("requested", "requested_peak_bytes"),
        metric_column("allocated", "allocated_peak_bytes"),
        metric_column("reserved", "reserved_peak_bytes"),
        metric_column("process", "process_peak_bytes"),
        metric_column("allocated / batch", "allocated_per_video_bytes"),
    ]
    if slopes:
        columns.append(metric_column("slope per video", SLOPE))
    if any("fits" in record.metrics for record in records):
        columns += [Column("fits", fits), metric_column("margin", "margin_bytes")]
    columns.append(Column("most is", _largest_holder))
    return format_records(records, columns, form, list(_notes(records, slopes)))


def format_published() -> str:
    """Return the published memory figures of the method as lines to stand below ours."""
    lines = ["published for ETAD, not measured by us:"]
    for figure in load_published("activitynet"):
        cost = figure.cost
        if figure.method == "ETAD" and cost is not None and cost.memory_gb is not None:
            lines.append(f"  {cost.memory_gb:g} GB {cost.memory_meaning}: {figure.input} ({figure.source})")
    return "\n".join(lines)


def _notes(records: Sequence[Record], slopes: bool) -> Iterator[str]:
    yield "peaks over first and steady step"
    if any(record.kind == "predicted" for record in records):
        yield "a..b: between these, as cuDNN's scratch cannot be known without the GPU"
    if slopes:
        yield "slope per video: of allocated over the batch sizes of the table, by least squares"
    yield from warnings_and_failures(records)


def _report(record: Record) -> Iterator[str]:
    """Yield the lines of one cell's report."""
    yield from heading(record, describe(record))
    if not record.metrics:
        return
    yield ""
    yield grid(_peaks(record), "table")
    yield ""
    for name, title in (
        ("process_peak_bytes", "process"),
        ("context_overhead_bytes", "CUDA context"),
        ("parameter_bytes", "parameters"),
        ("host_rss_peak_bytes", "host RSS"),
    ):
        if name in record.metrics:
            yield f"{title:12} {_sentence(record.metrics[name])}"
    for level in ("requested", "allocated", "reserved"):
        metric = record.metrics.get(f"{level}_per_video_bytes")
        if metric is not None and metric.value is not None:
            yield f"{'per video':12} {_sentence(metric)} {level} (peak / batch; for the slope give several --batch)"
    for name, finding in record.findings.items():
        yield f"{name.replace('_', ' ').replace('.', ', ')}: {finding}"
    if "fits" in record.metrics:
        yield f"{'fits':12} {_verdict(record)}"
    yield from _holders(record)


def describe(record: Record) -> str:
    """Return what a cell is, in one line."""
    config = record.config
    options = [option for option in KNOBS if option not in ("proposal-ratio", "snippets", "size")]
    settings = ", ".join(f"{option} {setting(record, option)}" for option in options if _matters(record, option))
    what = "inference" if record.measurement.get("task") == "infer" else "training step"
    return f"{config['name']}, {what}: {settings}; {record.kind} for {record.device}"


def _matters(record: Record, option: str) -> bool:
    if option == "variant" and setting(record, option) == PUBLISHED:
        return False
    return option not in why_without_effect(record.config, str(record.measurement.get("task", "train")))


def _peaks(record: Record) -> Iterator[list[str]]:
    yield ["peaks [MiB]", *LEVELS]
    for step in ("first", "steady"):
        yield _row(f"{step} step", record.metrics, step)
        for phase, metrics in record.phases.items():
            if f"{step}_step_requested_peak_bytes" in metrics:
                yield _row(f"  {phase}", metrics, step)


def _row(title: str, metrics: Metrics, step: str) -> list[str]:
    return [title, *(format_value(metrics.get(f"{step}_step_{level}_peak_bytes")) for level in LEVELS)]


def _sentence(metric: Metric) -> str:
    if metric.value is None:
        return f"not known: {metric.reason}"
    bounds = (metric.value if bound is None else bound for bound in (metric.low, metric.high))
    return " to ".join(dict.fromkeys(map(format_bytes, bounds)))


def _verdict(record: Record) -> str:
    reason = record.metrics["fits"].reason
    hardware, size = record.measurement["hardware"], record.measurement["hardware_memory_bytes"]
    assert isinstance(size, int)
    why = f" ({reason})" if reason else ""
    margin = _sentence(record.metrics["margin_bytes"])
    return f"{hardware} ({format_bytes(size)}): {fits(record)}{why}; margin {margin}"


def _holders(record: Record) -> Iterator[str]:
    """Yield what holds the memory at the peak, largest first, by category, by module, and the top tensors."""
    for kind, title in (("category", "category"), ("module", "module"), ("tensor", "largest tensors")):
        sizes = held(record, kind)
        if not sizes:
            continue
        if kind == "category":
            yield from ("", f"What holds the memory: {sizes[0][1].method}")
        yield from ("", f"by {title}" if kind != "tensor" else title)
        total = sum(metric.value or 0 for _, metric in held(record, "category"))
        for name, metric in sizes:
            size = metric.value or 0
            text = metric.method if kind == "tensor" else name
            yield f"  {size / MIB:10.1f} MiB  {size / total:6.1%}  {text}"


def _largest_holder(record: Record) -> str | None:
    sizes = held(record, "category")
    if not sizes:
        return None
    name, largest = sizes[0]
    return f"{name} {(largest.value or 0) / sum(metric.value or 0 for _, metric in sizes):.0%}"


def with_slopes(records: Sequence[Record]) -> list[Record]:
    """Return the records, with ``LEVEL_slope_per_video_bytes`` where several batch sizes give one."""
    families: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        families[_family(record)].append(record)
    slopes = {family: _slopes(members) for family, members in families.items()}
    return [record.model_copy(update={"metrics": record.metrics | slopes[_family(record)]}) for record in records]


def _slopes(records: Sequence[Record]) -> dict[str, Metric]:
    found = {}
    for level in LEVELS:
        peaks = {_batch(record): record.metrics.get(f"{level}_peak_bytes") for record in records}
        points = {batch: peak.value for batch, peak in peaks.items() if peak is not None and peak.value is not None}
        if len(points) > 1:
            batches = ", ".join(map(str, sorted(points)))
            found[f"{level}_slope_per_video_bytes"] = Metric(
                value=_slope(points),
                unit="bytes",
                method=f"least squares over batch {batches}",
                exact=all(record.kind == "predicted" for record in records),
            )
    return found


def _family(record: Record) -> str:
    """Return what records have in common that differ in the batch only."""
    train = record.config["train"]
    assert isinstance(train, dict)
    config = {**record.config, "train": {**train, "batch": None}}
    return json.dumps([record.kind, record.device, config, record.measurement], sort_keys=True)


def _batch(record: Record) -> int:
    train = record.config["train"]
    assert isinstance(train, dict)
    batch = train["batch"]
    assert isinstance(batch, int)
    return batch


def _slope(points: Mapping[int, int | float]) -> float:
    middle = sum(points) / len(points)
    height = sum(points.values()) / len(points)
    return sum((x - middle) * (y - height) for x, y in points.items()) / sum((x - middle) ** 2 for x in points)
