"""The roofline model: how fast a device could be at best, and what of compute, memory and launches bounds a step.

A step of F floating-point operations that moves B bytes takes at least F / peak and at least B / bandwidth. Its
arithmetic intensity F / B tells which of the two is longer (Williams, Waterman and Patterson 2009). A third bound is
the host, which has to issue every operator.
"""

from dataclasses import dataclass
from typing import Literal

from bench.machine.datasheets import HardwareProfile, Precision

LAUNCH_S = 5e-6
"""What torch needs to issue one operator to a GPU, where it was not measured: about 5 us on current hosts."""
WAITS_FOR_HOST = 0.9
"""Of a step: if the host issues for so long, the GPU waits for it, and not the other way round."""
WAITS_FOR_DATA = 0.25
"""Of a step: waiting for data that long is what to mend first."""
UNEXPLAINED = 0.5
"""Of a step: where the largest bound explains less, the kernels are far from what the device can do."""
NOTHING = 0.05
"""Of a step: where no bound explains even that much, the time goes to the host's own code."""

FULL_RATE = 2.5
"""Half-precision peak over FP32 peak above which a board's tensor units do more than its power carries for long."""
SUSTAINED_SHARE = 0.8
"""Of the peak in TF32, BF16 or FP16, what large matrix products reach on such boards. Users measured in BF16
(database.md of zzc0721/torch-performance-test-data, GitHub): B200 0.75, A100 0.85, H100 and H200 0.80, L40S 0.74, RTX
PRO 6000 0.83, RTX A6000 0.80. Boards below :data:`FULL_RATE`, such as GeForce, reach their peak: RTX 3090 1.08, 4090
1.0, 5090 1.1."""

Bound = Literal["data", "memory bandwidth", "compute", "launch overhead", "host"]


@dataclass(frozen=True)
class Roof:
    """What a device can do at most.

    Attributes:
        peak_flops_per_s: of arithmetic at the step's precision; None: not known.
        bandwidth_bytes_per_s: of its memory; None: not known.
        operator_s: what the host needs to issue one operator.
        source: of the numbers, in words; or why they are not known.
    """

    peak_flops_per_s: float | None
    bandwidth_bytes_per_s: float | None
    operator_s: float
    source: str

    def best(self, other: "Roof") -> "Roof":
        """Return the roof of two measurements of one device: the higher rates, the faster host."""
        return Roof(
            _larger(self.peak_flops_per_s, other.peak_flops_per_s),
            _larger(self.bandwidth_bytes_per_s, other.bandwidth_bytes_per_s),
            min(self.operator_s, other.operator_s),
            self.source,
        )


def _larger(first: float | None, second: float | None) -> float | None:
    return max((value for value in (first, second) if value is not None), default=None)


def roof_of_profile(profile: HardwareProfile, precision: Precision, operator_s: float = LAUNCH_S) -> Roof:
    """Return the roof of a GPU from its data sheet."""
    peak = profile.peak_flops_per_s(precision)
    source = f"data sheet of {profile.name}, {precision}"
    if peak is None:
        source = profile.no_peak(precision)
    return Roof(peak, profile.memory_bandwidth_bytes_per_s, operator_s, source)


def sustained_share(profile: HardwareProfile, precision: Precision) -> float:
    """Return the part of the data sheet's peak that a GPU holds for long, at most 1."""
    half = profile.peak_fp16_flops_per_s
    full_rate = half is not None and half > FULL_RATE * profile.peak_fp32_flops_per_s
    return SUSTAINED_SHARE if full_rate and precision != "fp32" else 1.0


@dataclass(frozen=True)
class LeastTimes:
    """Times below which a step cannot be, in seconds; None where the roof is not known.

    ``memory_s`` comes from a bound on the bytes and so is no strict one itself: caches and fusion may undercut it.
    """

    compute_s: float | None
    memory_s: float | None
    launch_s: float


def least_times(flops: int, moved_bytes: int, operators: int, roof: Roof) -> LeastTimes:
    """Return what a step takes at least."""
    return LeastTimes(
        compute_s=None if roof.peak_flops_per_s is None else flops / roof.peak_flops_per_s,
        memory_s=None if roof.bandwidth_bytes_per_s is None else moved_bytes / roof.bandwidth_bytes_per_s,
        launch_s=operators * roof.operator_s,
    )


def what_bounds(
    step_s: float, least: LeastTimes, *, data_wait_s: float = 0.0, issued_s: float | None = None
) -> tuple[Bound, str]:
    """Return what bounds a step, and the evidence in words.

    Args:
        step_s: how long it took.
        least: the bounds.
        data_wait_s: how long it waited for its batch, part of ``step_s``.
        issued_s: how long the host took to issue it to a GPU; None on a CPU, which computes while it issues.
    """
    if data_wait_s > WAITS_FOR_DATA * step_s:
        return "data", f"{data_wait_s / step_s:.0%} of the step is waiting for the batch"
    shares: dict[Bound, float] = {"launch overhead": least.launch_s / step_s}
    if least.compute_s is not None:
        shares["compute"] = least.compute_s / step_s
    if least.memory_s is not None:
        shares["memory bandwidth"] = least.memory_s / step_s
    evidence = ", ".join(f"{_SHARE[name]} {min(share, 1.0):.0%}" for name, share in shares.items())
    if issued_s is not None and issued_s > WAITS_FOR_HOST * step_s:
        why = f"the GPU waits while the host issues, {issued_s / step_s:.0%} of the step"
        bound: Bound = "launch overhead" if shares["launch overhead"] > 1 - WAITS_FOR_HOST else "host"
        return bound, f"{why}; {evidence}"
    bound = max(shares, key=lambda name: shares[name])
    if len(shares) < 3:
        evidence += "; peak and bandwidth of this device are not known"
    elif shares[bound] < NOTHING:
        return "host", f"of the step, {evidence}; the rest is the host's own code"
    elif shares[bound] < UNEXPLAINED:
        evidence += "; the rest is kernels below the device's peak"
    return bound, f"of the step, {evidence}"


_SHARE: dict[Bound, str] = {
    "compute": "arithmetic at the peak would take",
    "memory bandwidth": "moving all bytes at full bandwidth",
    "launch overhead": "issuing operators takes",
}
