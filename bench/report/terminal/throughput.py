"""Throughput records for a person: one cell in full, several as a table."""

from collections.abc import Iterator, Sequence
from textwrap import shorten

from bench.cells import HOST_KNOBS, KNOBS, why_without_effect
from bench.records.record import Metric, Metrics, Record, value_of
from bench.report.reading import done_flops, point, setting
from bench.report.terminal.memory import PUBLISHED
from bench.report.terminal.tables import (
    Column,
    Format,
    Value,
    format_records,
    grid,
    heading,
    metric_column,
    warnings_and_failures,
)
from bench.units import MIB, format_bytes, format_number, format_seconds

TASKS = {
    "train": "training step",
    "infer": "detection of a batch",
    "data": "reading a batch",
    "post": "post-processing of a batch",
}
LONGEST_LIST = 200
"""Characters of a list of operators; the record holds all of it."""
RATES = ("videos", "snippets", "frames", "proposals")


def format_throughput(records: Sequence[Record], options: Sequence[str], form: Format) -> str:
    """Return the records as text.

    Args:
        records: of the suite throughput.
        options: knobs that were given; a table has a column for each.
        form: a table of one record is the full report.
    """
    if form == "table" and len(records) == 1:
        return "\n".join(_report(records[0]))
    columns = [
        *(Column(option, lambda record, option=option: setting(record, option)) for option in options),  # type: ignore[misc]
        Column("result", lambda record: record.status),
        Column("step", lambda record: point(record, "step_s")),
        metric_column("95 % interval", "step_s"),
        Column("rounds", lambda record: _rounds(record)),
        *(Column(f"{name}/s", lambda record, name=name: _rate(record, name)) for name in RATES if _any(records, name)),  # type: ignore[misc]
    ]
    if any("mfu_ratio" in record.metrics for record in records):
        columns += [
            Column("GFLOP", _gflop),
            metric_column("MFU", "mfu_ratio"),
            Column("bound", lambda record: _verdict(record, "bound")),
        ]
    columns.append(Column("timing", lambda record: _verdict(record, "stability.step_s")))
    return format_records(records, columns, form, list(_notes(records)))


def _notes(records: Sequence[Record]) -> Iterator[str]:
    yield "step: median over the rounds after warm-up; interval: bootstrap of the median"
    yield from warnings_and_failures(records)


def _report(record: Record) -> Iterator[str]:
    """Yield the lines of one cell's report."""
    yield from heading(record, _title(record))
    if not record.metrics:
        return
    yield ""
    yield grid(_phases(record), "table")
    yield ""
    step, warm = record.metrics["step_s"], record.metrics["warmup_rounds"]
    yield f"{'step':12} {_seconds(step)}; {len(step.samples)} rounds after {warm.value} of warm-up"
    yield f"{'timing':12} {record.findings['stability.step_s']}"
    rates = [
        f"{format_number(value)} {name}/s" for name in RATES if (value := value_of(record.metrics, f"{name}_per_s"))
    ]
    yield f"{'rates':12} {', '.join(rates)}"
    yield from _arithmetic(record.metrics)
    yield from _energy(record)
    if "bound" in record.findings:
        yield f"{'bound':12} {record.findings['bound']}"
    overhead = value_of(record.metrics, "measuring_overhead_ratio")
    if overhead is not None:
        yield f"{'measuring':12} {100 * overhead:.2g} % of the step is our marks of the phases"
    for name, finding in record.findings.items():
        if name.startswith("uncounted."):
            operators = shorten(finding.verdict, LONGEST_LIST, placeholder=" ...")
            yield f"{'not counted':12} by {name.removeprefix('uncounted.')}: {operators}"


def _title(record: Record) -> str:
    task = str(record.measurement["task"])
    settings = ", ".join(f"{option} {setting(record, option)}" for option in _relevant(record, task))
    real = " on its data set" if record.measurement["real_data"] else ""
    return f"{record.config['name']}, {TASKS[task]}{real}: {settings}; {record.kind} on {record.device}"


def _relevant(record: Record, task: str) -> Iterator[str]:
    """Yield the knobs that matter to what was timed."""
    ignored = set(why_without_effect(record.config, task))
    ignored |= {"variant"} if setting(record, "variant") == PUBLISHED else set()
    yield from (option for option in HOST_KNOBS.get(task, KNOBS) if option not in ignored)


