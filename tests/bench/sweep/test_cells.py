"""Sweep files and their cells: what a file says, what it may not say, and which cells come of it."""

import re
from pathlib import Path

import pytest

from bench.machine.environment import Environment, collect_environment
from bench.machine.nvml import GpuState
from bench.machine.process_memory import ProcessMemory
from bench.machine.processes import run_here
from bench.measure.memory_cuda import CudaMemory
from bench.predict.allocator import Usage
from bench.predict.memory import StepMemory
from bench.predict.step_costs import Counts
from bench.suites.suite import SUITES
from bench.sweep.cells import SweepCell, shard, sweep_cells
from bench.sweep.file import find_sweep, load_sweep
from etad.errors import ConfigError, NothingToDoError, UserError
from etad.resources import resource_folder
from tests.bench.small_traces import small, traced
from tests.etad.small_runs import write_small_set
from tests.paths import ROOT

SHIPPED = sorted(path.stem for path in (resource_folder("configs") / "sweeps").glob("*.yaml"))


@pytest.fixture(scope="module")
def environment() -> Environment:
    return collect_environment()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_set(tmp_path_factory.mktemp("set"))


def cells_of(folder: Path, text: str, environment: Environment, *assignments: str) -> list[SweepCell]:
    path = folder / "some.yaml"
    path.write_text(text)
    return sweep_cells(load_sweep(path), environment, assignments)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sweeps_have_cells(name: str, environment: Environment) -> None:
    cells = sweep_cells(load_sweep(name), environment)
    assert len({cell.cell_id for cell in cells}) == len(cells) > 1


def test_the_quickstart_script_runs_every_part_once() -> None:
    script = (ROOT / "quickstart.sh").read_text()
    assert re.findall(r"--part (\w+)", script) == list(load_sweep("quickstart").parts)


def test_a_grid_is_a_product_and_what_is_included_follows(tmp_path: Path, environment: Environment) -> None:
    text = """
config: quickstart
settings: {train.epochs: 3}
parts:
  few:
    suite: accuracy
    settings: {train.batch: 4}
    grid: {ratio: [0.0, 0.5], step.snippet_sampler: [random, block]}
    include: [{ratio: 1.0}]
    exclude: [{ratio: 0.0, step.snippet_sampler: [block, uniform]}]
"""
    cells = cells_of(tmp_path, text, environment, "train.batch=8")
    chosen = [(cell.cell.config.step.snippet_ratio, cell.cell.config.step.snippet_sampler) for cell in cells]
    assert chosen == [(0.0, "random"), (0.5, "random"), (0.5, "block"), (1.0, "random")]
    assert {(cell.cell.config.train.epochs, cell.cell.config.train.batch) for cell in cells} == {(3, 8)}
    assert cells[1].label == "few: ratio 0.5, snippet_sampler random"
    assert cells[1].cell.command == (
        "etad-bench accuracy --config quickstart --device auto --set train.epochs=3 --set train.batch=4"
        " --set train.batch=8 --set step.snippet_ratio=0.5 --set step.snippet_sampler=random"
    )


def test_seeds_count_up_from_the_experiments_own_or_are_listed(tmp_path: Path, environment: Environment) -> None:
    text = "{config: quickstart, seeds: 2, parts: {a: {suite: accuracy}, b: {suite: accuracy, seeds: [7]}}}"
    cells = cells_of(tmp_path, text, environment)
    assert [cell.cell.config.train.seed for cell in cells] == [2023, 2024, 7]
    assert [cell.chosen for cell in cells] == [
        {"a": {"train.seed": 2023}},
        {"a": {"train.seed": 2024}},
        {"b": {"train.seed": 7}},
    ]


def test_what_two_parts_ask_for_runs_once(tmp_path: Path, environment: Environment) -> None:
    text = """
config: quickstart
parts:
  a: {suite: accuracy, grid: {ratio: [0.3, 0.5]}}
  b: {suite: accuracy, grid: {proposal-ratio: [0.25, 0.5]}}
"""
    cells = cells_of(tmp_path, text, environment)
    assert len(cells) == 3
    assert cells[0].chosen == {"a": {"ratio": 0.3}, "b": {"proposal-ratio": 0.25}}
    assert cells[0].part == "a"


def test_options_of_the_suite_are_axes_too(tmp_path: Path, environment: Environment) -> None:
    text = """
config: quickstart
parts: {a: {suite: memory, options: {what: infer}, grid: {hardware: [null, h100_sxm_80g]}}}
"""
    free, named = cells_of(tmp_path, text, environment)
    assert (free.asked.kind, free.asked.measurement["hardware"]) == ("predicted", None)
    assert named.asked.device.startswith("nvidia-h100")
    assert named.cell.task == "infer"
    assert "--hardware h100_sxm_80g --inference" in named.cell.command


