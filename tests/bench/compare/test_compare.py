"""``etad-bench compare``: what counts as a change, which cells belong together, and how it ends."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bench.cli import main
from bench.compare.compare import compare_records
from bench.compare.pairing import NotComparableError
from bench.compare.thresholds import Gate, load_gates
from bench.compare.verdicts import compare_metric
from bench.records.record import Failure, Finding, Metric, Record
from bench.records.store import ResultStore
from bench.timing_statistics import mann_whitney, shift
from etad.config import load_config
from etad.errors import ConfigError
from tests.bench.records.test_record import make_record

TIME = Gate(better="lower", minimum_effect=0.1, significance=0.01)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *(str(argument) for argument in arguments)])


def noise(seed: int, count: int = 20, centre: float = 0.5) -> list[float]:
    """Times as this project's machine gives them: a floor, scatter of some percent, and now and then a delay."""
    random = np.random.default_rng(seed)
    scatter = random.lognormal(0, 0.04, count)
    delays = np.where(random.random(count) < 0.1, random.exponential(0.3, count), 0)
    samples: list[float] = (centre * (scatter + delays)).tolist()
    return samples


def timed(samples: Sequence[float]) -> Metric:
    return Metric(value=float(np.median(samples)), unit="s", samples=tuple(samples))


def verdict(base: Metric | None, head: Metric | None, gate: Gate = TIME) -> str | None:
    found = compare_metric("cell", "step_s", base, head, gate)
    return None if found is None else found.verdict


def exact(value: int, **changes: Any) -> Metric:
    return Metric(value=value, unit="bytes", exact=True, **changes)


# One metric ---------------------------------------------------------------------------------------------------------


def test_the_same_code_is_unchanged_in_19_of_20_repeats() -> None:
    verdicts = [verdict(timed(noise(2 * seed)), timed(noise(2 * seed + 1))) for seed in range(100)]
    assert verdicts.count("unchanged") >= 95
    assert not {"regressed", "improved"} & set(verdicts)


@pytest.mark.parametrize("factor", [1.3, 2.0])
def test_a_slowdown_is_found_however_noisy(factor: float) -> None:
    for seed in range(20):
        base, head = timed(noise(2 * seed)), timed(noise(2 * seed + 1, centre=0.5 * factor))
        assert verdict(base, head) == "regressed"
        assert verdict(head, base) == "improved"


def test_a_significant_change_below_the_threshold_is_none() -> None:
    base, head = (timed([centre + 0.001 * number for number in range(20)]) for centre in (1.0, 1.03))
    found = compare_metric("cell", "step_s", base, head, TIME)
    assert found is not None
    assert found.verdict == "unchanged"
    assert found.p is not None
    assert found.p < 0.01
    assert found.ratio == pytest.approx(1.03, abs=0.002)
    assert (found.base_count, found.head_count, found.way) == (20, 20, "samples")


def test_too_few_or_too_wild_samples_are_inconclusive() -> None:
    assert verdict(timed([1.0, 1.1, 1.2]), timed([2.0, 2.1, 2.2])) == "inconclusive"
    assert verdict(timed([1.0, 3.0] * 5), timed([1.0, 3.0] * 5)) == "inconclusive"
    assert verdict(Metric(value=1.0, unit="s"), Metric(value=2.0, unit="s")) == "inconclusive"


def test_rates_are_better_when_higher() -> None:
    higher = Gate(better="higher", minimum_effect=0.1)
    assert verdict(timed(noise(0)), timed(noise(1, centre=1.0)), higher) == "improved"


def test_intervals_stand_in_for_samples() -> None:
    def known(value: float, scatter: float) -> Metric:
        return Metric(value=value, unit="1/s", low=value - scatter, high=value + scatter)

    higher = Gate(better="higher", minimum_effect=0.1)
    assert verdict(known(10, 0.1), known(8, 0.1), higher) == "regressed"
    assert verdict(known(10, 0.1), known(10.2, 0.1), higher) == "unchanged"
    assert verdict(known(10, 3), known(8, 3), higher) == "inconclusive"


def test_exact_metrics_differ_by_a_byte() -> None:
    memory = Gate(better="lower", minimum_effect=0.5, significance=None)
    assert verdict(exact(10**9), exact(10**9), memory) == "unchanged"
    assert verdict(exact(10**9), exact(10**9 + 512), memory) == "regressed"
    assert verdict(exact(10**9), exact(10**9 - 512), memory) == "improved"
    assert verdict(exact(5, low=5, high=9), exact(5, low=5, high=10), memory) == "regressed"
    assert verdict(exact(5), exact(6), Gate()) == "inconclusive"


