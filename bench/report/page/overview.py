"""What was run on what, what is not stable, what failed, and how to repeat every number."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from bench.records.flat import dig
from bench.records.record import Record
from bench.report.page.collect import Entry, telling_names, title
from bench.report.page.document import Block, Column, Note, Section, Table, Value
from bench.report.page.parts import bytes_column, kind_column
from bench.report.reading import experiment, main_metric
from bench.units import format_metric

STATUSES = {
    "ok": "ok",
    "predicted": "predicted",
    "oom": "out of memory",
    "error": "failed",
    "timeout": "out of time",
    "skipped": "skipped",
}
"""Statuses in words."""
STATUS_SIGNS = {"ok": "●", "predicted": "◇", "oom": "○", "error": "✕", "timeout": "✕", "skipped": "-"}


def what_ran(entries: Sequence[Entry]) -> Section:
    """Return the section of devices, suites and counts, and of the environments."""
    counts: dict[tuple[str, str, str, str], Counter[str]] = defaultdict(Counter)
    for entry in entries:
        record = entry.record
        counts[record.device, record.suite, experiment(record), record.kind][record.status] += 1
    rows: list[list[Value]] = [
        [
            *key,
            sum(found.values()),
            _counted(found),
        ]
        for key, found in sorted(counts.items())
    ]
    table = Table(
        "runs",
        "Records by device, suite and experiment",
        [
            Column("device", "device"),
            Column("suite", "suite"),
            Column("experiment", "experiment"),
            kind_column(),
            Column("records", "records", "number"),
            Column("of these", "statuses"),
        ],
        rows,
    )
    return Section("runs", "What was run on what", [table, _environments(entries)])


def stability_section(entries: Sequence[Entry]) -> Section:
    """Return the section of timings that are not stable, and of all warnings."""
    rows: list[list[Value]] = []
    judged = 0
    for entry in entries:
        for name, finding in entry.record.findings.items():
            if name.startswith("stability."):
                judged += 1
                if finding.verdict != "stable":
                    quantity = name.removeprefix("stability.")
                    rows.append([entry.record.device, entry.record.suite, quantity, str(finding), entry.record.cell_id])
    blocks: list[Block] = []
    if judged:
        blocks.append(
            Note(f"{len(rows)} of {judged} timed quantities are not stable." if rows else _all_stable(judged))
        )
    if rows:
        columns = [
            Column("device", "device"),
            Column("suite", "suite"),
            Column("quantity", "quantity"),
            Column("finding", "finding"),
            Column("cell", "cell_id", "code"),
        ]
        blocks.append(Table("unstable", "Not stable", columns, rows))
    warnings = Counter(warning for entry in entries for warning in entry.record.warnings)
    if warnings:
        columns = [Column("records", "records", "number"), Column("warning", "warning")]
        found: list[list[Value]] = [[count, warning] for warning, count in warnings.most_common()]
        blocks.append(Table("warnings", "Warnings of the records", columns, found, most=40))
    if not blocks:
        blocks.append(Note("No record carries a warning or a verdict on stability."))
    return Section("stability", "Stability and warnings", blocks)


def failures_section(entries: Sequence[Entry]) -> Section:
    """Return the section of cells without a result: these are results, too."""
    rows: list[list[Value]] = []
    failed = [entry for entry in entries if entry.record.failure is not None]
    names = telling_names(failed)
    for entry in failed:
        record, failure = entry.record, entry.record.failure
        assert failure is not None
        rows.append(
            [
                record.status,
                record.kind,
                record.device,
                _what(entry, names),
                failure.phase,
                failure.requested_bytes,
                failure.message,
                record.cell_id,
            ]
        )
    if not rows:
        return Section("failures", "What failed or did not fit", [Note("Nothing: every record has a result.")])
    columns = [
        Column("status", "status", "mark", _status_text),
        kind_column(),
        Column("device", "device"),
        Column("cell", "settings"),
        Column("phase", "phase"),
        bytes_column("asked for", "requested_bytes"),
        Column("why", "message"),
        Column("id", "cell_id", "code"),
    ]
    return Section(
        "failures", "What failed or did not fit", [Table("failures", "Cells without a result", columns, rows)]
    )


def every_number(entries: Sequence[Entry]) -> Section:
    """Return the section with one row a record: its main number, and the command that repeats it."""
    names = telling_names(entries)
    rows: list[list[Value]] = []
    for entry in entries:
        record = entry.record
        name, metric = main_metric(record)
        rows.append(
            [
                record.kind,
                record.status,
                record.device,
                _what(entry, names),
                name,
                None
                if metric is None or metric.value is None
                else format_metric(metric.value, name or "", metric.unit),
                *((metric.value, metric.low, metric.high, metric.unit) if metric is not None else (None,) * 4),
                record.started_at.strftime("%Y-%m-%d %H:%M"),
                _commit(record),
                record.cell_id,
                record.command,
            ]
        )
    columns = [
        kind_column(),
        Column("status", "status", "mark", _status_text),
        Column("device", "device"),
        Column("settings", "settings"),
        Column("quantity", "quantity"),
        Column("value", "value_text", "number", place="page"),
        Column("value", "value", "number", place="csv"),
        Column("low", "low", "number", place="csv"),
        Column("high", "high", "number", place="csv"),
        Column("unit", "unit", place="csv"),
        Column("started (UTC)", "started_utc"),
        Column("code", "git_sha", "code"),
        Column("cell", "cell_id", "code"),
        Column("command", "command", "code"),
    ]
    table = Table("numbers", "One row a record, with its main number", columns, rows, most=200)
    note = (
        "A cell id is a hash of what was asked, so the same command gives the same id on any machine. The record file "
        "of a cell holds every other metric, the raw samples and the environment. Published figures: etad-bench "
        "published."
    )
    return Section("numbers", "How to repeat every number", [Note(note), table])


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{found[status]} {text}" for status, text in STATUSES.items() if found[status])


def _status_text(status: Value) -> str:
    return f"{STATUS_SIGNS[str(status)]} {STATUSES[str(status)]}"


def _all_stable(judged: int) -> str:
    return "The one timed quantity is stable." if judged == 1 else f"All {judged} timed quantities are stable."


def _what(entry: Entry, names: dict[str, list[str]]) -> str:
    record = entry.record
    seed = dig(record.config, "train.seed") if record.suite == "accuracy" else None
    hardware = record.measurement.get("hardware")
    parts = [title(entry, names), "" if seed is None else f"seed {seed}", f"for {hardware}" if hardware else ""]
    return ", ".join(part for part in parts if part)


def _commit(record: Record) -> str | None:
    sha = dig(record.environment, "code.git_sha")
    if not isinstance(sha, str):
        return None
    return sha[:10] + (" + changes" if dig(record.environment, "code.git_dirty") else "")


def _environments(entries: Sequence[Entry]) -> Table:
    fields = {
        "host": "host.name",
        "CPU": "cpu.model",
        "cores": "cpu.logical_cores",
        "threads": "torch.threads",
        "torch": "torch.version",
        "CUDA": "torch.cuda",
        "cuDNN": "torch.cudnn",
        "Python": "host.python",
        "OS": "host.os",
    }
    groups: Counter[tuple[Value, ...]] = Counter()
    for entry in entries:
        environment = entry.record.environment
        found = dig(environment, "gpus.found")
        gpus = [gpu for gpu in found if isinstance(gpu, dict)] if isinstance(found, list) else []
        names = ", ".join(str(gpu.get("name")) for gpu in gpus) or None
        driver = next((str(gpu["driver"]) for gpu in gpus if gpu.get("driver")), None)
        values = [
            value if isinstance(value, str | int) else None
            for value in (dig(environment, path) for path in fields.values())
        ]
        groups[(names, driver, *values, _commit(entry.record))] += 1
    rows: list[list[Value]] = [[count, *key] for key, count in groups.most_common()]
    columns = [
        Column("records", "records", "number"),
        Column("GPU", "gpu"),
        Column("driver", "driver"),
        *(Column(title, title.lower()) for title in fields),
        Column("code", "git_sha", "code"),
    ]
    return Table("environments", "Machines and software that made the records", columns, rows, most=30, folded=True)
