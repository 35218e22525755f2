"""The result record: what it accepts, what it refuses, and what it says of damaged files."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.records import files
from bench.records import record as record_module
from bench.records.files import json_schema, read_record, write_record
from bench.records.record import SCHEMA_VERSION, Failure, Finding, Metric, Record, cell_id
from bench.records.sanity import check
from etad.errors import DataError

BYTES: dict[str, Any] = {"unit": "bytes"}


def make_record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "status": "ok",
        "kind": "measured",
        "suite": "memory",
        "device": "nvidia-l4",
        "config": {"name": "tiny", "step": {"snippet_ratio": 0.3}},
        "measurement": {"steps": 2},
        "metrics": {"allocated_peak_bytes": Metric(value=1000, **BYTES), "step_s": Metric(value=0.5, unit="s")},
        "phases": {"encode": {"allocated_peak_bytes": Metric(value=900, **BYTES)}},
        "environment": {"host": {"name": "desk"}},
        "command": "etad-bench memory --config tiny",
        "started_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "duration_s": 1.5,
    }
    return Record.model_validate(fields | changes)


def with_metrics(**values: float) -> Record:
    return make_record(metrics={name: Metric(value=value, **BYTES) for name, value in values.items()}, phases={})


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    samples = Metric(value=0.5, unit="s", samples=(0.4, 0.5, 0.7), method="device events", low=0.4, high=0.6)
    written = make_record(metrics={"step_s": samples}, warnings=("noisy",))
    write_record(tmp_path / "a.json", written)
    assert read_record(tmp_path / "a.json") == written
    assert json.loads((tmp_path / "a.json").read_text())["started_at"] == "2026-01-02T03:04:05Z"


def test_whole_bytes_stay_whole(tmp_path: Path) -> None:
    exact = 2**60 + 1  # A float could not hold it.
    write_record(tmp_path / "a.json", with_metrics(allocated_peak_bytes=exact))
    assert read_record(tmp_path / "a.json").metrics["allocated_peak_bytes"].value == exact


def test_cell_id_depends_on_what_was_asked_only() -> None:
    base = make_record()
    assert len(base.cell_id) == 16
    assert base.cell_id == make_record(device="cpu", environment={}, duration_s=9.0, status="ok").cell_id
    assert base.cell_id == cell_id("memory", "measured", {"step": {"snippet_ratio": 0.3}, "name": "tiny"}, {"steps": 2})
    for change in ({"config": {}}, {"measurement": {}}, {"suite": "throughput"}):
        assert make_record(**change).cell_id != base.cell_id


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_any_config_survives_the_file_and_keeps_its_id(config: dict[str, Any]) -> None:
    record = make_record(config=config)
    again = Record.model_validate(json.loads(json.dumps(record.to_tree())))
    assert again == record
    shuffled = dict(reversed(config.items()))
    assert make_record(config=shuffled).cell_id == record.cell_id
    assert make_record(config=config | {"one more": 1}).cell_id != record.cell_id


def test_cell_id_counts_the_schema_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cell_id("memory", "measured", {}, {})
    monkeypatch.setattr(record_module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    assert cell_id("memory", "measured", {}, {}) != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "predicted"}, "cannot have the status predicted"),
        ({"kind": "predicted"}, "cannot have the status ok"),
        ({"status": "oom"}, "failure has to say why"),
        ({"failure": Failure(message="x")}, "there can be no failure"),
        ({"cell_id": "0" * 16}, "make it"),
        ({"started_at": "2026-01-02T03:04:05"}, "timezone"),
        ({"duration_s": -1.0}, "greater than or equal to 0"),
        ({"config": {"rate": float("nan")}}, "not JSON compliant"),
        ({"device": "../elsewhere"}, "pattern"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_incoherent_records_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        make_record(**change)


def test_out_of_memory_is_a_result() -> None:
    failure = Failure(message="CUDA out of memory", phase="backpropagate", requested_bytes=2**30)
    assert not check(make_record(status="oom", failure=failure, metrics={}, phases={}))


def test_unknown_is_null_with_a_reason() -> None:
    assert Metric(value=None, unit="J", reason="no energy counter").value is None
    with pytest.raises(pydantic.ValidationError, match="needs a reason"):
        Metric(value=None, unit="J")
    with pytest.raises(pydantic.ValidationError, match="makes no sense"):
        Metric(value=0, unit="J", reason="unknown")
    with pytest.raises(pydantic.ValidationError, match="finite"):
        Metric(value=float("nan"), unit="J")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"allocated_peak_bytes": 5, "reserved_peak_bytes": 4}, "allocated_peak_bytes 5 exceeds reserved_peak_bytes 4"),
        ({"requested_peak_bytes": 5, "process_peak_bytes": 4}, "requested_peak_bytes 5 exceeds process_peak_bytes 4"),
        ({"peak_reserved_bytes": 9, "peak_process_bytes": 8}, "exceeds"),
        ({"allocated_peak_bytes": 5, "allocated_static_bytes": 6}, "is below allocated_static_bytes 6"),
        ({"process_peak_bytes": 9, "device_total_bytes": 8}, "exceeds device_total_bytes 8"),
        ({"allocated_peak_bytes": -1}, "negative"),
    ],
)
def test_impossible_memory_is_found(values: dict[str, float], complaint: str) -> None:
    problems = check(with_metrics(**values))
    assert len(problems) == 1
    assert complaint in problems[0]


def test_possible_memory_passes() -> None:
    levels = ("requested", "allocated", "active", "reserved", "process")
    values = {f"{level}_peak_bytes": 10 * number for number, level in enumerate(levels, 1)}
    assert not check(with_metrics(**values, allocated_static_bytes=20, device_total_bytes=50, allocated_error_bytes=-3))


def test_phases_are_checked_and_named() -> None:
    phase = {"allocated_peak_bytes": Metric(value=5, **BYTES), "reserved_peak_bytes": Metric(value=4, **BYTES)}
    assert check(make_record(phases={"encode": phase}))[0].startswith("encode: ")


def test_negative_samples_and_wrong_intervals_are_found() -> None:
    assert "negative" in check(make_record(metrics={"step_s": Metric(value=1, unit="s", samples=(1, -1))}))[0]
    assert "interval" in check(make_record(metrics={"step_s": Metric(value=3, unit="s", low=1, high=2)}))[0]
    assert "interval" in check(make_record(metrics={"x_s": Metric(value=None, unit="s", reason="?", low=2, high=1)}))[0]
    assert check(make_record(metrics={})) == ["there is no metric at all"]


def test_impossible_record_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no physical sense"):
        write_record(tmp_path / "a.json", with_metrics(allocated_peak_bytes=5, reserved_peak_bytes=4))
    with pytest.raises(DataError, match="NaN"):
        write_record(tmp_path / "a.json", make_record(environment={"load": float("nan")}))
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written") as caught:
        write_record(tmp_path / "file" / "a.json", make_record())
    assert "\n" not in str(caught.value)


VERSION = f'"schema_version": {SCHEMA_VERSION}'


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "not valid JSON, or cut off"),
        (lambda text: "", "not valid JSON, or cut off"),
        (lambda text: text.replace("1000", "NaN"), "holds NaN"),
        (lambda text: text.replace("0.5", "-Infinity"), "holds -Infinity"),
        (lambda text: text.replace(VERSION, '"schema_version": 7'), "schema version 7 is newer"),
        (lambda text: text.replace(VERSION, '"schema_version": 0'), "version 0 has no migration"),
        (lambda text: text.replace(VERSION, '"schema_version": "1"'), "whole number"),
        (lambda text: text.replace(f"{VERSION},", ""), "not a result record"),
        (lambda text: "[]", "not a result record"),
        (lambda text: text.replace('"unit": "bytes"', '"units": "bytes"'), "metrics.allocated_peak_bytes.unit"),
        (lambda text: text.replace("0.3", "0.4"), "cell_id is"),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path: Path, damage: Any, message: str) -> None:
    path = tmp_path / "cell.json"
    write_record(path, make_record())
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=message) as caught:
        read_record(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: cannot be read"):
        read_record(tmp_path / "nowhere.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\xff" * 9)
    with pytest.raises(DataError, match=r"b\.json: not a text file"):
        read_record(tmp_path / "b.json")


def test_older_records_are_lifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.json"
    write_record(path, make_record())
    old = json.loads(path.read_text())
    old["schema_version"] = SCHEMA_VERSION - 1
    old["options"] = old.pop("measurement")
    path.write_text(json.dumps(old))

    def rename(tree: dict[str, Any]) -> dict[str, Any]:
        return {"measurement": tree.pop("options"), **tree}

    monkeypatch.setitem(files.MIGRATIONS, SCHEMA_VERSION - 1, rename)
    assert read_record(path) == make_record()


def test_findings_of_version_2_become_a_verdict_and_why(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    write_record(path, make_record())
    old = json.loads(path.read_text()) | {"schema_version": 2, "cell_id": ""}
    old["findings"] = {
        "stability.step_s": "noisy: rounds scatter by 9% of the median",
        "bound": "compute: of the step, 96% is arithmetic: see the roofline",
        "classifier": "a: b.json",
    }
    path.write_text(json.dumps(old))
    assert read_record(path).findings == {
        "stability.step_s": Finding(verdict="noisy", why="rounds scatter by 9% of the median"),
        "bound": Finding(verdict="compute", why="of the step, 96% is arithmetic: see the roofline"),
        "classifier": Finding(verdict="a: b.json"),
    }


@pytest.mark.parametrize(
    "damage",
    [
        {"measurement": None},
        {"measurement": [1]},
        {"findings": ["a"]},
        {"findings": {"bound": 3}},
        {"findings": None},
        {"suite": 4},
        {"suite": "baseline", "environment": None, "measurement": {"inference": True}},
    ],
)
def test_a_damaged_record_of_version_2_is_named_in_one_line(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = tmp_path / "old.json"
    write_record(path, make_record())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2, "cell_id": ""} | damage))
    with pytest.raises(DataError) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_json_schema_describes_the_file() -> None:
    schema = json_schema()
    assert set(schema["required"]) >= {"status", "kind", "suite", "config", "measurement", "environment"}
    assert schema["additionalProperties"] is False