def test_repeating_values_need_the_minimum_effect_only() -> None:
    memory = Gate(better="lower", minimum_effect=0.01, significance=None)
    assert verdict(Metric(value=1000, unit="bytes"), Metric(value=1005, unit="bytes"), memory) == "unchanged"
    assert verdict(Metric(value=1000, unit="bytes"), Metric(value=1020, unit="bytes"), memory) == "regressed"


def test_unknown_values_and_units() -> None:
    unknown = Metric(value=None, unit="s", reason="no clock")
    assert verdict(timed([1.0]), unknown) == verdict(timed([1.0]), None) == "missing"
    assert verdict(unknown, timed([1.0])) == verdict(None, timed([1.0])) == "new"
    assert verdict(unknown, unknown) is None
    assert verdict(timed([1.0]), Metric(value=1.0, unit="ms")) == "incomparable"


def test_a_base_of_zero_has_no_ratio() -> None:
    found = compare_metric("cell", "x", exact(0), exact(5), Gate(better="lower"))
    assert found is not None
    assert (found.verdict, found.ratio) == ("regressed", None)


# Records ------------------------------------------------------------------------------------------------------------


def record(seconds: Sequence[float] | None = None, ratio: float = 0.3, **changes: Any) -> Record:
    metrics = {"step_s": timed(noise(0) if seconds is None else seconds)}
    fields: dict[str, Any] = {
        "suite": "throughput",
        "config": {"name": "tiny", "step": {"snippet_ratio": ratio}},
        "measurement": {},
        "metrics": metrics,
        "phases": {},
    }
    return make_record(**(fields | changes))


def verdicts(base: Sequence[Record], head: Sequence[Record], **options: Any) -> dict[str, str]:
    compared = compare_records(base, head, load_gates(), **options)
    return {f"{c.cell}: {c.metric}": c.verdict for c in compared.comparisons}


def test_cells_pair_by_what_was_asked() -> None:
    base = [record(ratio=0.3), record(ratio=0.5)]
    head = [record(noise(1, centre=1.0), ratio=0.5), record(ratio=1.0)]
    assert verdicts(base, head) == {
        "throughput tiny snippet_ratio=0.5: step_s": "regressed",
        "throughput tiny snippet_ratio=0.3: record": "missing",
        "throughput tiny snippet_ratio=1.0: record": "new",
    }


def test_a_setting_that_is_newer_than_the_record_has_its_default() -> None:
    config = load_config("quickstart").resolved()
    older = {key: value for key, value in config.items() if key != "efficiency"}
    assert older != config
    assert verdicts([record(config=older)], [record(config=config)]) == {"throughput quickstart: step_s": "unchanged"}


def test_the_same_record_is_unchanged_whatever_it_holds() -> None:
    single = record(metrics={"train_s": Metric(value=3.0, unit="s")})
    assert verdicts([single], [single]) == {"throughput tiny: train_s": "unchanged"}


def test_phases_are_judged_too() -> None:
    base = record(phases={"encode": {"time_s": timed(noise(3))}})
    head = record(phases={"encode": {"time_s": timed(noise(4, centre=1.0))}})
    assert verdicts([base], [head])["throughput tiny: encode: time_s"] == "regressed"


def test_two_devices_do_not_compare_unless_asked() -> None:
    base, head = [record(device="nvidia-l4")], [record(device="nvidia-h100")]
    compared = compare_records(base, head, load_gates())
    assert [c.verdict for c in compared.comparisons] == ["incomparable"]
    assert "BASE is of nvidia-l4, HEAD of nvidia-h100" in compared.comparisons[0].reason
    assert compared.exit_code() == 4
    assert list(verdicts(base, head, across_devices=True).values()) == ["unchanged"]
    mixed = [*base, *head]
    assert set(verdicts(mixed, mixed).values()) == {"unchanged"}
    with pytest.raises(NotComparableError, match="two records for one cell"):
        compare_records(mixed, head, load_gates(), across_devices=True)


def test_a_cpu_with_other_threads_is_another_device() -> None:
    base, head = (
        record(device="cpu-x", environment={"torch": {"threads": threads}}, duration_s=threads) for threads in (1, 2)
    )
    compared = compare_records([base], [head], load_gates())
    assert compared.count() == {"incomparable": 1}
    assert "threads: 1 -> 2 (1 cell)" in compared.notes
    assert compare_records([base], [head], load_gates(), across_devices=True).count() == {"unchanged": 1}