def test_words_that_are_no_yaml_stay_words(tmp_path: Path, environment: Environment) -> None:
    (tmp_path / "x.yaml").write_text(
        "{config: quickstart, settings: {data.pattern: '{id', name: '1'}, parts: {a: {suite: memory}}}"
    )
    (cell,) = sweep_cells(load_sweep(tmp_path / "x.yaml"), environment)
    assert (cell.cell.config.data.pattern, cell.cell.config.name) == ("{id", "1")


def test_a_child_changes_adds_and_removes_parts(tmp_path: Path, environment: Environment) -> None:
    (tmp_path / "parent.yaml").write_text(
        "{name: old, config: quickstart, workers: 2, parts: {a: {suite: accuracy}, b: {suite: accuracy, seeds: [1]}}}"
    )
    child = "{extends: parent.yaml, parts: {a: null, b: {seeds: [2]}, c: {suite: memory, workers: 1}}}"
    cells = cells_of(tmp_path, child, environment)
    assert [(cell.part, cell.workers) for cell in cells] == [("b", 2), ("c", 1)]
    assert cells[0].cell.config.train.seed == 2
    assert load_sweep(tmp_path / "some.yaml").name == "some"


def test_what_has_no_effect_is_told(tmp_path: Path, environment: Environment) -> None:
    text = "{config: anet_features, parts: {a: {suite: accuracy, grid: {step.snippet_ratio: [0.1]}}}}"
    (cell,) = cells_of(tmp_path, text, environment)
    assert cell.cell.warnings == ("--ratio has no effect: the input of anet_features is features, no encoder runs",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{config: quickstart, part: {}}", "part: unknown key; did you mean parts?"),
        (
            "{config: quickstart, parts: {a: {suite: memory, gird: {}}}}",
            "parts.a.gird: unknown key; did you mean grid?",
        ),
        ("{parts: {}}", "config: is missing"),
        ("{config: quickstart, parts: {a: {suite: memory, grid: {ratio: []}}}}", "parts.a.grid.ratio: is empty"),
        ("{config: quickstart, parts: {a: {suite: memory, grid: [1]}}}", "parts.a.grid: "),
        ("{config: quickstart, parts: {a: 5}}", "parts.a: must be a mapping, or null, not 5"),
        (
            "{config: quickstart, seeds: 0, parts: {a: {suite: memory}}}",
            "seeds: must be a whole number of 1 or more, or a list of whole numbers with at least one entry, not 0",
        ),
        (
            "{config: quickstart, seeds: x, parts: {}}",
            "seeds: must be a whole number of 1 or more, or a list of whole numbers with at least one entry, not 'x'",
        ),
        ("{config: quickstart, parts: {a: {suite: speed}}}", "speed is no suite; choose one of memory"),
        (
            "{config: quickstart, parts: {a: {suite: memory, grid: {ration: [1]}}}}",
            "ration is no axis; did you mean ratio",
        ),
        ("{config: quickstart, parts: {a: {suite: memory, grid: {step.ratio: [1]}}}}", "step.ratio: unknown key"),
        (
            "{config: quickstart, parts: {a: {suite: memory, grid: {ratio: [2]}}}}",
            "parts.a: quickstart: step.snippet_ratio",
        ),
        ("{config: quickstart, parts: {a: {suite: memory, options: {devise: cpu}}}}", "did you mean device?"),
        ("{config: quickstart, parts: {a: {suite: memory, options: {device: tpu}}}}", "some: parts.a: device: "),
        (
            "{config: quickstart, parts: {a: {suite: memory, options: {device: cpu, hardware: t4_16g}}}}",
            "parts.a: hardware: goes with device: predict, not with cpu",
        ),
        ("{config: quickstart, parts: {a: {suite: memory, grid: {hardware: [h101]}}}}", "no such hardware profile"),
        ("{config: nothing, parts: {a: {suite: memory}}}", "nothing: no such config"),
        (
            "{config: quickstart, parts: {a: {suite: memory, grid: {ratio: [0.1]}, exclude: [{rat: 0.1}]}}}",
            "parts.a.exclude: rat is no axis of this part; did you mean ratio?",
        ),
        ("[1]", "must hold a mapping"),
    ],
)
def test_mistakes_are_named(text: str, message: str, tmp_path: Path, environment: Environment) -> None:
    with pytest.raises(ConfigError) as caught:
        cells_of(tmp_path, text, environment)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_left_is_said(tmp_path: Path, environment: Environment) -> None:
    excluded = "{config: quickstart, parts: {a: {suite: memory, grid: {ratio: [0.1]}, exclude: [{ratio: 0.1}]}}}"
    for text in (excluded, "{config: quickstart, parts: {}}"):
        with pytest.raises(NothingToDoError, match="no cell is left"):
            cells_of(tmp_path, text, environment)


def test_names_that_are_not_there(environment: Environment) -> None:
    with pytest.raises(ConfigError, match="did you mean quickstart"):
        find_sweep("quickstrat")
    with pytest.raises(ConfigError, match="--part gpu: quickstart has no such part; did you mean gpus"):
        sweep_cells(load_sweep("quickstart"), environment, parts=["gpu"])


