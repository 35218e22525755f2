"""What a plan found, for a person."""

from collections.abc import Sequence

from bench.records.record import Record
from bench.report.reading import fits, setting
from bench.report.terminal.tables import Column, Format, format_records, metric_column

LEAST_TIME = "least time: the arithmetic over the GPU's peak; a bound, not a measured time"
ORDER = "fastest first by arithmetic, which is no measured time; of equal ones the larger batch first"


def format_plan(records: Sequence[Record], form: Format) -> str:
    """Return the settings that fit, in the order given."""
    columns = [
        Column("strategy", lambda record: setting(record, "strategy")),
        Column("recompute", _recomputes),
        Column("precision", lambda record: setting(record, "precision")),
        Column("batch", lambda record: setting(record, "batch")),
        Column("chunk", lambda record: setting(record, "chunk")),
        metric_column("arithmetic / video", "arithmetic_per_video_flop"),
        metric_column("least time / video", "arithmetic_floor_per_video_s"),
        metric_column("reserved", "reserved_peak_bytes"),
        Column("fits", fits),
        metric_column("margin", "margin_bytes"),
    ]
    title = f"{records[0].measurement['hardware']}: settings on the border of what fits; smaller ones fit, too"
    return format_records(records, columns, form, [title, ORDER, LEAST_TIME, *_warnings(records)])


def format_wanted(records: Sequence[Record], form: Format) -> str:
    """Return which GPUs a setting fits."""
    columns = [
        Column("hardware", lambda record: str(record.measurement["hardware"])),
        Column("fits", fits),
        metric_column("reserved", "reserved_peak_bytes"),
        metric_column("margin", "margin_bytes"),
        metric_column("least time / video", "arithmetic_floor_per_video_s"),
    ]
    return format_records(records, columns, form, [LEAST_TIME, *_warnings(records)])


def _recomputes(record: Record) -> str:
    model = record.config["model"]
    assert isinstance(model, dict)
    encoder = model["encoder"]
    assert isinstance(encoder, dict)
    return "stages" if encoder["checkpointing"] else "no"


def _warnings(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(warning for record in records for warning in record.warnings))
