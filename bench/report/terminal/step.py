"""The predicted memory of somebody's training step, for a person or a program: like the report of an experiment."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from bench.predict.fit import Fit
from bench.predict.memory import Interval
from bench.predict.step import StepPrediction
from bench.records.names import LEVELS, STEPS
from bench.report.terminal.tables import grid
from bench.units import MIB, format_bytes

StepFormat = Literal["table", "json"]
Row = tuple[StepPrediction, Fit | None]


def format_steps(name: str, rows: Sequence[Row], form: StepFormat) -> str:
    """Return predictions as text: one in full, several as a table.

    Args:
        name: FILE:FUNCTION.
        rows: predictions of one function, and whether each fits the GPU; None: no GPU was named.
        form: json is a list, one object for each prediction.
    """
    if form == "json":
        return json.dumps([_tree(name, *row) for row in rows], indent=2)
    return "\n".join(_report(name, *rows[0]) if len(rows) == 1 else _table(name, rows))


def _title(name: str, found: StepPrediction) -> str:
    arguments = ", ".join(f"{key}={value}" for key, value in found.step.arguments.items())
    device = found.memory.device if found.target is None else found.target.name
    return f"{name}({arguments}), training step: predicted for {device}"


def _report(name: str, found: StepPrediction, fit: Fit | None) -> Iterator[str]:
    yield _title(name, found)
    yield ""
    yield grid(_peaks(found), "table")
    yield ""
    memory, composition = found.memory, found.composition
    if memory.process is not None:
        yield f"{'process':12} {_interval(memory.process)}"
    yield f"{'parameters':12} {format_bytes(memory.parameter_bytes)}"
    if fit is not None:
        yield f"{'fits':12} {_verdict(found, fit)}"
    where = f"alive at the peak of the steady step, in {composition.phase}"
    yield from ("", f"What holds the memory: {where}")
    total = composition.requested_bytes + composition.rounding_bytes
    groups = [
        ("by category", [*composition.categories.items(), ("rounding", composition.rounding_bytes)]),
        ("by module", list(composition.modules.items())),
        ("largest tensors", [(_described(tensor), tensor.size_bytes) for tensor in composition.tensors]),
    ]
    for title, sizes in groups:
        yield from ("", title)
        yield from (f"  {size / MIB:10.1f} MiB  {size / total:6.1%}  {what}" for what, size in sizes)


def _described(tensor: Any) -> str:
    shape = "x".join(map(str, tensor.shape))
    parts = (tensor.category, tensor.module or "step", tensor.operator, shape, tensor.line)
    return ", ".join(part for part in parts if part)


def _peaks(found: StepPrediction) -> Iterator[list[str]]:
    yield ["peaks [MiB]", *LEVELS]
    for step in STEPS:
        low, high = (getattr(scenario, step) for scenario in (found.memory.low, found.memory.high))
        yield [f"{step} step", *_bounds(low.peak, high.peak)]
        for phase, usage in low.phases.items():
            yield [f"  {phase}", *_bounds(usage, high.phases.get(phase, usage))]


def _bounds(low: Any, high: Any) -> Iterator[str]:
    for level in LEVELS:
        both = (getattr(usage, f"{level}_bytes") for usage in (low, high))
        yield "..".join(dict.fromkeys(f"{size / MIB:.1f}" for size in both))


def _interval(interval: Interval) -> str:
    return " to ".join(dict.fromkeys(map(format_bytes, interval)))


def _verdict(found: StepPrediction, fit: Fit) -> str:
    assert found.target is not None
    why = f" ({fit.reason})" if fit.reason else ""
    margin = "" if fit.margin is None else f"; margin {_interval(fit.margin)}"
    return f"{found.target.name} ({format_bytes(found.target.memory_bytes)}): {fit.verdict}{why}{margin}"


def _table(name: str, rows: Sequence[Row]) -> Iterator[str]:
    has_fits = any(fit is not None for _, fit in rows)
    titles = ["batch", "allocated [MiB]", "reserved [MiB]", *(["fits"] if has_fits else []), "most is"]
    lines: list[list[str]] = [titles]
    for found, fit in rows:
        category, size = next(iter(found.composition.categories.items()))
        peaks = (
            "..".join(dict.fromkeys(f"{size / MIB:.1f}" for size in one)) for one in (found.allocated, found.reserved)
        )
        share = f"{category} {size / found.composition.requested_bytes:.0%}"
        lines.append([str(found.step.batch), *peaks, *([] if fit is None else [fit.verdict]), share])
    device = rows[0][0].memory.device if rows[0][0].target is None else rows[0][0].target.name
    yield f"{name}, training step: predicted for {device}"
    yield grid(lines, "table", ["a..b: between these, as cuDNN's scratch cannot be known without the GPU"])


def _tree(name: str, found: StepPrediction, fit: Fit | None) -> dict[str, Any]:
    composition = found.composition
    return {
        "step": name,
        "arguments": dict(found.step.arguments),
        "batch": found.step.batch,
        "kind": "predicted",
        "hardware": None if found.target is None else found.target.name,
        "allocated_peak_bytes": list(found.allocated),
        "reserved_peak_bytes": list(found.reserved),
        "parameter_bytes": found.memory.parameter_bytes,
        "fits": None if fit is None else fit.verdict,
        "reason": None if fit is None else fit.reason or None,
        "margin_bytes": None if fit is None or fit.margin is None else list(fit.margin),
        "categories_bytes": {str(category): size for category, size in composition.categories.items()},
        "modules_bytes": dict(composition.modules),
        "tensors": [
            {
                "size_bytes": tensor.size_bytes,
                "category": str(tensor.category),
                "module": tensor.module,
                "operator": tensor.operator,
                "shape": list(tensor.shape),
                "line": tensor.line or None,
            }
            for tensor in composition.tensors
        ],
    }