def test_seeds_are_samples_where_they_are_ignored() -> None:
    def trained(seed: int, ratio: float, score: float) -> Record:
        config = {"name": "tiny", "train": {"seed": seed}, "step": {"snippet_ratio": ratio}}
        return record(config=config, metrics={"average_mAP": Metric(value=score, unit="1")})

    base = [trained(seed, 0.3, 0.90 + 0.001 * seed) for seed in range(5)]
    head = [trained(seed, 1.0, 0.80 + 0.001 * seed) for seed in range(5)]
    assert verdicts(base, head, ignored=["train.seed", "step"]) == {"throughput tiny: average_mAP": "regressed"}
    with pytest.raises(NotComparableError, match=r"differ in train\.seed, step\.snippet_ratio"):
        compare_records(base[:1], head[1:2], load_gates())


def test_a_failure_is_a_regression() -> None:
    failed = record(status="oom", failure=Failure(message="does not fit"), metrics={})
    compared = compare_records([record()], [failed], load_gates())
    assert compared.count() == {"regressed": 1}
    assert compared.comparisons[0].reason == "ok -> oom: does not fit"
    assert compare_records([failed], [record()], load_gates()).count() == {"improved": 1}
    assert compare_records([failed], [failed], load_gates()).count() == {"unchanged": 1}


@pytest.mark.parametrize(
    "finding", [Finding(verdict="throttled", why="sw_thermal_slowdown"), Finding(verdict="drifting", why="+9 %")]
)
def test_an_unsteady_measurement_regresses_nothing(finding: Finding) -> None:
    head = record(noise(1, centre=1.0), findings={"stability.step_s": finding})
    compared = compare_records([record()], [head], load_gates())
    assert compared.count() == {"inconclusive": 1}
    assert compared.comparisons[0].reason == f"HEAD was {finding}"
    assert (compared.exit_code(), compared.exit_code(strict=True)) == (0, 1)


def test_a_machine_that_itself_changed_regresses_nothing() -> None:
    def on(bandwidth: float, centre: float) -> Record:
        steps = tuple(noise(1, centre=centre))
        metrics = {
            "step_s": Metric(value=float(np.median(steps)), unit="s", samples=steps),
            "memory_bandwidth_bytes_per_s": Metric(value=bandwidth, unit="bytes/s"),
        }
        return record(metrics=metrics)

    moved = compare_records([on(45e9, 0.5)], [on(75e9, 0.7)], load_gates())
    assert moved.count() == {"inconclusive": 1}
    assert (
        moved.comparisons[0].reason == "the machine itself differed: its memory bandwidth was 1.67 times that of BASE"
    )
    assert compare_records([on(45e9, 0.5)], [on(47e9, 0.7)], load_gates()).count() == {"regressed": 1}
    assert compare_records([on(45e9, 0.5)], [on(75e9, 0.5)], load_gates()).count() == {"unchanged": 1}


# Thresholds ---------------------------------------------------------------------------------------------------------


def test_shipped_gates_know_the_directions() -> None:
    gates = load_gates()
    lower = ("step_s", "encode: time_s", "allocated_peak_bytes", "energy_per_video_j", "torch_counter_flops")
    higher = ("videos_per_s", "average_mAP", "mAP_at_tiou_0.5", "margin_bytes", "mfu_ratio", "achieved_flops_per_s")
    assert {gates.of(name).better for name in lower} == {"lower"}
    assert {gates.of(name).better for name in higher} == {"higher"}
    assert not gates.of("held.tensor.01_bytes").compare
    assert gates.of("something").better is None


