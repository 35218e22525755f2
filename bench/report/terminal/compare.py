"""Verdicts as a table, as Markdown for a pull request, as JSON, and as JUnit XML for a CI server."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Literal, get_args
from xml.etree import ElementTree

from bench.compare.compare import Compared
from bench.compare.verdicts import RECORD, Comparison, Verdict
from bench.report.terminal.tables import grid
from bench.units import format_bytes

Form = Literal["table", "md", "json"]
FORMS: tuple[Form, ...] = get_args(Form)

ORDER: tuple[Verdict, ...] = (
    "regressed",
    "incomparable",
    "missing",
    "inconclusive",
    "improved",
    "new",
    "unchanged",
)
"""What needs a look first comes first, and of that the largest change."""
TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
MOST_MARKDOWN_ROWS = 100
"""A comment on a pull request has a greatest length; the JSON has all."""
HEADER = ("verdict", "cell", "metric", "base", "head", "ratio", "interval", "samples", "p", "why")


def format_compared(compared: Compared, form: Form, everything: bool = False) -> str:
    """Return the verdicts as text, without a newline at its end.

    Args:
        compared: what was found.
        form: see the module's text. JSON has everything.
        everything: also list what is unchanged.
    """
    if form == "json":
        comparisons = [dataclasses.asdict(comparison) for comparison in compared.comparisons]
        return json.dumps({"comparisons": comparisons, "notes": compared.notes, "count": compared.count()}, indent=1)
    shown = sorted(
        (c for c in compared.comparisons if everything or c.verdict != "unchanged"),
        key=lambda comparison: (ORDER.index(comparison.verdict), -_size(comparison)),
    )
    return _markdown(compared, shown) if form == "md" else _table(compared, shown)


def summary(compared: Compared) -> str:
    """Return how many metrics got which verdict: "1 regressed, 40 unchanged"."""
    count = compared.count()
    return ", ".join(f"{count[verdict]} {verdict}" for verdict in ORDER if verdict in count)


def junit(compared: Compared, strict: bool = False) -> str:
    """Return the verdicts as JUnit XML: a test suite a cell, a test case a metric.

    Regressed is a failure, incomparable an error, and inconclusive, missing and new are skipped; strict: the first two
    of these fail.
    """
    root = ElementTree.Element("testsuites", name="etad-bench compare")
    failing = ("regressed", "missing", "inconclusive") if strict else ("regressed",)
    for cell in dict.fromkeys(comparison.cell for comparison in compared.comparisons):
        cases = [comparison for comparison in compared.comparisons if comparison.cell == cell]
        tags = [_junit_tag(case.verdict, failing) for case in cases]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=cell,
            tests=str(len(cases)),
            failures=str(tags.count("failure")),
            errors=str(tags.count("error")),
            skipped=str(tags.count("skipped")),
        )
        for case, tag in zip(cases, tags, strict=True):
            element = ElementTree.SubElement(suite, "testcase", classname=cell, name=case.metric)
            if tag:
                ElementTree.SubElement(element, tag, message=f"{case.verdict}: {_sentence(case)}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _junit_tag(verdict: Verdict, failing: Sequence[str]) -> str:
    if verdict in failing:
        return "failure"
    if verdict == "incomparable":
        return "error"
    return "" if verdict in ("unchanged", "improved") else "skipped"


def _table(compared: Compared, shown: Sequence[Comparison]) -> str:
    notes = [*compared.notes, summary(compared)]
    return grid([HEADER, *map(_row, shown)], "table", notes) if shown else "\n".join(notes)


def _markdown(compared: Compared, shown: Sequence[Comparison]) -> str:
    lines = [f"**{summary(compared)}**"]
    if shown:
        lines += ["", grid([HEADER, *map(_row, shown[:MOST_MARKDOWN_ROWS])], "md")]
    if len(shown) > MOST_MARKDOWN_ROWS:
        lines += ["", f"and {len(shown) - MOST_MARKDOWN_ROWS} more"]
    if compared.notes:
        lines += ["", *(f"- {note}" for note in compared.notes)]
    return "\n".join(lines)


def _size(comparison: Comparison) -> float:
    """Return how large a change is, the same for a ratio and its inverse; 0 where there is none."""
    return abs(math.log(comparison.ratio)) if comparison.ratio and comparison.ratio > 0 else 0.0


def _row(comparison: Comparison) -> tuple[str, ...]:
    counts = (comparison.base_count, comparison.head_count)
    return (
        comparison.verdict,
        comparison.cell,
        "" if comparison.metric == RECORD else comparison.metric,
        _value(comparison, comparison.base),
        _value(comparison, comparison.head),
        _ratio(comparison),
        _interval(comparison),
        f"{counts[0]}/{counts[1]}" if comparison.way == "samples" else "-",
        "-" if comparison.p is None else f"{comparison.p:.2g}",
        comparison.reason,
    )


def _value(comparison: Comparison, value: float | None) -> str:
    unit = comparison.unit
    if value is None:
        return "-"
    if comparison.way == "exact":
        # A change of one byte is one.
        return f"{value:,}" + ("" if unit == "1" else f" {unit}")
    if unit == "bytes":
        return format_bytes(value)
    if unit == "s":
        scale, name = next((size, name) for size, name in TIMES if abs(value) >= size or size == TIMES[-1][0])
        return f"{value / scale:.4g} {name}"
    return f"{value:.4g}" + ("" if unit == "1" else f" {unit}")


def _ratio(comparison: Comparison) -> str:
    if comparison.ratio is None:
        return "-"
    return f"{comparison.ratio:.8g}" if comparison.way == "exact" else f"{comparison.ratio:.3f}"


def _interval(comparison: Comparison) -> str:
    if comparison.low is None or comparison.high is None or comparison.low == comparison.high:
        return "-"
    return f"{comparison.low:.3f}..{comparison.high:.3f}"


def _sentence(comparison: Comparison) -> str:
    parts = [f"{comparison.cell}: {comparison.metric}"]
    if comparison.base is not None and comparison.head is not None:
        parts.append(" -> ".join(_value(comparison, value) for value in (comparison.base, comparison.head)))
    if comparison.ratio is not None:
        parts.append(f"ratio {_ratio(comparison)}")
    if comparison.p is not None:
        parts.append(f"p {comparison.p:.2g}, {comparison.base_count}/{comparison.head_count} samples")
    return ", ".join([*parts, *([comparison.reason] if comparison.reason else [])])
