"""Hardware profiles: each is complete and sourced; bad files and absent GPUs are told in one line."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch
import yaml
from click.testing import CliRunner

from bench.cli import main
from bench.machine import gpu_probe as probe
from bench.machine import speeds
from bench.machine.datasheets import (
    NUMBERS,
    PRECISIONS,
    HardwareProfile,
    Measured,
    dump_profile,
    list_profiles,
    load_profile,
    match_profile,
    read_profile,
)
from bench.machine.gpu_probe import Gpu, complete_profile, context_overhead_bytes
from bench.machine.nvml import memory_of_process
from bench.machine.speeds import best_rate, copy_bytes_per_s, matmul_flops_per_s
from bench.predict.fit import Target
from etad.errors import ConfigError, DeviceError

MIB = 2**20
FP32_CORES = {"7.0": 64, "7.5": 64, "8.0": 64, "cdna2": 64, "cdna3": 64, "cdna4": 64}
"""FP32 units of a multiprocessor where they are not 128 (CUDA programming guide; CDNA white papers)."""


def names() -> list[str]:
    return [profile.name for profile in list_profiles()]


def test_there_are_enough_from_laptop_to_datacenter() -> None:
    profiles = list_profiles()
    assert len(profiles) >= 39 + 40
    assert {profile.form for profile in profiles} == {"laptop", "desktop", "datacenter", "integrated"}
    assert {profile.vendor for profile in profiles} == {"nvidia", "amd", "intel", "apple"}
    assert {"rtx_3060_laptop_6g", "h100_sxm_80g", "h200_sxm_141g", "b200_180g"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_every_number_has_a_source_or_a_reason(name: str) -> None:
    profile = load_profile(name)
    for field in NUMBERS:
        words = (profile.sources if getattr(profile, field) is not None else profile.unknown)[field]
        assert len(words) > 10, f"{field}: {words!r} names no source"
    assert profile.note
    assert profile.device_names


@pytest.mark.parametrize("name", names())
def test_numbers_are_plausible(name: str) -> None:
    profile = load_profile(name)
    assert 4e9 < profile.memory_bytes < 600e9
    assert 0.85 * profile.memory_bytes < profile.available_memory_bytes <= profile.memory_bytes
    assert 1e11 < profile.memory_bandwidth_bytes_per_s < 1e13
    # Dense peaks rise with narrower numbers.
    known = [peak for peak in map(profile.peak_flops_per_s, PRECISIONS) if peak is not None]
    assert known == sorted(known)
    if profile.compute_capability is not None and profile.form != "integrated":
        major = int(profile.compute_capability.split(".")[0])
        assert (profile.peak_bf16_flops_per_s is not None) == (major >= 8)


@pytest.mark.parametrize("name", names())
def test_the_numbers_agree_with_each_other(name: str) -> None:
    profile = load_profile(name)
    assert profile.boost_clock_hz is not None
    cores = FP32_CORES.get(profile.compute_capability or profile.architecture, 128)
    counted = 2 * cores * profile.multiprocessors * profile.boost_clock_hz
    assert profile.peak_fp32_flops_per_s == pytest.approx(counted, rel=0.015)
    if None in (profile.compute_capability, profile.peak_tf32_flops_per_s, profile.peak_bf16_flops_per_s):
        return
    # Half of the rate in TF32 (the brief of the B200 rounds), the same in both half precisions.
    assert profile.peak_bf16_flops_per_s == pytest.approx(2 * profile.peak_tf32_flops_per_s, rel=0.03)
    assert profile.peak_fp16_flops_per_s == profile.peak_bf16_flops_per_s
    # NVIDIA's boards do one, two or four times FP32 in TF32; chips with HBM about eight times, exports less.
    ratio = profile.peak_tf32_flops_per_s / profile.peak_fp32_flops_per_s
    if "GeForce" in profile.marketing_name:
        assert ratio == pytest.approx(1, rel=0.01)
    elif profile.compute_capability in ("8.6", "8.9", "12.0"):
        assert ratio in (pytest.approx(1, rel=0.12), pytest.approx(2, rel=0.02))
    else:
        assert 1.8 < ratio < 16


def test_a_gpu_without_cuda_is_refused_by_memory_and_plan_in_one_line() -> None:
    for command in (["memory", "-c", "quickstart"], ["plan", "-c", "quickstart"]):
        result = CliRunner().invoke(main, [*command, "--hardware", "mi300x_192g"])
        assert result.exit_code == 2
        assert "this GPU of AMD does not run CUDA; its profile is for forecasts of time" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_memory_that_the_host_shares_is_not_promised() -> None:
    target = Target.of_profile(load_profile("jetson_orin_nano_super_8g"))
    assert target.shared
    assert not Target.of_profile(load_profile("rtx_4060_8g")).shared


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean rtx_3060_laptop_6g"):
        load_profile("RTX 3060 laptop")
    with pytest.raises(ConfigError, match="etad-bench profiles lists them"):
        load_profile("zzz")


def test_a_present_gpu_is_matched_by_name_and_size() -> None:
    def name(device: str, mib: int) -> str | None:
        profile = match_profile(device, mib * MIB)
        return profile and profile.name

    assert name("NVIDIA H100 80GB HBM3", 81559) == "h100_sxm_80g"
    assert name("NVIDIA H200", 143771) == "h200_sxm_141g"
    assert name("NVIDIA A100-SXM4-40GB", 40960) == "a100_sxm_40g"
    assert name("Tesla T4", 15360) == "t4_16g"
    assert name("NVIDIA GeForce RTX 3080 Laptop GPU", 16384) == "rtx_3080_laptop_16g"
    assert name("NVIDIA GeForce RTX 3080 Laptop GPU", 8192) == "rtx_3080_laptop_8g"
    assert name("NVIDIA GeForce RTX 5060 Ti", 16311) == "rtx_5060_ti_16g"
    assert name("NVIDIA GeForce RTX 3080 Laptop GPU", 12288) is None
    assert name("NVIDIA GeForce GT 710", 2048) is None


def tree() -> dict[str, Any]:
    return load_profile("rtx_3060_laptop_6g").model_dump(mode="json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory_byte": 1}, "memory_byte: unknown key; did you mean memory_bytes"),
        ({"memory_bytes": 0}, "memory_bytes: must be a whole number above 0, not 0"),
        ({"power_w": "much"}, "power_w"),
        ({"sources": {}}, "compute_capability needs a source"),
        ({"peak_fp16_flops_per_s": None}, "peak_fp16_flops_per_s is null, so it needs a reason"),
        ({"unknown": {"power_w": "?"}}, "needs a reason"),
        ({"name": "other"}, "its name is other"),
        ({"compute_capability": 8.6}, "compute_capability"),
    ],
)
def test_a_bad_profile_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "rtx_3060_laptop_6g.yaml"
    path.write_text(yaml.safe_dump(tree() | change))
    with pytest.raises(ConfigError, match=message) as caught:
        load_profile(str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("[", "not valid YAML"), ("- 1", "must hold a mapping"), ("", "mapping")]
)
def test_a_file_that_is_no_profile(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_profile(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_profile(tmp_path / "nowhere.yaml")


def test_contradiction_is_found(tmp_path: Path) -> None:
    whole = tree()
    whole["unknown"]["power_w"] = "secret"
    path = tmp_path / "rtx_3060_laptop_6g.yaml"
    path.write_text(yaml.safe_dump(whole))
    with pytest.raises(ConfigError, match="power_w has a value"):
        read_profile(path)
    whole = tree()
    whole["sources"]["colour"] = "a data sheet"
    path.write_text(yaml.safe_dump(whole))
    with pytest.raises(ConfigError, match="not colour"):
        read_profile(path)


def test_a_dumped_profile_reads_back_and_wins_over_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = load_profile("t4_16g").model_copy(update={"power_w": 60.0})
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "t4_16g.yaml").write_text(dump_profile(changed))
    monkeypatch.chdir(tmp_path)
    assert load_profile("t4_16g") == changed


# Measuring. The kernels run on the CPU here: the functions are the same, only the numbers differ.

MEASURED = Measured(
    on="2026-01-02",
    driver="580.65",
    torch="2.15.0",
    memory_bandwidth_bytes_per_s=1e12,
    matmul_fp32_flops_per_s=1e13,
    matmul_tf32_flops_per_s=None,
    matmul_bf16_flops_per_s=2e13,
    matmul_fp16_flops_per_s=2e13,
    context_method="NVML per process",
)


def gpu(**changes: Any) -> Gpu:
    fields: dict[str, Any] = {
        "device": torch.device("cuda", 0),
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": "GPU-1234",
        "compute_capability": "9.0",
        "multiprocessors": 132,
        "memory_bytes": 81559 * MIB,
        "power_w": 700.0,
        "driver": "580.65",
        "alone": True,
    }
    return Gpu(**(fields | changes))


def test_measuring_completes_a_known_profile() -> None:
    profile = complete_profile(gpu(), MEASURED, 500 * MIB)
    known = load_profile("h100_sxm_80g")
    assert profile.name == "h100_sxm_80g"
    assert profile.peak_bf16_flops_per_s == known.peak_bf16_flops_per_s
    assert profile.context_overhead_bytes == 500 * MIB
    assert profile.available_memory_bytes == 81559 * MIB
    assert "2026-01-02" in profile.sources["context_overhead_bytes"]
    assert profile.measured == MEASURED


def test_measuring_an_unknown_gpu_makes_a_profile_of_it() -> None:
    profile = complete_profile(
        gpu(name="NVIDIA GeForce RTX 9999 Laptop GPU", memory_bytes=12 * 1024 * MIB), MEASURED, 1
    )
    assert profile.name == "rtx_9999_laptop_12g"
    assert profile.form == "laptop"
    assert profile.peak_bf16_flops_per_s == 2e13
    assert profile.peak_tf32_flops_per_s is None
    assert "refused" in profile.unknown["peak_tf32_flops_per_s"]
    assert HardwareProfile.model_validate(yaml.safe_load(dump_profile(profile))) == profile


def test_an_overhead_that_cannot_be_read_stays_null() -> None:
    hidden = MEASURED.model_copy(update={"context_method": "NVML does not list this process"})
    profile = complete_profile(gpu(), hidden, None)
    assert profile.context_overhead_bytes is None
    assert profile.unknown["context_overhead_bytes"] == "NVML does not list this process"


def test_an_unknown_gpu_without_a_power_limit_is_told() -> None:
    with pytest.raises(DeviceError, match="power limit"):
        complete_profile(gpu(name="NVIDIA Mystery", power_w=None), MEASURED, None)


def test_kernels_give_rates() -> None:
    cpu = torch.device("cpu")
    assert copy_bytes_per_s(cpu, 2**20) > 1e7
    assert matmul_flops_per_s(cpu, torch.float32, 64) > 1e6


def test_the_best_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = iter([0.1, 0.4, 0.2, 0.5, 0.3, 0.4])
    monkeypatch.setattr(speeds, "_time_s", lambda work, repeats, device: next(durations))
    assert best_rate(lambda: None, 10.0, torch.device("cpu")) == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ('noise\n{"overhead": 5, "method": "NVML per process"}\n', (5, "NVML per process")),
        ('{"overhead": null, "method": "hidden"}', (None, "hidden")),
        ("", (None, "the empty-context process gave no answer")),
        (subprocess.TimeoutExpired("x", 1), (None, "the empty-context process did not end within 120 s")),
        (
            subprocess.CalledProcessError(1, "x", stderr="Traceback\nRuntimeError: no CUDA"),
            (None, "the empty-context process failed: RuntimeError: no CUDA"),
        ),
    ],
)
def test_context_overhead_is_read_from_a_child(
    monkeypatch: pytest.MonkeyPatch, outcome: Any, expected: tuple[int | None, str]
) -> None:
    def run(*_: Any, **__: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return SimpleNamespace(stdout=outcome)

    monkeypatch.setattr("bench.machine.gpu_probe.subprocess.run", run)
    assert context_overhead_bytes(gpu()) == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
def test_the_child_fails_in_one_line_without_cuda() -> None:
    overhead, reason = context_overhead_bytes(gpu())
    assert overhead is None
    assert reason.startswith("the empty-context process failed: ")


def test_process_memory_by_nvml(driver: Any) -> None:
    def listed(*processes: tuple[int, int | None]) -> None:
        driver.nvmlDeviceGetComputeRunningProcesses.return_value = [
            SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in processes
        ]

    listed((1, 10), (7, 20))
    assert memory_of_process(7, "GPU-1234") == (20, "NVML per process")
    listed((7, None))
    assert memory_of_process(7, "GPU-1234")[0] is None
    listed((1, 10))
    assert memory_of_process(7, "GPU-1234") == (None, "NVML does not list this process (a container hides its number)")
    driver.nvmlDeviceGetHandleByUUID.side_effect = pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)
    assert memory_of_process(7, "GPU-1234") == (None, "NVML: Insufficient Permissions")


# The command.


def test_profiles_are_listed() -> None:
    table = CliRunner().invoke(main, ["profiles"])
    assert table.exit_code == 0
    assert all(name in table.output for name in names())
    listed = json.loads(CliRunner().invoke(main, ["profiles", "--format", "json"]).output)
    assert [entry["name"] for entry in listed] == names()


def test_one_broken_profile_is_named_and_the_others_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.yaml").write_text("name: [")
    monkeypatch.chdir(tmp_path)
    for arguments in (["profiles"], ["profiles", "--format", "json"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0
        assert "mi300x_192g" in result.stdout
        assert result.stderr.strip().splitlines() == [
            "etad-bench: left out: profiles/mine.yaml, line 1: not valid YAML (expected the node content, "
            "but found '<stream end>')"
        ]
    # A present GPU is still found.
    assert match_profile("Tesla T4", 15360 * MIB) is not None


def test_one_profile_is_printed_with_its_sources() -> None:
    text = CliRunner().invoke(main, ["profiles", "a100_sxm_40g"]).output
    assert "42949672960  [NVIDIA A100 Tensor Core GPU datasheet" in text
    assert "null  (not measured by us" in text
    entry = json.loads(CliRunner().invoke(main, ["profiles", "a100_sxm_40g", "--format", "json"]).output)
    assert entry["multiprocessors"] == 108


def test_an_unknown_profile_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["profiles", "a100"])
    assert result.exit_code == 2
    assert "did you mean" in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
def test_measuring_without_a_gpu_is_exit_code_6() -> None:
    result = CliRunner().invoke(main, ["profiles", "measure"])
    assert result.exit_code == 6
    assert result.output.count("\n") == 1
    assert "no CUDA device" in result.output


def test_measure_writes_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(probe, "measure_profile", lambda: complete_profile(gpu(), MEASURED, 500 * MIB))
    first = CliRunner().invoke(main, ["profiles", "measure"])
    assert first.exit_code == 0
    assert "matmul_fp32_flops_per_s" in first.output
    assert load_profile("h100_sxm_80g").context_overhead_bytes == 500 * MIB
    again = CliRunner().invoke(main, ["profiles", "measure"])
    assert again.exit_code == 2
    assert "--force" in again.output
    assert CliRunner().invoke(main, ["profiles", "measure", "--force"]).exit_code == 0
