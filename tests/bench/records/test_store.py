"""The folder of records: writing, resuming, merging, loading."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.records.frame import to_pandas
from bench.records.gathering import merge
from bench.records.record import Failure, Metric, Record
from bench.records.store import ResultStore
from etad.errors import DataError, NothingToDoError
from tests.bench.records.test_record import make_record


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def cell(ratio: float, **changes: Any) -> Record:
    return make_record(config={"step": {"snippet_ratio": ratio}}, **changes)


def test_a_record_lies_by_device_and_suite(store: ResultStore) -> None:
    record = cell(0.3)
    path = store.write(record)
    assert path == store.root / "nvidia-l4" / "memory" / f"{record.cell_id}.json"
    assert store.records() == [record]


def test_find_resumes_by_content(store: ResultStore) -> None:
    record = cell(0.3)
    assert store.find(record.cell_id) is None
    store.write(record)
    assert store.find(record.cell_id) == record
    assert store.find(record.cell_id, device="nvidia-l4") == record
    assert store.find(record.cell_id, device="cpu") is None
    assert store.find(cell(0.5).cell_id) is None


def test_find_on_several_devices_needs_a_name(store: ResultStore) -> None:
    store.write(cell(0.3))
    store.write(cell(0.3, device="cpu"))
    with pytest.raises(DataError, match="name the device"):
        store.find(cell(0.3).cell_id)


def test_a_cell_that_failed_is_replaced(store: ResultStore) -> None:
    store.write(cell(0.3, status="error", failure=Failure(message="boom")))
    store.write(cell(0.3))
    assert [record.status for record in store.records()] == ["ok"]


def test_scan_goes_past_damage_and_half_written_files(store: ResultStore) -> None:
    path = store.write(cell(0.3))
    (path.parent / "broken.json").write_text("{")
    (path.parent / ".half.json").write_text("{")
    found = dict(store.scan())
    assert isinstance(found[path], Record)
    assert isinstance(found[path.parent / "broken.json"], DataError)
    assert len(found) == 2
    with pytest.raises(DataError, match=r"broken\.json"):
        store.records()


def test_duplicates_are_named(store: ResultStore) -> None:
    path = store.write(cell(0.3))
    copy = path.with_name("copy.json")
    copy.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="2 times") as caught:
        store.records()
    assert str(path) in str(caught.value)
    assert str(copy) in str(caught.value)


def test_an_empty_folder_has_nothing(store: ResultStore) -> None:
    with pytest.raises(NothingToDoError, match="no result records"):
        store.records()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_read_only_folder_is_one_line(store: ResultStore, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("etad.files.tempfile.mkstemp", refuse)
    with pytest.raises(DataError, match=rf"nvidia-l4/memory: cannot be written \({error.strerror}\)"):
        store.write(cell(0.3))


def test_merge_gathers_machines(tmp_path: Path) -> None:
    first, second, target = (ResultStore(tmp_path / name) for name in ("first", "second", "target"))
    first.write(cell(0.3))
    first.write(cell(0.5))
    second.write(cell(0.3, device="cpu"))
    second.write(cell(0.5))
    target.write(cell(1.0))
    merged = merge([first.root, second.root], target.root)
    assert len(merged.copied) == 3
    assert merged.identical == [target.path_of(cell(0.5))]
    assert len(target.records()) == 4


def test_merge_refuses_a_conflict_before_writing(tmp_path: Path) -> None:
    first, second = ResultStore(tmp_path / "first"), ResultStore(tmp_path / "second")
    first.write(cell(0.3))
    second.write(cell(0.3, duration_s=2.0))
    with pytest.raises(DataError, match="differs"):
        merge([first.root, second.root], tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_merge_can_take_the_newest(tmp_path: Path) -> None:
    old, new = ResultStore(tmp_path / "old"), ResultStore(tmp_path / "new")
    later = cell(0.3, started_at=datetime(2026, 1, 2, tzinfo=UTC) + timedelta(days=9))
    old.write(cell(0.3))
    new.write(later)
    assert merge([old.root], new.root, conflicts="newest").kept == [new.path_of(later)]
    assert merge([new.root], old.root, conflicts="newest").replaced == [old.path_of(later)]
    assert old.records() == new.records() == [later]


def test_merge_of_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NothingToDoError, match="no result records"):
        merge([tmp_path], tmp_path / "target")


def test_to_pandas_is_flat(store: ResultStore) -> None:
    metrics = {
        "step_s": Metric(value=0.5, unit="s", low=0.4, high=0.6, samples=(0.4, 0.6)),
        "energy_j": Metric(value=None, unit="J", reason="no counter"),
    }
    store.write(cell(0.3, metrics=metrics, environment={"cpu": {"affinity": [0, 1]}}))
    store.write(cell(0.5, status="timeout", failure=Failure(message="over 60 s"), metrics={}, phases={}))
    frame = store.to_pandas().set_index("config.step.snippet_ratio")
    assert frame.loc[0.3, "metrics.step_s"] == 0.5
    assert frame.loc[0.3, "metrics.step_s.low"] == 0.4
    assert frame["metrics.energy_j"].isna().all()
    assert frame.loc[0.3, "phases.encode.allocated_peak_bytes"] == 900
    assert frame.loc[0.3, "environment.cpu.affinity"] == "0, 1"
    assert frame.loc[0.5, "failure"] == "over 60 s"


def test_to_pandas_of_nothing_is_empty() -> None:
    assert to_pandas([]).empty
