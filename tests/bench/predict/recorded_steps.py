"""Steps recorded on a GPU below compute capability 9 with torch 2.11, and what is predicted of them.

``python -m tests.bench.predict.recorded_steps`` prints the table (half a minute). The recordings lie beside the
checkout, as do those of the allocator.
"""

from typing import NamedTuple

from bench.predict.allocator import CachingAllocator, falling_addresses
from bench.predict.device_rules import cuda
from bench.predict.recorded import of_release, read_trace, replay_recorded
from bench.units import MIB
from tests.bench.predict.any_step import STEPS, trace_job
from tests.bench.predict.language_model import job
from tests.paths import SHARED

FOLDER = SHARED / "gpu_measured" / "allocator"
RELEASE = (2, 11)


class Recorded(NamedTuple):
    """A step of the language model.

    Attributes:
        history: name of its recording.
        tokens: of each sequence.
        train: a training step, or one of inference.
        half: whether autocast to bf16 was on.
    """

    history: str
    tokens: int
    train: bool
    half: bool


RECORDED = (
    Recorded("e044acae", 128, train=True, half=False),
    Recorded("ee96dc9c", 256, train=True, half=False),
    Recorded("7c07531f", 1024, train=True, half=True),
    Recorded("d7141bc7", 128, train=False, half=False),
    Recorded("b21e0b73", 512, train=False, half=True),
    Recorded("d9d6910f", 1024, train=False, half=False),
)


class Peaks(NamedTuple):
    """Bytes."""

    allocated: int
    reserved: int


def real_peaks(step: Recorded) -> Peaks:
    """Return what the GPU allocated and reserved."""
    recorded = read_trace(FOLDER / f"{step.history}.json.gz")
    replayed = replay_recorded(recorded.events, of_release("2.11.0"), recorded.start)
    assert replayed.difference is None
    return Peaks(replayed.peak.allocated_bytes, replayed.peak.reserved_bytes)


def predicted_peaks(step: Recorded) -> Peaks:
    """Return what is predicted of a later step."""
    trace = trace_job(job(step.tokens, step.train, step.half), cuda((8, 0), RELEASE))
    allocator = CachingAllocator(of_release("2.11.0"), falling_addresses())
    allocator.replay(trace.setup)
    for _, parts in zip(range(STEPS), trace.steps(), strict=False):
        allocator.reset_peak()
        for part in parts:
            allocator.replay(part.events)
    return Peaks(allocator.peak.allocated_bytes, allocator.peak.reserved_bytes)


def main() -> None:
    """Print real and predicted peaks."""
    for step in RECORDED:
        real, predicted = real_peaks(step), predicted_peaks(step)
        both = (
            f"{r / MIB:10.2f} {p / MIB:10.2f} {100 * (p / r - 1):+.4f} %" for r, p in zip(real, predicted, strict=True)
        )
        print(
            f"{'train' if step.train else 'infer'} {step.tokens:5} {'bf16' if step.half else 'fp32'}", *both, sep="   "
        )


if __name__ == "__main__":
    main()
