"""Predicted against measured: the signed errors of a device's cells, and what they say of a prediction for it.

Records of one device, config and measurement that are predicted and measured belong together. The error is the
prediction over the measurement, less 1. The prediction is the one without cuDNN's scratch; its interval reaches to that
with the bound of it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.files import read_record
from bench.records.names import LEVELS, STEPS, SUITE
from bench.records.record import Metrics, Record
from etad.errors import DataError

NOT_VALIDATED = "predicted, not yet validated on this device"

ALLOWED_RATIO = {"allocated": 0.05, "reserved": 0.10}
"""What a prediction may be off."""
MEASURED_FOLDER = Path("results/measured")
"""Of the working folder: where measured records, and with them validations, are kept."""


@dataclass(frozen=True)
class Difference:
    """One quantity, predicted and measured.

    Attributes:
        where: a phase, or "step" for the whole one.
        step: "first", "steady", or "peak" for the larger of the two.
        level: requested, allocated, active or reserved.
        predicted_bytes, high_bytes: without cuDNN's scratch, and with its bound.
    """

    where: str
    step: str
    level: str
    predicted_bytes: int
    high_bytes: int
    measured_bytes: int

    @property
    def error_ratio(self) -> float:
        """Signed: above 0 too much was predicted."""
        return self.predicted_bytes / self.measured_bytes - 1

    @property
    def within_interval(self) -> bool:
        """Whether the measurement lies between the prediction and its upper bound."""
        return self.predicted_bytes <= self.measured_bytes <= self.high_bytes


@dataclass(frozen=True)
class Pair:
    """A cell, predicted and measured."""

    predicted: Record
    measured: Record

    def differences(self) -> Iterator[Difference]:
        """Yield every quantity that both have: of the whole step first, then of its phases."""
        for level in LEVELS:
            yield from _difference("step", "peak", level, f"{level}_peak_bytes", self._metrics(None))
        for phase in (None, *self.measured.phases):
            for step in STEPS:
                for level in LEVELS:
                    name = f"{step}_step_{level}_peak_bytes"
                    yield from _difference(phase or "step", step, level, name, self._metrics(phase))

    def exceeding(self) -> list[Difference]:
        """Return which peaks of the whole step are off by more than is allowed."""
        return [
            found
            for found in self.differences()
            if found.step == "peak" and abs(found.error_ratio) > ALLOWED_RATIO.get(found.level, float("inf"))
        ]

    def _metrics(self, phase: str | None) -> tuple[Metrics, Metrics]:
        records = (self.predicted, self.measured)
        predicted, measured = (r.metrics if phase is None else r.phases.get(phase, {}) for r in records)
        return predicted, measured


def pairs(records: Iterable[Record]) -> list[Pair]:
    """Return the cells of suite memory that are predicted and measured on a GPU of the same device."""
    by_cell: dict[str, dict[str, Record]] = {}
    for record in records:
        if record.suite == SUITE and record.status in ("ok", "predicted"):
            key = json.dumps([record.device, record.config, record.measurement.get("task")], sort_keys=True)
            by_cell.setdefault(key, {})[record.kind] = record
    complete = (kinds for kinds in by_cell.values() if {"predicted", "measured"} <= kinds.keys())
    found = [Pair(kinds["predicted"], kinds["measured"]) for kinds in complete]
    return [pair for pair in found if any(difference.level == "reserved" for difference in pair.differences())]


def known_pairs(device: str, folders: Sequence[Path]) -> list[Pair]:
    """Return the pairs of a device in ``folders``; those that do not exist count as empty, damaged files as absent."""
    return pairs(_records(device, folders))


def standing(device: str, folders: Sequence[Path]) -> str:
    """Return in words what is known of the predictions for a device, from the records in ``folders``.

    Args:
        device: its slug.
        folders: of result records, see :func:`known_pairs`.
    """
    found = known_pairs(device, folders)
    if not found:
        return NOT_VALIDATED
    texts = []
    for level, allowed in ALLOWED_RATIO.items():
        errors = [d.error_ratio for pair in found for d in pair.differences() if (d.step, d.level) == ("peak", level)]
        if errors:
            texts.append(f"{level} {min(errors):+.1%} to {max(errors):+.1%} (allowed: {allowed:.0%})")
    return f"predicted; validated on this device by {len(found)} cells, error of the peaks: {', '.join(texts)}"


def _records(device: str, folders: Sequence[Path]) -> Iterator[Record]:
    for folder in dict.fromkeys(folders):
        for path in sorted((folder / device / SUITE).glob("*.json")):
            try:
                yield read_record(path)
            except DataError:
                continue  # etad-bench check names it; here it is as good as absent.


def _difference(where: str, step: str, level: str, name: str, metrics: tuple[Metrics, Metrics]) -> Iterator[Difference]:
    predicted, measured = (found.get(name) for found in metrics)
    if predicted is None or measured is None or predicted.value is None or not measured.value:
        return
    high = predicted.value if predicted.high is None else predicted.high
    yield Difference(where, step, level, int(predicted.value), int(high), int(measured.value))
