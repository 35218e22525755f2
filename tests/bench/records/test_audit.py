"""``etad-bench check``, ``merge`` and ``migrate``, and the published schema: what is found in a folder of records."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import bench
from bench.cli import main
from bench.machine.environment import collect_environment
from bench.records.audit import check_files
from bench.records.files import json_schema
from bench.records.record import SCHEMA_VERSION, Metric, Record
from bench.records.store import ResultStore, record_files
from tests.bench.records.test_record import make_record
from tests.paths import ROOT


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def environment() -> dict[str, Any]:
    found = collect_environment().model_dump(mode="json")
    found["cpu"]["model"] = "AMD EPYC"
    found["gpus"] = {"found": [{"name": "NVIDIA L4"}], "reason": None}
    found["code"] = {"git_sha": "0" * 40, "git_dirty": False, "unknown": {}}
    return found


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def messages(store: ResultStore) -> list[str]:
    return [f"{f.severity}: {f.message}" for found in check_files(record_files(store.root)) for f in found]


def test_sound_records_pass(store: ResultStore, environment: dict[str, Any]) -> None:
    store.write(make_record(environment=environment))
    store.write(make_record(environment=environment, device="cpu-amd-epyc"))
    (store.root / "published").mkdir()
    (store.root / "published" / "etad.yaml").write_text("not: a record")
    (store.root / "ratio.png").touch()
    result = run("check", store.root)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "2 records: 0 problems, 0 notes" in result.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": " "}, "problem: command is empty"),
        ({"command": "etad-bench 'memory"}, "problem: command is no command line"),
        ({"started_at": datetime.now(UTC) + timedelta(days=3)}, "problem: started_at lies in the future"),
        ({"device": "nvidia-h100"}, "problem: device is nvidia-h100, but its environment has cpu-amd-epyc, nvidia-l4"),
        (
            {"metrics": {"step_s": Metric(value=1.0, unit="s", method="simulated caching allocator")}},
            "problem: step_s was not measured (simulated caching allocator), but the record says so",
        ),
    ],
)
def test_provenance_is_checked(
    store: ResultStore, environment: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    store.write(make_record(environment=environment, **changes))
    (found,) = messages(store)
    assert found.startswith(message)


def test_an_environment_has_to_be_there(store: ResultStore, environment: dict[str, Any]) -> None:
    code = {"git_sha": None, "git_dirty": True, "unknown": {}}
    without = {key: value for key, value in environment.items() if key != "cpu"}
    store.write(make_record(environment=without | {"code": code}))
    assert messages(store) == [
        "problem: environment.cpu is missing",
        "problem: environment.code.git_sha is not told, and no reason given",
        "note: made by code that differs from its commit (git_dirty), so the commit alone does not repeat it",
    ]
    assert run("check", store.root).exit_code == 3


def test_a_note_fails_only_a_strict_check(store: ResultStore, environment: dict[str, Any]) -> None:
    code = {"git_sha": "0" * 40, "git_dirty": True, "unknown": {}}
    store.write(make_record(environment=environment | {"code": code}))
    assert run("check", store.root).exit_code == 0
    assert run("check", store.root, "--strict").exit_code == 3


def test_everything_wrong_is_listed(store: ResultStore, environment: dict[str, Any]) -> None:
    path = store.write(make_record(environment=environment))
    text = path.read_text()

    def beside(name: str, content: str) -> None:
        (path.parent / name).write_text(content)

    path.write_text(text.replace('"value": 1000', '"value": 10'))
    beside("truncated.json", text[:200])
    beside("nan.json", text.replace("1000", "NaN"))
    beside("newer.json", text.replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 9'))
    beside(
        "two.json", text.replace('"unit": "bytes"', '"units": "bytes"', 1).replace('"suite": "memory"', '"suite": 4')
    )
    beside("twin.json", text)
    beside(".half-written.json", "{")
    result = run("check", store.root)
    assert result.exit_code == 3
    lines = [line.removeprefix(f"{path.parent}/") for line in result.stdout.splitlines()]
    assert [line for line in lines if line.startswith("nan")] == [
        "nan.json: problem: holds NaN, which is not a result; unknown values are null with a reason"
    ]
    assert any(line.startswith("newer.json: problem: schema version 9 is newer") for line in lines)
    assert any(line.startswith("truncated.json: problem: not valid JSON, or cut off") for line in lines)
    assert len([line for line in lines if line.startswith("two.json")]) >= 3
    twin = [line for line in lines if line.startswith("twin.json")]
    assert "should lie at nvidia-l4/memory/" in twin[0]
    assert "the same cell as" in twin[1]
    assert not any("half" in line for line in lines)


def test_the_same_cell_in_two_stores_is_no_duplicate(tmp_path: Path, environment: dict[str, Any]) -> None:
    for name in ("measured", "baselines"):
        ResultStore(tmp_path / name).write(make_record(environment=environment))
    assert run("check", tmp_path).exit_code == 0


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    result = run("check", tmp_path)
    assert result.exit_code == 5
    assert "no result records" in result.stderr
    assert run("check").exit_code == 2


def test_the_committed_results_are_sound() -> None:
    result = run("check", ROOT / "results")
    assert result.exit_code == 0, result.stdout


def test_the_published_schema_is_that_of_the_code() -> None:
    path = Path(bench.__file__).with_name("record.schema.json")
    remedy = "etad-bench check --schema > bench/record.schema.json"
    assert json.loads(path.read_text()) == json_schema() == json.loads(run("check", "--schema").stdout), remedy


def test_the_schema_accepts_what_is_written(environment: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tree = make_record(environment=environment).to_tree()
    jsonschema.validate(tree, json_schema())
    for wrong in ({"status": "fine"}, {"schema_version": 1}, {"extra": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tree | wrong, json_schema())


# Older records ------------------------------------------------------------------------------------------------------


@pytest.fixture
def old(store: ResultStore, environment: dict[str, Any]) -> Path:
    """A record of schema version 1, where that version put it."""
    tree = make_record(environment=environment).to_tree()
    tree |= {"schema_version": 1, "cell_id": "0123456789abcdef"}
    del tree["findings"]
    path = store.root / "nvidia-l4" / "memory" / "0123456789abcdef.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(tree))
    return path


def test_old_records_are_rewritten_under_their_new_name(
    store: ResultStore, old: Path, environment: dict[str, Any]
) -> None:
    assert messages(store) == [
        f"problem: schema version 1 is older than {SCHEMA_VERSION}; etad-bench migrate rewrites it"
    ]
    result = run("migrate", store.root)
    record = make_record(environment=environment)
    assert (result.exit_code, result.stdout) == (0, f"{old} -> {store.path_of(record)}\n")
    assert not old.exists()
    assert store.records() == [record]
    assert messages(store) == []
    assert run("migrate", store.root).stdout == ""


def test_migration_writes_nothing_where_it_cannot_do_all(store: ResultStore, old: Path) -> None:
    before = old.read_text()
    store.write(make_record(duration_s=9.0))
    result = run("migrate", store.root)
    assert result.exit_code == 2
    assert "are the same cell with different results" in result.stderr
    assert old.read_text() == before


# Merging ------------------------------------------------------------------------------------------------------------


def test_merge_gathers_folders(tmp_path: Path) -> None:
    for name, device in (("desk", "nvidia-l4"), ("rack", "nvidia-h100")):
        ResultStore(tmp_path / name).write(make_record(device=device))
    result = run("merge", tmp_path / "desk", tmp_path / "rack", "--into", tmp_path / "all")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["copied     2", "identical  0", "replaced   0", "kept       0"]
    ResultStore(tmp_path / "other").write(make_record(duration_s=9.0))
    conflict = run("merge", tmp_path / "other", "--into", tmp_path / "all")
    assert conflict.exit_code == 2
    assert "differs" in conflict.stderr


def test_a_read_only_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ResultStore(tmp_path / "desk").write(make_record())

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("etad.files.tempfile.mkstemp", refuse)
    result = run("merge", tmp_path / "desk", "--into", tmp_path / "all")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "cannot be written (Permission denied)" in result.stderr


def test_published_figures_need_no_environment(store: ResultStore) -> None:
    published = Record.model_validate(make_record().to_tree() | {"kind": "published", "cell_id": ""})
    store.write(published)
    assert messages(store) == []
