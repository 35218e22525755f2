"""Whether a predicted experiment fits a GPU, and with what margin."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from bench.machine.datasheets import CONTEXT_ALLOWANCE_BYTES, HardwareProfile
from bench.machine.environment import slug
from bench.predict.device_rules import DEFAULT_CAPABILITY
from bench.predict.memory import Interval, MemoryPrediction, OutOfMemory, predict_from_trace
from bench.predict.recorder import Trace
from bench.units import GIB, MIB
from etad.errors import ConfigError

HOST_SHARE = 0.5
"""Of memory that the host shares: a margin below it is called uncertain. It is caution, not a measurement."""


@dataclass(frozen=True)
class Target:
    """The GPU to fit.

    Attributes:
        name: of the profile, or the size that was asked for.
        device: slug of the folder that its records lie in.
        memory_bytes: what there is for a process.
        context_bytes: what the CUDA context takes of it; None: not known.
        context_unknown: why it is not known; empty if it is.
        compute_capability: decides how much workspace cuBLAS gets.
        profile: None for a mere size.
        shared: whether the host's programs use the same memory.
    """

    name: str
    device: str
    memory_bytes: int
    context_bytes: int | None
    context_unknown: str
    compute_capability: tuple[int, int]
    profile: HardwareProfile | None = None
    shared: bool = False

    @classmethod
    def of_profile(cls, profile: HardwareProfile) -> Self:
        """Return the GPU of a profile.

        Raises:
            ConfigError: it does not run CUDA.
        """
        if profile.no_memory_prediction is not None:
            raise ConfigError(profile.no_memory_prediction)
        assert profile.compute_capability is not None
        major, minor = profile.compute_capability.split(".")
        return cls(
            name=profile.name,
            device=slug(profile.device_names[0]),
            memory_bytes=profile.available_memory_bytes,
            context_bytes=profile.context_overhead_bytes,
            context_unknown=profile.unknown.get("context_overhead_bytes", ""),
            compute_capability=(int(major), int(minor)),
            profile=profile,
            shared=profile.form == "integrated",
        )

    @classmethod
    def of_size(cls, memory_bytes: int) -> Self:
        """Return a GPU of which only the memory is known; the rest is that of an A100."""
        name = f"{memory_bytes / GIB:g}GiB"
        return cls(name, f"gpu-{slug(name)}", memory_bytes, None, "only a size was given, no GPU", DEFAULT_CAPABILITY)


@dataclass(frozen=True)
class Fit:
    """The verdict.

    Attributes:
        verdict: "uncertain" where it hangs on something that is not known.
        reason: what that is, or why it does not fit; empty for "yes".
        margin: memory left when most is reserved; negative where it lacks. The interval is that of the prediction; None
            where a prediction within that memory did not come to its end.
        out_of_memory: where the step died; None where it fits, or clearly does not.
    """

    verdict: Literal["yes", "no", "uncertain"]
    reason: str
    margin: Interval | None
    out_of_memory: OutOfMemory | None = None


def judge_fit(free: MemoryPrediction, target: Target, trace: Trace) -> Fit:
    """Say whether an experiment fits.

    Args:
        free: its prediction with as much memory as it wants.
        target: the GPU.
        trace: what ``free`` was predicted from, with the rules of the target's compute capability; predicted once more,
            within the target's memory, if ``free`` does not decide: a full GPU empties its cache before it gives up.
    """
    reserved, needed = free.reserved, free.low.steady
    assert reserved is not None
    assert needed is not None
    capacity = target.memory_bytes - (target.context_bytes or 0)
    margin = Interval(capacity - reserved.high_bytes, capacity - reserved.low_bytes)
    if margin.low_bytes >= 0:
        return _with_context(margin, target)
    if needed.peak.requested_bytes > capacity:
        needed_mib, mib = needed.peak.requested_bytes / MIB, capacity / MIB
        return Fit("no", f"it needs {needed_mib:.1f} MiB at the peak, and there are {mib:.1f} MiB", margin)
    within = predict_within(trace, target)
    fit = judge_within(within, target)
    return fit if fit.verdict == "yes" else replace(fit, margin=margin)


def predict_within(trace: Trace, target: Target) -> MemoryPrediction:
    """Predict an experiment with the memory that the target has."""
    return predict_from_trace(trace, memory_bytes=target.memory_bytes, context_bytes=target.context_bytes)


def judge_within(prediction: MemoryPrediction, target: Target) -> Fit:
    """Say whether an experiment fits, from a prediction with the memory that the target has."""
    capacity = target.memory_bytes - (target.context_bytes or 0)
    if prediction.low.out_of_memory is not None:
        return Fit("no", _shortage(prediction.low.out_of_memory), None, prediction.low.out_of_memory)
    if prediction.reserved is None:
        scratch = "scratch of cuDNN, whose size is not known, decides"
        return Fit("uncertain", scratch, None, prediction.high.out_of_memory)
    reserved = prediction.reserved
    return _with_context(Interval(capacity - reserved.high_bytes, capacity - reserved.low_bytes), target)


def _with_context(margin: Interval, target: Target) -> Fit:
    if target.shared and margin.low_bytes < target.memory_bytes * HOST_SHARE:
        left = f"{margin.low_bytes / MIB:.0f} MiB are left for the host, which shares this memory"
        return Fit("uncertain", left, margin)
    if target.context_bytes is None and margin.low_bytes < CONTEXT_ALLOWANCE_BYTES:
        left = f"{margin.low_bytes / MIB:.0f} MiB are left for the CUDA context, whose size is not known"
        return Fit("uncertain", left, margin)
    return Fit("yes", "", margin)


def _shortage(found: OutOfMemory) -> str:
    size, reserved = found.size_bytes / MIB, found.reserved_bytes / MIB
    return f"step {found.step + 1} asks for {size:.1f} MiB in {found.phase} when {reserved:.1f} MiB are reserved"
