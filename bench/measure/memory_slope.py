"""What one more video costs: the slope of memory over the batch sizes of cells that differ in nothing else."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from bench.record import Metric, Record

LEVELS = ("requested", "allocated", "active", "reserved")


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
