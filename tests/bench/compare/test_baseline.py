"""``etad-bench baseline``: the committed quantities are those of this code, and one tensor more is found."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

import bench.compare.baseline
from bench.cli import main
from bench.compare.baseline import CELLS, baseline_folder, check_baseline, make_baseline, save_baseline
from bench.compare.compare import compare_records
from bench.compare.pairing import NotComparableError
from bench.compare.thresholds import load_gates
from bench.records.record import Record
from etad.models.detector import Detector
from tests.paths import ROOT

COMMITTED = ROOT / "results" / "baselines"
ONE_CELL = ("quickstart", ("data.length=8", "train.batch=1"), "infer")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["baseline", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return list(make_baseline())


@pytest.fixture
def only_one_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ONE_CELL in CELLS
    monkeypatch.setattr(bench.compare.baseline, "CELLS", (ONE_CELL,))


def test_this_code_is_as_its_baseline(records: list[Record]) -> None:
    try:
        compared = check_baseline(COMMITTED, records)
    except NotComparableError as error:
        pytest.skip(str(error))
    different = [comparison for comparison in compared.comparisons if comparison.verdict != "unchanged"]
    assert not different, "if the change is meant: etad-bench baseline save"
    assert {comparison.way for comparison in compared.comparisons} == {"exact"}


def test_what_is_counted(records: list[Record]) -> None:
    assert len({record.cell_id for record in records}) == len(CELLS) == 8
    for record in records:
        assert (record.kind, record.status) == ("predicted", "predicted")
        wanted = {"parameters", "operators", "torch_counter_flops", "allocated_peak_bytes", "reserved_peak_bytes"}
        assert wanted <= set(record.metrics)
        metrics = [*record.metrics.values(), *(metric for phase in record.phases.values() for metric in phase.values())]
        assert all(metric.exact for metric in metrics)


@pytest.mark.usefixtures("only_one_cell")
def test_one_tensor_more_is_a_regression(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    published = Detector.forward

    def with_a_tensor_more(self: Any, features: torch.Tensor, proposals: torch.Tensor) -> Any:
        more = features.new_zeros(2**20)
        output = published(self, features, proposals)
        del more
        return output

    before = [records[CELLS.index(ONE_CELL)]]
    assert compare_records(before, list(make_baseline()), load_gates()).exit_code() == 0
    monkeypatch.setattr(Detector, "forward", with_a_tensor_more)
    compared = compare_records(before, list(make_baseline()), load_gates())
    assert compared.exit_code() == 1
    worse = {comparison.metric for comparison in compared.comparisons if comparison.verdict == "regressed"}
    assert {"allocated_peak_bytes", "requested_peak_bytes", "operators"} <= worse


def test_save_and_check(records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.compare.baseline, "make_baseline", lambda: iter(records))
    absent = run("check", "--folder", tmp_path)
    assert absent.exit_code == 4
    assert "there is: none at all" in absent.stderr
    assert len(run("save", "--folder", tmp_path).stdout.splitlines()) == len(CELLS)
    same = run("check", "--folder", tmp_path)
    assert (same.exit_code, same.stdout.split()[-1]) == (0, "unchanged")

    # An improvement differs, too: it has to be kept, or its loss would go unnoticed.
    metrics = dict(records[0].metrics)
    metrics["operators"] = metrics["operators"].model_copy(update={"value": 1})
    save_baseline(tmp_path, [records[0].model_copy(update={"metrics": metrics}), *records[1:]])
    assert run("check", "--folder", tmp_path).exit_code == 1

    save_baseline(tmp_path, records[:3])
    assert len(list(tmp_path.rglob("*.json"))) == 3


def test_another_torch_has_another_baseline(records: list[Record], tmp_path: Path, monkeypatch: Any) -> None:
    save_baseline(tmp_path, records)
    there = baseline_folder(tmp_path).name
    monkeypatch.setattr(torch, "__version__", "2.99.1+cpu")
    assert baseline_folder(tmp_path).name.startswith("torch-2.99-")
    with pytest.raises(NotComparableError, match=f"there is: {there}"):
        check_baseline(tmp_path, records)
