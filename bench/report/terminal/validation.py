"""Predicted against measured, for a person: every cell's peaks with their signed errors, then phase by phase."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Literal

from bench.compare.prediction_errors import ALLOWED_RATIO, Difference, Pair
from bench.records.record import Record
from bench.report.reading import setting
from bench.report.terminal.tables import grid
from bench.units import MIB

Form = Literal["table", "json", "csv"]
KNOBS = ("batch", "chunk", "ratio", "strategy", "precision", "frozen")
HEADER = [*KNOBS, "where", "step", "level", "predicted [MiB]", "with scratch [MiB]", "measured [MiB]", "error", ""]


def format_validation(found: Sequence[Pair], failed: Sequence[Record], form: Form) -> str:
    """Return the differences as text; what exceeds its allowance is marked.

    Args:
        found: the cells that ran both ways.
        failed: records of those that did not.
        form: csv and json hold exact bytes.
    """
    if form == "json":
        return json.dumps([_tree(pair) for pair in found], indent=1)
    shown = [(pair, difference) for pair in found for difference in pair.differences()]
    if form == "csv":
        names = ["predicted_bytes", "high_bytes", "measured_bytes", "error_ratio"]
        raw = [[*_knobs(pair), d.where, d.step, d.level, *(getattr(d, name) for name in names)] for pair, d in shown]
        return grid([[*KNOBS, "where", "step", "level", *names], *raw], form)
    rows = [HEADER, *(_row(pair, d) for pair, d in shown if d.level in ALLOWED_RATIO)]
    return grid(rows, form, _notes(found, failed))


def _notes(found: Sequence[Pair], failed: Sequence[Record]) -> Iterator[str]:
    for level, allowed in ALLOWED_RATIO.items():
        errors = [d.error_ratio for pair in found for d in pair.differences() if (d.step, d.level) == ("peak", level)]
        if errors:
            exceeding = sum(abs(error) > allowed for error in errors)
            span = f"{min(errors):+.1%} to {max(errors):+.1%}"
            yield f"{level}: {span} over {len(errors)} cells, {exceeding} beyond the allowed {allowed:.0%}"
    yield "error: predicted (without cuDNN's scratch) over measured, less 1; ~: the interval holds the measurement"
    for record in failed:
        reason = record.failure.message if record.failure else record.status
        yield f"{record.kind}, {', '.join(f'{knob} {setting(record, knob)}' for knob in KNOBS)}: {reason}"


def _row(pair: Pair, difference: Difference) -> list[str]:
    sizes = (difference.predicted_bytes, difference.high_bytes, difference.measured_bytes)
    beyond = difference.step == "peak" and abs(difference.error_ratio) > ALLOWED_RATIO[difference.level]
    mark = ("!" if beyond else "") + ("~" if difference.within_interval else "")
    return [
        *_knobs(pair),
        difference.where,
        difference.step,
        difference.level,
        *(f"{size / MIB:.1f}" for size in sizes),
        f"{difference.error_ratio:+.1%}",
        mark,
    ]


def _knobs(pair: Pair) -> list[str]:
    return [setting(pair.measured, knob) for knob in KNOBS]


def _tree(pair: Pair) -> dict[str, object]:
    differences = [{**asdict(d), "error_ratio": d.error_ratio} for d in pair.differences()]
    settings = {knob: setting(pair.measured, knob) for knob in KNOBS}
    return {"device": pair.measured.device, "cell_id": pair.measured.cell_id, **settings, "differences": differences}
