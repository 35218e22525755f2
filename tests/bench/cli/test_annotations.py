"""``etad-bench annotations`` as a person runs it: from a tool's file to a set, what is odd, and back to the tool."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import main
from bench.cli.annotations import EXPORTS
from etad.data.annotation_export import FOLDERS, SINGLE
from etad.data.annotations import load_annotations

TABLE = "video,start,end,label,video_duration_s\na,1,3,no,10\na,2,4,1e5,10\n-b,1,2,no,10\n-b,5,9,1e5,10\n"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["annotations", *(str(argument) for argument in arguments)])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


@pytest.fixture
def imported(table: Path, tmp_path: Path) -> Path:
    path = tmp_path / "annotations.json"
    result = run("import", table, "-o", path, "--split", "0.5", "--seed", "1")
    assert (result.exit_code, result.stdout) == (0, f"{path}\n"), result.stderr
    assert "2 videos, 4 actions of 2 classes, from 1 files (a table, or JSON list, of intervals)" in result.stderr
    return path


def test_import_makes_a_file_that_training_reads(imported: Path) -> None:
    loaded = load_annotations(imported)
    assert (loaded.classes, loaded.problems) == (("1e5", "no"), ())
    assert {video.subset for video in loaded.videos} == {"training", "validation"}


def test_a_fault_is_one_line_and_leaves_no_file(table: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    result = run("import", table, "--from", "elan", "-o", target)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"Error: {table}: is no file of elan (ELAN .eaf); it looks like intervals: give --from intervals\n"
    )
    assert not target.exists()
    assert run("import", tmp_path / "absent.csv", "-o", target).stderr.endswith("absent.csv: no such file or folder\n")


def test_an_empty_split_has_an_exit_code_of_its_own(table: Path, tmp_path: Path) -> None:
    result = run("import", table, "-o", tmp_path / "a.json", "--split", "0.1")
    assert (result.exit_code, "--split 0.1 of 2 videos leaves training empty" in result.stderr) == (5, True)


def test_check_fails_on_problems_only_unless_strict(imported: Path, tmp_path: Path) -> None:
    result = run("check", imported)
    assert result.exit_code == 0, result.stdout
    assert "note: 1 actions overlap one of another class (first: a: no 1 to 3 s, and 1e5 2 to 4 s)" in result.stdout
    assert run("check", imported, "--strict").exit_code == 1
    found = json.loads(run("check", imported, "--format", "json").stdout)
    assert {one["severity"] for one in found} == {"note"}
    tree = json.loads(imported.read_text())
    tree["database"]["a"]["annotations"].append({"segment": [8, 99], "label": "no"})
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(tree))
    result = run("check", bad)
    assert (result.exit_code, "problem: 1 actions end after the end of their video" in result.stdout) == (1, True)


def test_stats_counts_and_draws(imported: Path, tmp_path: Path) -> None:
    picture = tmp_path / "durations.png"
    result = run("stats", imported, "--plot", picture)
    assert result.exit_code == 0, result.stderr
    assert picture.stat().st_size > 1000
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["no", "2", "2", "1", "1", "3.00", "1.00", "1.50", "2.00"] in rows
    assert json.loads(run("stats", imported, "--format", "json").stdout)["all"]["actions"] == 4
    assert run("stats", imported, "--plot", tmp_path / "a.doc").exit_code == 2


@pytest.mark.parametrize("form", EXPORTS)
def test_every_export_writes_and_names_its_files(form: str, imported: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    result = run("export", imported, "--to", form, "-o", target)
    assert result.exit_code == 0, result.stderr
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert all(path.stat().st_size > 0 for path in paths)
    assert len(paths) == (1 if form in SINGLE else 2)


def test_the_exports_offered_are_those_there_are() -> None:
    assert set(EXPORTS) == {*SINGLE, *FOLDERS}


def test_predictions_are_exported_by_score(tmp_path: Path) -> None:
    detections = [{"label": "no", "score": score, "segment": [score, 1.0]} for score in (0.2, 0.5, 0.9, 0.7)]
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({"results": {"-b": detections, "a": detections[:1]}}))
    target = tmp_path / "out.csv"
    result = run("export", path, "--to", "intervals", "-o", target, "--min-score", "0.4", "--top", "2", "--video", "-b")
    assert result.exit_code == 0, result.stderr
    assert [line.split(",")[4] for line in target.read_text().splitlines()] == ["score", "0.7", "0.9"]
    assert run("export", path, "--to", "intervals", "-o", target, "--video", "c").exit_code == 5
    assert run("export", path, "--to", "intervals", "-o", target, "--subset", "test").exit_code == 5


def test_a_file_of_neither_kind_is_refused(table: Path, tmp_path: Path) -> None:
    result = run("export", table, "--to", "elan", "-o", tmp_path / "out")
    assert (result.exit_code, "import other formats first" in result.stderr) == (2, True)
