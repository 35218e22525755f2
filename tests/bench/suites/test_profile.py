"""The profile of a step: a trace that opens, operators that add up, and the GPU's waiting time from its events."""

import gzip
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

from bench.cli import main
from bench.measure.profiling import MARK, STEP, kernel_idle, phase_times, step_windows
from bench.measure.ranges import PhaseRanges
from etad.phases import Phase
from tests.bench.small_traces import small


def event(category: str, name: str, ts: float, dur: float) -> dict[str, Any]:
    return {"cat": category, "name": name, "ts": ts, "dur": dur}


STEPS = [event("user_annotation", STEP, 100, 100), event("user_annotation", STEP, 300, 100)]


def test_overlapping_kernels_count_once() -> None:
    kernels = [
        event("kernel", "first", 100, 50),
        event("kernel", "inside the first, on another stream", 110, 10),
        event("gpu_memcpy", "overlaps its end", 140, 20),
        event("kernel", "begins before the second step", 290, 20),
        event("kernel", "ends after it", 390, 50),
        event("cpu_op", "not on the GPU", 200, 100),
    ]
    # 60 of the first step's 100 µs, and 10 + 10 of the second one's.
    assert kernel_idle([*STEPS, *kernels]) == pytest.approx(1 - 80 / 200)


def test_without_kernels_the_waiting_is_not_known() -> None:
    assert kernel_idle(STEPS) is None


def test_phases_are_averaged_over_steps() -> None:
    ranges = [event("user_annotation", f"{MARK}encode", 110 + start, 20 + start / 10) for start in (0, 200)]
    assert phase_times([*STEPS, *ranges], 2) == {"encode": pytest.approx(30e-6)}
    assert step_windows(STEPS) == [(pytest.approx(100e-6), pytest.approx(200e-6)), (300e-6, 400e-6)]


def test_phases_are_nvtx_ranges_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    @contextmanager
    def nvtx_range(name: str) -> Any:
        seen.append(f"begin {name}")
        yield
        seen.append("end")

    monkeypatch.setattr(torch.cuda.nvtx, "range", nvtx_range)
    ranges = PhaseRanges("x ", nvtx=True)
    ranges.begin(Phase.ENCODE)
    ranges.end(Phase.ENCODE)
    assert seen == ["begin x encode", "end"]


def test_command(tmp_path: Path) -> None:
    trace, config = tmp_path / "trace.json.gz", tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(small(snippets=8).resolved()))
    arguments = ["profile", "-c", str(config), "--steps", "1", "--trace", str(trace)]
    result = CliRunner().invoke(main, [*arguments, "--format", "json"])
    assert result.exit_code == 0, result.stderr
    (record,) = json.loads(result.stdout)
    assert set(record["phases"]) == set(Phase)
    assert "operator.aten::convolution_backward.self_time_s" in record["metrics"]
    assert record["metrics"]["kernel_idle_ratio"]["value"] is None
    names = {one.get("name") for one in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]}
    assert {STEP, f"{MARK}encode"} <= names
    assert "perfetto" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["--ratio", "0,1"], 2, "one setting at a time"),
        (["--trace", "trace.txt"], 2, "has to end in .json"),
        (["--nvtx"], 2, "needs a GPU"),
        (["--device", "cuda:9"], 6, "cuda:9"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], exit_code: int, words: str) -> None:
    result = CliRunner().invoke(main, ["profile", *arguments])
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