def test_a_file_of_gates_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text('gates: {"step_s": {better: lower, minimum_effect: 3.0}}')
    gates = load_gates(path)
    assert gates.of("step_s").minimum_effect == 3.0
    assert gates.of("infer_s") == load_gates().of("infer_s")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gates: {step_s: {beter: lower}}", r"gates\.step_s\.beter: unknown key; did you mean better\?"),
        ("gates: {step_s: {significance: 2}}", "must be a number above 0 and below 1, or null, not 2"),
        ("gates: [", "line 1: not valid YAML"),
        ("", "is empty; it must hold a mapping"),
    ],
)
def test_damaged_gates_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_gates(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_gates(tmp_path / "nowhere.yaml")


# The command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """BASE, and HEAD: one cell slower and larger, one unchanged, one gone."""
    base, head = ResultStore(tmp_path / "base"), ResultStore(tmp_path / "head")
    for ratio in (0.3, 0.5, 1.0):
        base.write(record(ratio=ratio))
    slower = {"step_s": timed(noise(7, centre=1.0)), "videos_per_s": Metric(value=3.0, unit="1/s")}
    head.write(record(ratio=0.3, metrics=slower))
    head.write(record(noise(5), ratio=0.5))
    return base.root, head.root


def test_a_regression_ends_with_1(folders: tuple[Path, Path]) -> None:
    result = run(*folders)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["verdict", "regressed", "missing", "new", "1"]
    assert lines[-1] == "1 regressed, 1 missing, 1 new, 1 unchanged"
    assert "20/20" in lines[1]
    assert "snippet_ratio=0.3" in lines[1]
    assert run(folders[0], folders[0]).exit_code == 0
    assert "unchanged" in run(*folders, "--all").stdout.splitlines()[-2]


def test_strict_also_misses_cells(folders: tuple[Path, Path], tmp_path: Path) -> None:
    gates = tmp_path / "gates.yaml"
    gates.write_text('gates: {"step_s": {better: lower, minimum_effect: 9}}')
    assert run(*folders, "--gates", gates).exit_code == 0
    assert run(*folders, "--gates", gates, "--strict").exit_code == 1


def test_markdown_json_and_junit(folders: tuple[Path, Path], tmp_path: Path) -> None:
    markdown = run(*folders, "--format", "md", "--junit", tmp_path / "junit.xml").stdout
    assert markdown.startswith("**1 regressed, 1 missing, 1 new, 1 unchanged**\n\n| verdict | cell |")
    tree = json.loads(run(*folders, "--format", "json").stdout)
    assert tree["count"] == {"regressed": 1, "unchanged": 1, "new": 1, "missing": 1}
    worst = tree["comparisons"][0]
    assert worst["verdict"] == "regressed"
    assert worst["low"] < worst["ratio"] < worst["high"]
    assert worst["margin"] == pytest.approx(0.1)

    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert {suite.get("failures") for suite in root} == {"0", "1"}
    (failure,) = root.iter("failure")
    assert "regressed" in str(failure.get("message"))
    assert len(list(root.iter("skipped"))) == 2
    run(*folders, "--strict", "--junit", tmp_path / "junit.xml")
    assert len(list(ElementTree.parse(tmp_path / "junit.xml").getroot().iter("failure"))) == 2


def test_files_compare_too(tmp_path: Path) -> None:
    paths = [ResultStore(tmp_path / name).write(record()) for name in ("a", "b")]
    assert run(*paths).exit_code == 0


def test_nothing_to_compare(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    base_missing = run(tmp_path / "empty", folders[1])
    assert base_missing.exit_code == 4
    assert "nothing to compare with" in base_missing.stderr
    assert run(folders[0], tmp_path / "empty").exit_code == 5


def test_damaged_and_doubled_records_are_one_line(folders: tuple[Path, Path]) -> None:
    base, head = folders
    path = next(head.rglob("*.json"))
    path.with_name("copy.json").write_bytes(path.read_bytes())
    doubled = run(base, head)
    assert doubled.exit_code == 2
    assert "is there 2 times" in doubled.stderr
    path.with_name("copy.json").write_text("{")
    damaged = run(base, head)
    assert damaged.exit_code == 2
    assert "not valid JSON, or cut off" in damaged.stderr
    assert damaged.stderr.count("\n") == 1


# The shift ----------------------------------------------------------------------------------------------------------


def test_the_shift_and_the_test_say_the_same() -> None:
    agreeing = 0
    for seed in range(100):
        base, head = noise(seed, 12), noise(1000 + seed, 15, centre=0.5 + 0.0002 * seed)
        found = shift(base, head)
        assert found.low <= found.estimate <= found.high
        agreeing += (found.low <= 0 <= found.high) == (mann_whitney(base, head) >= 0.05)
    # They round differently right at the border.
    assert agreeing >= 95
    assert shift([1.0, 2.0, 4.0], [3.0, 4.0, 6.0]) == (2.0, -1.0, 5.0)
    assert shift(np.ones(100_000), np.full(100_000, 3.0)) == (2.0, 2.0, 2.0)
