"""Records as text: units, intervals, what is not known, and every format."""

import csv
import io
import json
from typing import Any

import pytest

from bench.records.record import Metric, Record
from bench.report.terminal.tables import Column, Format, format_records, format_value, grid, metric_column
from bench.units import MIB, format_bytes


def record(batch: int, **metrics: Metric) -> Record:
    facts: dict[str, Any] = {
        "status": "predicted",
        "kind": "predicted",
        "suite": "memory",
        "device": "cuda-sm-80",
        "config": {"train": {"batch": batch}},
        "measurement": {},
        "environment": {},
        "command": "etad-bench memory",
        "started_at": "2026-01-01T00:00:00Z",
        "duration_s": 1.0,
    }
    return Record(metrics=metrics, **facts)


RECORDS = [
    record(1, peak_bytes=Metric(value=10 * MIB, unit="bytes")),
    record(4, peak_bytes=Metric(value=30 * MIB, low=30 * MIB, high=35 * MIB, unit="bytes")),
    record(8, peak_bytes=Metric(value=None, unit="bytes", reason="nobody looked")),
]
COLUMNS = [
    Column("batch", lambda record: record.config["train"]["batch"]),  # type: ignore[index, call-overload]
    metric_column("peak", "peak_bytes"),
]


def test_a_table_has_units_intervals_and_reasons() -> None:
    assert format_records(RECORDS, COLUMNS, "table", ["a note"]).splitlines() == [
        "batch  peak [MiB]",
        "    1        10.0",
        "    4  30.0..35.0",
        "    8           -",
        "a note",
        "peak: not known: nobody looked",
    ]


def test_markdown_is_a_table_too() -> None:
    lines = format_records(RECORDS, COLUMNS, "md").splitlines()
    assert lines[:3] == ["| batch | peak [MiB] |", "| --- | --- |", "| 1 | 10.0 |"]
    assert lines[-1] == "- peak: not known: nobody looked"


def test_csv_has_raw_numbers_and_bounds() -> None:
    rows = list(csv.DictReader(io.StringIO(format_records(RECORDS, COLUMNS, "csv"))))
    assert rows[0] == {"batch": "1", "peak_bytes": str(10 * MIB), "peak_bytes_low": "", "peak_bytes_high": ""}
    assert rows[1]["peak_bytes_high"] == str(35 * MIB)
    assert rows[2]["peak_bytes"] == ""


def test_json_holds_whole_records() -> None:
    trees = json.loads(format_records(RECORDS, COLUMNS, "json"))
    assert [Record.model_validate(tree) for tree in trees] == RECORDS
    lines = format_records(RECORDS, COLUMNS, "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == trees


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "md"])
def test_no_records_are_no_error(form: Format) -> None:
    assert isinstance(format_records([], COLUMNS, form), str)


def test_words_go_left_and_numbers_right() -> None:
    rows = [["name", "n"], ["a", "10"], ["bcd", "-"]]
    assert grid(rows, "table", ["a note"]).splitlines() == ["name   n", "a     10", "bcd    -", "a note"]
    assert grid(rows, "table", to_the_right=()).splitlines() == ["name  n", "a     10", "bcd   -"]


def test_a_bar_does_not_end_a_cell_of_markdown_and_csv_has_raw_values() -> None:
    assert grid([["a|b", "n"]], "md", ["x|y"]).splitlines() == ["| a\\|b | n |", "| --- | --- |", "", "- x|y"]
    assert grid([["a", "b,c"], [None, 1.5]], "csv", ["not shown"]) == 'a,"b,c"\n,1.5'


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0.0 MiB"), (1536 * 1024, "1.5 MiB"), (24 * 2**30, "24.00 GiB"), (-MIB, "-1.0 MiB")]
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.25, "0.25"), ("bf16", "bf16"), (Metric(value=2.5e12, unit="FLOP"), "2.50")],
)
def test_values(value: Any, text: str) -> None:
    assert format_value(value) == text
