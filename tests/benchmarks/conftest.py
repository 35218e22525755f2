"""What all benchmarks share: one thread, and the certainty that they ran.

``etad-bench gate`` runs this folder against other revisions of the project, so it uses nothing of tests/ besides.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import etad


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads wait for each other, and for whatever else the machine does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def really_ran(benchmark: Any) -> Iterator[None]:
    """Fail where pytest-benchmark only called the function once, as it silently does under xdist."""
    yield
    assert benchmark.stats is not None, "pytest-benchmark measured nothing: xdist (-n) or an option switched it off"
    assert benchmark.stats.stats.rounds >= 3


def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """Say which checkout was measured."""
    output_json["etad_folder"] = str(Path(etad.__file__).resolve().parent)
