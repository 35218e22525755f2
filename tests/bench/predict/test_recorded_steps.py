"""What real GPUs allocated in steps that are not ETAD's is what is predicted; recorded_steps.py has all of them."""

import pytest

from tests.bench.predict.recorded_steps import FOLDER, RECORDED, Recorded, predicted_peaks, real_peaks

ALLOCATED, RESERVED = 0.001, 0.01
FAST = (RECORDED[0], RECORDED[4])
"""A training step in fp32 and inference in bf16."""


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the recorded histories are not here")
@pytest.mark.parametrize("step", FAST, ids=lambda step: step.history)
def test_a_recorded_step_is_predicted(step: Recorded) -> None:
    real, predicted = real_peaks(step), predicted_peaks(step)
    assert predicted.allocated == pytest.approx(real.allocated, rel=ALLOCATED)
    assert predicted.reserved == pytest.approx(real.reserved, rel=RESERVED)
