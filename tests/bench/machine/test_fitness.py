"""The doctor: what it finds on a machine with a given fault, and that it finds nothing on a fit one."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from bench.cli import main
from bench.machine.environment import Environment, collect_environment
from bench.machine.fitness import Activity, Busy, diagnose, watch

QUIET = Activity(busy=(), stolen=0.0, swapped_bytes=0, clock_mhz=3000.0, clock_max_mhz=3000.0, noise=0.01)


@pytest.fixture(scope="module")
def fit() -> Environment:
    """This machine as it would be if nothing were wrong with it, without a GPU."""
    tree = collect_environment().model_dump(mode="json")
    tree["cpu"] |= {"affinity": [0, 1], "quota_cores": None, "governor": "performance", "logical_cores": 2}
    tree["memory"] |= {"total_bytes": 100, "available_bytes": 90}
    tree["torch"] |= {
        "threads": 2,
        "cuda_available": False,
        "matmul_fp32_precision": "ieee",
        "cudnn_fp32_precision": "ieee",
        "cudnn_benchmark": True,
        "cudnn_deterministic": False,
        "deterministic_algorithms": False,
    }
    tree["variables"] = dict.fromkeys(tree["variables"])
    tree["gpus"] = {"found": [], "reason": "NVML lists no GPU"}
    return Environment.model_validate(tree)


def changed(environment: Environment, section: str, **facts: Any) -> Environment:
    tree = environment.model_dump(mode="json")
    tree[section] |= facts
    return Environment.model_validate(tree)


def test_a_fit_machine_has_no_findings(fit: Environment) -> None:
    assert diagnose(fit, QUIET) == []


@pytest.mark.parametrize(
    ("section", "facts", "severity", "words"),
    [
        ("cpu", {"governor": "powersave"}, "advice", "governor is powersave"),
        ("cpu", {"quota_cores": 1.5}, "advice", "1.5 cores of 2"),
        ("memory", {"available_bytes": 5}, "unfit", "only 5% of the host memory"),
        ("torch", {"threads": 4}, "unfit", "4 threads for 2 usable cores"),
        ("torch", {"threads": 1}, "note", "1 of 2 usable cores"),
        ("torch", {"cuda_available": True, "cudnn_fp32_precision": "tf32"}, "note", "cuDNN: tf32"),
        ("torch", {"cuda_available": True, "deterministic_algorithms": True}, "note", "deterministic"),
        ("torch", {"cuda_available": True, "cudnn_benchmark": False}, "note", "by rule"),
        ("variables", {"CUDA_LAUNCH_BLOCKING": "1"}, "unfit", "CUDA_LAUNCH_BLOCKING"),
        ("variables", {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, "note", "expandable_segments"),
    ],
)
def test_what_is_wrong_with_the_host_is_found(
    fit: Environment, section: str, facts: dict[str, Any], severity: str, words: str
) -> None:
    findings = diagnose(changed(fit, section, **facts), QUIET)
    assert [finding.severity for finding in findings if words in finding.what] == [severity]
    assert all(finding.mend for finding in findings)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"busy": (Busy(7, "ffmpeg", 1.5),)}, "process 7 (ffmpeg) keeps 1.5 cores busy"),
        ({"stolen": 0.2}, "withheld 20%"),
        ({"noise": 0.3}, "spread by 30%"),
        ({"swapped_bytes": 2**20}, "1 MiB of memory are swapped"),
        ({"clock_mhz": 1000.0}, "1000 of 3000 MHz"),
    ],
)
def test_what_disturbs_while_it_watches_is_found(fit: Environment, facts: dict[str, Any], words: str) -> None:
    (finding,) = diagnose(fit, Activity(**{**vars(QUIET), **facts}))
    assert words in finding.what


def test_an_idle_gpu_is_fit(fit: Environment, driver: Any) -> None:
    driver.nvmlDeviceGetComputeRunningProcesses.return_value = []
    assert [finding.what for finding in diagnose(with_gpu(fit), QUIET)] == []


@pytest.mark.parametrize(
    ("question", "answer", "words"),
    [
        ("nvmlDeviceGetCurrentClocksEventReasons", 0x4 | 0x40, "held back: hw_thermal_slowdown, sw_power_cap"),
        ("nvmlDeviceGetTemperature", 90, "90 °C"),
        ("nvmlDeviceGetMigMode", [1, 1], "divided (MIG)"),
        ("nvmlDeviceGetPersistenceMode", 0, "persistence mode is off"),
    ],
)
def test_what_is_wrong_with_a_gpu_is_found(
    fit: Environment, driver: Any, question: str, answer: Any, words: str
) -> None:
    driver.nvmlDeviceGetComputeRunningProcesses.return_value = []
    getattr(driver, question).return_value = answer
    assert any(words in finding.what for finding in diagnose(with_gpu(fit), QUIET))


def test_other_processes_and_low_clocks_of_a_busy_gpu(fit: Environment, driver: Any) -> None:
    driver.nvmlDeviceGetCurrentClocksEventReasons.return_value = 0
    driver.nvmlDeviceGetClockInfo.return_value = 1000
    found = [finding.what for finding in diagnose(with_gpu(fit), QUIET)]
    assert "GPU 0 (NVIDIA H100 80GB HBM3): 1 other processes compute on it" in found
    assert "GPU 0 (NVIDIA H100 80GB HBM3) runs at 1000 of 1980 MHz" in found


def test_a_gpu_that_torch_cannot_use(fit: Environment, driver: Any) -> None:
    environment = changed(with_gpu(fit), "torch", cuda_available=False)
    assert any("cannot use" in finding.what for finding in diagnose(environment, QUIET))


def with_gpu(environment: Environment) -> Environment:
    """Add the GPUs that NVML lists now, and a torch that can use them."""
    gpus = collect_environment().model_dump(mode="json")["gpus"]
    return changed(changed(environment, "torch", cuda_available=True), "gpus", **gpus)


def test_watching_measures_something() -> None:
    seen = watch(0.05)
    assert seen.noise >= 0
    assert list(seen.busy) == sorted(seen.busy, key=lambda one: -one.cores)


def test_command(monkeypatch: pytest.MonkeyPatch) -> None:
    loud = Activity(**{**vars(QUIET), "noise": 0.5})
    monkeypatch.setattr("bench.cli.doctor.watch", lambda: loud)
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 0
    assert any("50%" in finding["what"] for finding in json.loads(result.stdout))
    assert "mislead" in result.stderr
    clean = CliRunner().invoke(main, ["doctor", "--require-clean"])
    assert clean.exit_code == 6
    assert "unfit   the time of a fixed computation spread by 50%" in clean.stdout