def _phases(record: Record) -> Iterator[list[str]]:
    counted = any("moved_bytes" in metrics for metrics in record.phases.values())
    yield ["phase", "time [ms]", "share", *(("GFLOP", "GFLOP/s", "MiB moved", "operators") if counted else ())]
    step_s = value_of(record.metrics, "step_s") or 0.0
    for name, metrics in record.phases.items():
        time_s = metrics["time_s"].value if "time_s" in metrics else None
        row = [name, "-" if time_s is None else f"{time_s * 1e3:.2f}"]
        row.append(f"{time_s / step_s:.1%}" if time_s is not None and step_s else "-")
        yield row + (_cost(metrics, time_s) if counted else [])


def _cost(metrics: Metrics, time_s: float | None) -> list[str]:
    if "moved_bytes" not in metrics:
        return ["-"] * 4
    flops = done_flops(metrics)
    rate = f"{flops / time_s / 1e9:.2f}" if time_s and flops else "-"
    moved, operators = metrics["moved_bytes"].value or 0, metrics["operators"].value
    return [f"{flops / 1e9:.2f}", rate, f"{moved / MIB:.1f}", str(operators)]


def _arithmetic(metrics: Metrics) -> Iterator[str]:
    counted = metrics.get("torch_counter_flops")
    if counted is None:
        return
    if counted.value is None:
        yield f"{'arithmetic':12} not known: {counted.reason}"
        return
    macs = metrics["fvcore_forward_macs"]
    by_fvcore = f"not known: {macs.reason}" if macs.value is None else format_number(macs.value)
    lstm, excess = (metrics[name].value or 0 for name in ("lstm_formula_flops", "torch_counter_excess_flops"))
    too_much = f", {_flop(excess)} of it too much" if excess else ""
    by_formula = f"; LSTMs {_flop(lstm)} by formula" if lstm else ""
    yield f"{'arithmetic':12} {_flop(counted.value)} by torch's counter, forward and backward{too_much}{by_formula}"
    yield f"{'':12} {by_fvcore} multiply-adds forward by fvcore"
    intensity, moved = metrics["arithmetic_intensity_flops_per_byte"].value, metrics["moved_bytes"].value or 0
    shown = "-" if intensity is None else f"{intensity:.2f}"
    yield f"{'':12} at most {format_bytes(moved)} moved, so at least {shown} FLOP a byte"
    achieved = metrics["achieved_flops_per_s"].value or 0
    mfu, peak = metrics["mfu_ratio"], metrics["peak_flops_per_s"]
    share = f"MFU not known: {mfu.reason}"
    if mfu.value is not None and peak.value is not None:
        share = f"MFU {mfu.value:.1%} of {_flop(peak.value)}/s ({peak.method})"
    yield f"{'':12} {_flop(achieved)}/s, {share}"


def _energy(record: Record) -> Iterator[str]:
    """Yield energy and power, and what held the clock back; nothing if they were not measured."""
    for name, title in (("energy_per_video_j", "energy"), ("host_energy_per_video_j", "host energy")):
        metric = record.metrics.get(name)
        if metric is not None:
            known = f"{format_number(metric.value or 0)} J a video ({metric.method})"
            yield f"{title:12} {known if metric.value is not None else f'not known: {metric.reason}'}"
    mean, peak = (value_of(record.metrics, f"power_{kind}_w") for kind in ("mean", "peak"))
    if mean is not None and peak is not None:
        yield f"{'power':12} {mean:.0f} W on average, {peak:.0f} W at most"
    if "throttling" in record.findings:
        yield f"{'throttling':12} {record.findings['throttling']}"


def _flop(value: float) -> str:
    return f"{value / 1e12:.4g} TFLOP" if value >= 1e12 else f"{value / 1e9:.4g} GFLOP"


def _seconds(metric: Metric) -> str:
    assert metric.value is not None
    if metric.low is None or metric.high is None:
        return format_seconds(metric.value)
    return f"{format_seconds(metric.value)} (95 %: {format_seconds(metric.low)} to {format_seconds(metric.high)})"


def _rate(record: Record, name: str) -> Value:
    value = value_of(record.metrics, f"{name}_per_s")
    return None if value is None else float(f"{value:.4g}")


def _rounds(record: Record) -> Value:
    metric = record.metrics.get("step_s")
    return None if metric is None else len(metric.samples)


def _gflop(record: Record) -> Value:
    return float(f"{done_flops(record.metrics) / 1e9:.4g}") if "moved_bytes" in record.metrics else None


def _verdict(record: Record, finding: str) -> Value:
    return record.findings[finding].verdict if finding in record.findings else None


def _any(records: Sequence[Record], name: str) -> bool:
    return any(f"{name}_per_s" in record.metrics for record in records)
