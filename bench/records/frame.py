"""Records as a pandas data frame with flat columns."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench.records.flat import flat_cells
from bench.records.record import Metrics, Record

if TYPE_CHECKING:
    import pandas as pd


def to_pandas(records: Iterable[Record]) -> "pd.DataFrame":
    """Return one row a record, with flat columns.

    Columns: the record's own fields; ``config.*``, ``measurement.*`` and ``environment.*`` by their dotted keys;
    ``findings.NAME`` is the verdict and ``findings.NAME.why`` the evidence; ``metrics.NAME`` and ``phases.PHASE.NAME``
    have ``.low`` and ``.high`` where there is an interval. A value that is unknown is NaN, its reason is in the record.
    Raw samples stay in the record.
    """
    import pandas as pd  # slow to import, and most that handles records needs no frame

    return pd.DataFrame.from_records([_row(record) for record in records])


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {
        "device": record.device,
        "suite": record.suite,
        "cell_id": record.cell_id,
        "status": record.status,
        "kind": record.kind,
        "started_at": record.started_at,
        "duration_s": record.duration_s,
        "command": record.command,
        "failure": record.failure.message if record.failure else None,
        "warnings": "; ".join(record.warnings),
    }
    row |= flat_cells("config", record.config)
    row |= flat_cells("measurement", record.measurement)
    _add_metrics("metrics", record.metrics, row)
    for phase, metrics in record.phases.items():
        _add_metrics(f"phases.{phase}", metrics, row)
    for name, finding in record.findings.items():
        row |= {f"findings.{name}": finding.verdict, f"findings.{name}.why": finding.why}
    row |= flat_cells("environment", record.environment)
    return row


def _add_metrics(prefix: str, metrics: Metrics, row: dict[str, Any]) -> None:
    for name, metric in metrics.items():
        row[f"{prefix}.{name}"] = metric.value
        for bound in ("low", "high"):
            value = getattr(metric, bound)
            if value is not None:
                row[f"{prefix}.{name}.{bound}"] = value
