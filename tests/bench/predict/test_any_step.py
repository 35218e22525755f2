"""Steps that are not ETAD's allocate what is predicted: torch's own CUDA code runs, over a stand-in for CUDA."""

from typing import Any

import pytest

from bench.predict.device_rules import cuda
from tests.bench.predict.any_step import executed, predicted
from tests.bench.predict.jobs import JOBS
from tests.stand_in.stand_in import compile_stand_in, why_not

ALLOCATED, RESERVED = 0.001, 0.001
"""What a prediction may be off."""
SMALL_STATES = {"LSTM": 0.005}
"""The states of a single layer are left out, which shows where there is nothing else."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    library = compile_stand_in(tmp_path_factory.mktemp("stand_in"))
    return executed("tests.bench.predict.jobs:JOBS", list(JOBS), library)


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.parametrize("name", JOBS)
def test_torch_allocates_for_a_gpu_what_was_predicted(name: str, done: dict[str, dict[str, Any]]) -> None:
    peaks = predicted(JOBS[name], cuda())
    assert peaks.allocated == pytest.approx(tuple(done[name]["allocated"]), rel=SMALL_STATES.get(name, ALLOCATED))
    assert peaks.reserved == pytest.approx(tuple(done[name]["reserved"]), rel=RESERVED)
