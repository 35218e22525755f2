"""A profile for a person: the operators that cost the time, the phases, and how long the GPU waits."""

from bench.records.record import Metric, Record
from bench.report.terminal.tables import Format, format_records, format_value, grid, metric_column

OPERATOR, SELF_TIME = "operator.", ".self_time_s"
SLOWED = "the profiler slows a step down; etad-bench throughput measures it"


def format_profile(record: Record, top: int, form: Format) -> str:
    """Return the ``top`` operators as a table; JSON and CSV hold all of them."""
    operators = {
        name.removeprefix(OPERATOR).removesuffix(SELF_TIME): metric
        for name, metric in record.metrics.items()
        if name.startswith(OPERATOR)
    }
    if form in ("json", "jsonl", "csv") or not record.succeeded:
        columns = [metric_column(name, f"{OPERATOR}{name}{SELF_TIME}") for name in operators]
        return format_records([record], columns, form)
    total = sum(metric.value or 0 for metric in operators.values())
    rows = [["operator", "self time / step [ms]", "share", "calls / step"]]
    for name, metric in list(operators.items())[:top]:
        rows.append([name, format_value(metric), f"{(metric.value or 0) / total:.1%}", f"{metric.calls or 0:g}"])
    phases = [["phase", "time / step [ms]"]]
    phases += [[name, format_value(metrics["time_s"])] for name, metrics in record.phases.items()]
    notes = [f"kernel idle: {_idle(record.metrics['kernel_idle_ratio'])}", SLOWED]
    # Detection has no phases.
    tables = [rows, *([phases] if record.phases else [])]
    if form == "md":
        return "\n\n".join([*(grid(table, "md") for table in tables), *notes])
    return "\n".join([*(f"{grid(table, 'table')}\n" for table in tables), *notes])


def _idle(metric: Metric) -> str:
    return f"not known: {metric.reason}" if metric.value is None else f"{metric.value:.1%} of the step"
