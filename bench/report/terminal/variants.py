"""Variants side by side: time, ratio, predicted memory, and how far the numbers differ."""

from collections.abc import Iterator, Sequence

from bench.records.record import Record
from bench.report.reading import point
from bench.report.terminal.tables import Column, Format, Value, format_records, metric_column
from bench.report.terminal.throughput import TASKS

DIFFERENCES = {
    "feature_cosine_difference": "1 - feature cosine",
    "encoder_gradient_cosine_difference": "1 - encoder gradient cosine",
    "encoder_gradient_difference": "encoder gradient error",
    "encoder_gradient_difference_float64": "encoder gradient error in float64",
    "encoder_gradient_rounding": "encoder gradient rounding",
    "detector_gradient_difference": "detector gradient error",
    "detector_gradient_difference_float64": "detector gradient error in float64",
    "detector_gradient_rounding": "detector gradient rounding",
    "score_difference": "score error",
    "result_difference": "result error",
}
"""Metric -> title of its column, for those of which some record has one."""


def format_variants(records: Sequence[Record], form: Format) -> str:
    """Return the records of :func:`bench.forms.side_by_side.compare_variants` as text, one row a record."""
    present = [name for name in DIFFERENCES if any(name in record.metrics for record in records)]
    columns = [
        Column("what", _row),
        Column("variant", lambda record: str(record.measurement["variant"])),
        Column("result", lambda record: record.status),
        Column("time", lambda record: point(record, "step_s")),
        Column("rounds", lambda record: len(record.metrics["step_s"].samples) if record.metrics else None),
        _short_column("times faster", "speedup_ratio"),
        metric_column("95 % interval", "speedup_ratio"),
        metric_column("predicted peak", "predicted_allocated_peak_bytes"),
        *(_short_column(DIFFERENCES[name], name) for name in present),
    ]
    return format_records(records, columns, form, list(_notes(records)))


def _row(record: Record) -> Value:
    return str(record.measurement["row"] or f"{record.config['name']}, {TASKS[str(record.measurement['task'])]}")


def _short_column(title: str, name: str) -> Column:
    """Return the column of a metric with three digits and without its interval."""

    def value(record: Record) -> Value:
        metric = record.metrics.get(name)
        return None if metric is None or metric.value is None else float(f"{metric.value:.3g}")

    return Column(title, value)


def _notes(records: Sequence[Record]) -> Iterator[str]:
    yield "time: median of rounds that alternate between the variants; times faster: median over pairs of rounds"
    yield "predicted peak: allocated on a GPU; differences: of the first call, with the same weights, batch and draws"
    if any("rounding" in name for record in records for name in record.metrics):
        yield (
            "gradient error in float64: of the form against the reference, both in float64; it is all but 0 if both "
            "compute the same thing"
        )
        yield (
            "gradient rounding: of the form in fp32 against the reference in float64; if the reference's own is as "
            "large as a gradient error, that error is fp32's"
        )
    for record in records:
        if "target" in record.findings:
            yield f"{_row(record)}, {record.measurement['variant']}: {record.findings['target']}"
    yield from dict.fromkeys(warning for record in records for warning in record.warnings)
    yield from dict.fromkeys(record.failure.message for record in records if record.failure)
