"""From options to cells: how often a config file is read for them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import etad.config
from bench.cells import make_cells
from bench.machine.environment import collect_environment
from bench.sweep.cells import sweep_cells
from bench.sweep.file import load_sweep
from etad.files import read_yaml


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Files that were read as configs, and how often each."""
    counted: Counter[str] = Counter()

    def read(path: Path) -> dict[str, Any]:
        counted[path.stem] += 1
        return read_yaml(path)

    monkeypatch.setattr(etad.config, "read_yaml", read)
    return counted


def test_a_config_file_is_read_once_for_all_cells(reads: Counter[str]) -> None:
    knobs = {"ratio": "0.1,0.3,1", "batch": "1,2,4", "strategy": "sequential,joint"}
    cells = make_cells(["x"], "anet_e2e", knobs, ["train.epochs=2"])
    assert len({str(cell.config) for cell in cells}) == 18
    assert {cell.config.train.epochs for cell in cells} == {2}
    assert reads == {"anet_e2e": 1, "anet_features": 1}


def test_a_config_file_is_read_once_for_a_sweep(reads: Counter[str]) -> None:
    cells = sweep_cells(load_sweep("sampling_study"), collect_environment())
    assert len(cells) > 50
    assert reads == {"sampling_study": 1, "quickstart": 1}
