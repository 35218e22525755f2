"""Where records can go besides their own folder: CSV and Parquet tables, MLflow and TensorBoard runs.

A sink takes records and where to, and returns how many of them it wrote. JSON stays the artefact: a sink loses the
reasons why something is unknown, and the tables lose raw samples.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pandas.api.types import is_object_dtype

from bench.records.flat import flat_cells
from bench.records.frame import to_pandas
from bench.records.record import Metric, Record
from etad.errors import ConfigError
from etad.files import replace_atomically

MOST_PARAMETERS = 100
"""That MLflow takes at once; it likewise takes 1000 metrics."""
MOST_METRICS = 1000
LONGEST_PARAMETER = 6000
MOST_SAMPLES = 1000
"""Of a metric that a run shows; the record has all."""


def write_csv(records: Sequence[Record], path: str) -> int:
    """Write one row a record; the columns are those of :func:`bench.records.frame.to_pandas`."""
    with replace_atomically(Path(path)) as temporary:
        to_pandas(records).to_csv(temporary, index=False)
    return len(records)


def write_parquet(records: Sequence[Record], path: str) -> int:
    """Write one row a record, typed.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    frame = to_pandas(records)
    for name in frame.columns:
        if not is_object_dtype(frame[name]):
            continue
        kinds = {type(value) for value in frame[name] if value is not None and value == value}
        if len(kinds) > 1 and not kinds <= {int, float}:
            # A column has one type: a setting that is a number here and a word there becomes a word.
            frame[name] = [None if value is None or value != value else str(value) for value in frame[name]]
    with replace_atomically(Path(path)) as temporary:
        try:
            frame.to_parquet(temporary, index=False)
        except ImportError:
            raise _not_installed("parquet") from None
    return len(records)


def write_mlflow(records: Sequence[Record], store: str) -> int:
    """Log every record as a finished run, in one experiment a suite, to the tracking server or folder ``store``.

    Settings are parameters, metrics and their raw samples are metrics, the record itself is an artefact. A record
    that is there already (same device, cell and start) is left alone.

    Raises:
        ConfigError: mlflow is not installed, or refuses.
    """
    try:
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise _not_installed("mlflow") from None
    if "://" not in store:
        # MLflow wants to be asked for its oldest kind of store, the only one that needs no server and no database.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        store = Path(store).resolve().as_uri()
    try:
        return _log_runs(records, store)
    except (MlflowException, ImportError) as error:
        raise ConfigError(f"{store}: MLflow says: {str(error).strip().splitlines()[0]}") from None


def _log_runs(records: Sequence[Record], uri: str) -> int:
    from mlflow.entities import Metric as Point
    from mlflow.entities import Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    written = 0
    for record in records:
        tags = {"etad_bench.record": f"{record.device}/{record.suite}/{record.cell_id}/{record.started_at.isoformat()}"}
        experiment = client.get_experiment_by_name(record.suite)
        number = client.create_experiment(record.suite) if experiment is None else experiment.experiment_id
        if client.search_runs([number], f"tags.`etad_bench.record` = '{tags['etad_bench.record']}'", max_results=1):
            continue
        started_ms = round(record.started_at.timestamp() * 1000)
        run = client.create_run(number, start_time=started_ms, run_name=record.cell_id).info.run_id
        tags |= {"device": record.device, "status": record.status, "kind": record.kind, "command": record.command}
        tags |= {f"finding.{name}": str(finding) for name, finding in record.findings.items()}
        client.log_batch(run, tags=[RunTag(_safe(name), text) for name, text in tags.items()])
        parameters = [Param(_safe(name), str(value)[:LONGEST_PARAMETER]) for name, value in _settings(record).items()]
        for begin in range(0, len(parameters), MOST_PARAMETERS):
            client.log_batch(run, params=parameters[begin : begin + MOST_PARAMETERS])
        points = [Point(_safe(name), value, started_ms, step) for name, step, value in _points(record)]
        for begin in range(0, len(points), MOST_METRICS):
            client.log_batch(run, metrics=points[begin : begin + MOST_METRICS])
        client.log_dict(run, record.to_tree(), "record.json")
        status = "FINISHED" if record.succeeded else "FAILED"
        client.set_terminated(run, status, started_ms + round(record.duration_s * 1000))
        written += 1
    return written


def write_tensorboard(records: Sequence[Record], folder: str) -> int:
    """Write every record as a run, ``folder/DEVICE/SUITE/CELL``, with its settings on the HPARAMS page."""
    from torch.utils.tensorboard import SummaryWriter

    for record in records:
        run = Path(folder) / record.device / record.suite / record.cell_id
        if run.is_dir():
            for old in run.glob("events.out.tfevents.*"):
                old.unlink()
        with SummaryWriter(str(run)) as writer:
            values = {name: metric.value for name, metric in record.metrics.items() if metric.value is not None}
            settings = {
                name: value if isinstance(value, bool | int | float | str) else str(value)
                for name, value in _settings(record).items()
            }
            writer.add_hparams(settings, {f"metrics/{name}": value for name, value in values.items()}, run_name=".")
            for name, step, value in _points(record):
                writer.add_scalar(f"all/{name}", value, step)
            writer.add_text("record", f"```json\n{json.dumps(record.to_tree(), indent=1)}\n```")
    return len(records)


SINKS: dict[str, Callable[[Sequence[Record], str], int]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "mlflow": write_mlflow,
    "tensorboard": write_tensorboard,
}


def _settings(record: Record) -> dict[str, Any]:
    return flat_cells("config", record.config) | flat_cells("measurement", record.measurement)


def _points(record: Record) -> Iterator[tuple[str, int, float]]:
    """Yield name, step and value of all that is known: the samples in order, then the value they were judged by."""
    for where, metrics in [("", record.metrics), *((f"{name}/", record.phases[name]) for name in record.phases)]:
        for name, metric in metrics.items():
            for step, sample in enumerate(_shown_samples(metric)):
                yield f"{where}{name}.samples", step, sample
            if metric.value is not None:
                yield f"{where}{name}", 0, metric.value


def _shown_samples(metric: Metric) -> Sequence[float]:
    return metric.samples[:MOST_SAMPLES] if len(metric.samples) > 1 else ()


def _safe(name: str) -> str:
    # MLflow names allow letters, digits and these.
    return "".join(letter if letter.isalnum() or letter in "_-./ :" else "_" for letter in name)


def _not_installed(extra: str) -> ConfigError:
    return ConfigError(f"--to {extra}: not installed; pip install 'etad-bench[{extra}]'")
