"""The largest batch of a step that fits a GPU."""

from bench.predict.fit import Target
from bench.predict.step import Step, StepPrediction, predict

MOST = 1 << 20
"""A batch that is never exceeded: a step whose memory does not depend on it would fit with any."""


def largest_batch(step: Step, target: Target, reserve_bytes: int = 0) -> StepPrediction | None:
    """Return the prediction at the largest batch that is sure to fit, found by doubling and halving.

    Args:
        step: has an argument for the batch.
        target: the GPU.
        reserve_bytes: memory that is to stay free.

    Returns:
        None: not even a batch of 1 is sure to fit.

    Raises:
        ConfigError: the step has no argument for the batch, or cannot be predicted.
    """

    def fitting(batch: int) -> StepPrediction | None:
        found = predict(step.with_batch(batch), target)
        return found if found.fits(reserve_bytes=reserve_bytes).verdict == "yes" else None

    best, fits, fails = None, 0, 1
    while fails <= MOST and (found := fitting(fails)) is not None:
        best, fits, fails = found, fails, 2 * fails
    while fails <= MOST and fails - fits > 1:
        middle = (fits + fails) // 2
        if (found := fitting(middle)) is None:
            fails = middle
        else:
            best, fits = found, middle
    return best