def test_shards_part_the_cells(environment: Environment) -> None:
    cells = sweep_cells(load_sweep("quickstart"), environment, parts=["memory", "accuracy"])
    shards = [shard(cells, f"{number}/4") for number in range(1, 5)]
    assert sorted(cell.cell_id for part in shards for cell in part) == sorted(cell.cell_id for cell in cells)
    for text in ("0/4", "5/4", "1", "a/b", "1/0", "-1/4"):
        with pytest.raises(ConfigError, match="write it as"):
            shard(cells, text)
    with pytest.raises(NothingToDoError, match="this shard is empty"):
        shard(cells, "99/99")


@pytest.mark.parametrize(
    ("suite", "options"),
    [
        ("memory", "{hardware: rtx_3060_laptop_6g}"),
        ("memory", "{device: cpu}"),
        ("throughput", "{device: cpu, min_time_s: 0.001, rounds: 1}"),
        ("accuracy", "{device: cpu}"),
    ],
)
def test_a_suite_answers_what_was_asked(
    suite: str, options: str, config: Path, tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tracing and counting take seconds, and have tests of their own.
    trace = traced(small())
    monkeypatch.setattr("bench.suites.memory_predicted.trace_for_cuda", lambda *_, **__: trace)
    monkeypatch.setattr("bench.measure.memory_cpu.refuse_what_does_not_fit", lambda *_: None)
    monkeypatch.setattr("bench.suites.throughput.count_cell", lambda *_: Counts(None, None, "a test"))
    text = f"{{config: {config}, settings: {{train.epochs: 1}}, parts: {{a: {{suite: {suite}, options: {options}}}}}}}"
    (cell,) = cells_of(tmp_path, text, environment)
    SUITES[suite].check(cell.cell.config, cell.options)
    [record] = SUITES[suite].run([cell.cell], cell.options, tmp_path / "run", run_here)
    assert (record.cell_id, record.device, record.kind) == (cell.cell_id, cell.asked.device, cell.asked.kind)
    assert record.succeeded
    assert record.command == cell.cell.command


def test_predictions_are_scored_in_a_sweep_without_the_features(
    config: Path, tmp_path: Path, environment: Environment
) -> None:
    (tmp_path / "found.json").write_text('{"results": {}}')
    text = (
        f"{{config: {config}, parts: {{a: {{suite: accuracy, options: {{predictions: {tmp_path / 'found.json'}}}}}}}}}"
    )
    (cell,) = cells_of(tmp_path, text, environment, "data.folder=nowhere")
    SUITES["accuracy"].check(cell.cell.config, cell.options)
    assert cell.asked.measurement["predictions"] == "found.json"
    assert f"--predictions {tmp_path / 'found.json'}" in cell.cell.command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{predictions: nowhere.json}", "nowhere.json: no such file"),
        ("{from_checkpoint: nowhere.pt}", "nowhere.pt: no such file"),
        ("{predictions: a.json, from_checkpoint: b.pt}", "give one of them"),
    ],
)
def test_a_sweep_that_begins_where_nothing_is_is_refused(
    options: str, message: str, tmp_path: Path, environment: Environment
) -> None:
    text = f"{{config: quickstart, parts: {{a: {{suite: accuracy, options: {options}}}}}}}"
    with pytest.raises(UserError, match=message):
        cells_of(tmp_path, text, environment)


def test_a_gpu_is_asked_and_answered_for(
    tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "{config: quickstart, parts: {a: {suite: memory, options: {device: cuda}}}}"
    gpu = GpuState.model_construct(name="NVIDIA H100 80GB HBM3")
    with_gpu = environment.model_copy(update={"gpus": environment.gpus.model_copy(update={"found": (gpu,)})})
    (cell,) = cells_of(tmp_path, text, with_gpu)
    peak = StepMemory({}, Usage(1, 2, 3, 4, 1))
    found = CudaMemory(
        gpu="NVIDIA H100 80GB HBM3",
        parameter_bytes=1,
        static=Usage(0, 0, 0, 0, 0),
        steps=(peak, peak),
        settled=True,
        retries=0,
        out_of_memory_errors=0,
        process=ProcessMemory(None, "NVML is not there", None, None),
        reserved_bytes=4,
        host_rss_peak_bytes=1,
        out_of_memory=None,
        marks=None,
    )
    monkeypatch.setattr("bench.suites.memory_on_gpu.measure_cell", lambda *_: found)
    [record] = SUITES["memory"].run([cell.cell], cell.options, tmp_path, run_here)
    assert (record.cell_id, record.device, record.kind) == (cell.cell_id, cell.asked.device, cell.asked.kind)
    assert cell.options.wants_gpu


def test_missing_data_is_found_before_anything_runs(tmp_path: Path, environment: Environment) -> None:
    text = "{config: quickstart, settings: {data.root: nowhere}, parts: {a: {suite: accuracy}}}"
    (cell,) = cells_of(tmp_path, text, environment)
    with pytest.raises(Exception, match="nowhere"):
        SUITES["accuracy"].check(cell.cell.config, cell.options)
