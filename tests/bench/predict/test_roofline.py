"""What bounds a step, in situations whose answer is known, and the plot."""

from pathlib import Path

import pytest

from bench.machine.datasheets import load_profile
from bench.predict.roofline import Roof, least_times, roof_of_profile, what_bounds
from bench.report.plots.canvas import check_target
from bench.report.plots.roofline import plot_roofline
from etad.errors import ConfigError, NothingToDoError

ROOF = Roof(peak_flops_per_s=1e12, bandwidth_bytes_per_s=1e11, operator_s=1e-5, source="made up")
UNKNOWN = Roof(None, None, 1e-5, "no profile")


def test_of_two_measurements_the_undisturbed_one_counts() -> None:
    best = ROOF.best(Roof(2e12, None, 2e-5, "again"))
    assert best == Roof(2e12, 1e11, 1e-5, "made up")
    assert UNKNOWN.best(UNKNOWN) == UNKNOWN


def test_least_times() -> None:
    times = least_times(2 * 10**12, 10**11, 1000, ROOF)
    assert (times.compute_s, times.memory_s, times.launch_s) == (2.0, 1.0, pytest.approx(0.01))
    assert least_times(1, 1, 1, UNKNOWN).compute_s is None


@pytest.mark.parametrize(
    ("flops", "moved_bytes", "operators", "step_s", "more", "bound", "evidence"),
    [
        (8 * 10**11, 10**10, 100, 1.0, {}, "compute", "arithmetic at the peak would take 80%"),
        (10**11, 9 * 10**10, 100, 1.0, {}, "memory bandwidth", "moving all bytes at full bandwidth 90%"),
        (10**10, 10**9, 80_000, 1.0, {}, "launch overhead", "issuing operators takes 80%"),
        (2 * 10**11, 10**10, 100, 1.0, {}, "compute", "kernels below the device's peak"),
        (10**9, 10**8, 10, 1.0, {}, "host", "the host's own code"),
        (8 * 10**11, 10**10, 100, 1.0, {"data_wait_s": 0.5}, "data", "50% of the step is waiting"),
        (
            10**11,
            10**10,
            30_000,
            1.0,
            {"issued_s": 0.95},
            "launch overhead",
            "the host issues, 95%",
        ),
        (10**11, 10**10, 100, 1.0, {"issued_s": 0.95}, "host", "the GPU waits"),
        (8 * 10**11, 10**10, 100, 1.0, {"issued_s": 0.2}, "compute", "80%"),
    ],
)
def test_what_bounds_a_step(
    flops: int,
    moved_bytes: int,
    operators: int,
    step_s: float,
    more: dict[str, float],
    bound: str,
    evidence: str,
) -> None:
    found, why = what_bounds(step_s, least_times(flops, moved_bytes, operators, ROOF), **more)
    assert found == bound
    assert evidence in why


def test_an_unknown_device_is_not_taken_for_another() -> None:
    _, why = what_bounds(1.0, least_times(10**12, 10**11, 100, UNKNOWN))
    assert "not known" in why
    assert "arithmetic" not in why


def test_the_roof_of_a_profile() -> None:
    profile = load_profile("gtx_1080_ti_11g")
    roof = roof_of_profile(profile, "fp32")
    assert roof.peak_flops_per_s == profile.peak_fp32_flops_per_s
    assert "data sheet" in roof.source
    assert "no bf16 peak" in roof_of_profile(profile, "bf16").source


def test_a_plot_needs_a_file_that_can_be_drawn_and_something_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"roof\.txt: name a file that ends in \.png"):
        check_target("--roofline", tmp_path / "roof.txt")
    with pytest.raises(NothingToDoError, match="no record has counted"):
        plot_roofline([], tmp_path / "roof.png")
