"""Published figures: complete, marked, and refused when they make no sense."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.cli import main
from bench.published.figures import (
    DATASETS,
    Cost,
    Figure,
    describe_cost,
    find_reproducible,
    load_published,
)
from bench.report.terminal.published import format_figures
from bench.torch_internals.fake_mode import fake_mode
from etad.config import load_config
from etad.errors import ConfigError


def averages(method: str, dataset: str) -> set[float | None]:
    return {
        figure.average_map_percent
        for figure in load_published()
        if figure.method.startswith(method) and figure.dataset == dataset
    }


def test_etads_own_figures_are_there() -> None:
    assert averages("ETAD", "activitynet") == {37.80, 38.73, 38.25, 37.78, 37.73, 38.76}
    assert averages("ETAD", "thumos") == {55.56}
    best = next(figure for figure in load_published() if figure.average_map_percent == 38.73)
    assert dict(zip(best.tiou, best.map_percent, strict=True)) == {0.5: 56.22, 0.75: 39.93, 0.95: 10.23}
    assert best.cost is not None
    assert best.cost.training_h == 18


def test_figures_of_others_are_there() -> None:
    assert {39.86, 41.85, 42.90} <= averages("AdaTAD", "activitynet")
    assert {35.10, 34.10, 34.14, 33.42} == averages("E2E-TAD", "activitynet")
    assert {59.1, 59.2, 59.4} == averages("TALLFormer", "thumos")
    assert {77.07, 74.65} <= averages("AdaTAD", "thumos")
    assert averages("DyFADet", "hacs") == {39.45, 39.2, 44.3}


def encoder_tflop(width: int, depth: int, heads: int, hidden: int, patch: int, size: int) -> float:
    """Count the VideoMAE encoder of AdaTAD for its 768 frames, 48 clips of 16, one block of it for all."""
    with fake_mode():
        embed = nn.Conv3d(3, width, (2, patch, patch), (2, patch, patch))
        qkv, out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        up, down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        with torch.no_grad(), FlopCounterMode(display=False) as embedding:
            tokens = embed(torch.empty(1, 3, 16, size, size)).flatten(2).transpose(1, 2)
        length = tokens.shape[1]
        with torch.no_grad(), FlopCounterMode(display=False) as block:
            query, key, value = qkv(tokens).view(1, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            mixed = (query @ key.transpose(-1, -2)).softmax(-1) @ value
            down(up(out(mixed.transpose(1, 2).reshape(1, length, width))))
    return 48 * (embedding.get_total_flops() + depth * block.get_total_flops()) / 1e12


BASE, LARGE, GIANT = (768, 12, 12, 3072, 16), (1024, 24, 16, 4096, 16), (1408, 40, 16, 6144, 14)


@pytest.mark.parametrize(
    ("input_", "network", "size"),
    [("VideoMAE-B", BASE, 160), ("VideoMAE-L", LARGE, 160), ("VideoMAE-L", LARGE, 224), ("VideoMAEv2-g", GIANT, 160)],
)
def test_the_arithmetic_of_a_row_is_that_of_the_network_and_size_it_names(
    input_: str, network: tuple[int, int, int, int, int], size: int
) -> None:
    stated = {
        figure.cost.compute_tflop
        for figure in load_published()
        if figure.method == "AdaTAD" and figure.input.startswith(input_) and figure.cost and figure.cost.compute_tflop
    }
    counted = encoder_tflop(*network, size)
    # What AdaTAD adds to the encoder, adapters and its head, is 3 to 5 % more.
    assert any(1.03 < (tflop or 0) / counted < 1.05 for tflop in stated), (stated, counted)


def test_every_figure_has_a_source_and_a_mark() -> None:
    figures = load_published()
    assert len(figures) > 150
    assert {figure.dataset for figure in figures} == {*DATASETS, None}
    assert {mark for figure in figures for mark in figure.marks} == {"READ", "READ-ABS", "READ-3P", "USERLOG", "2ND"}
    for figure in figures:
        assert figure.kind == "published"
        assert len(figure.source) > 4
        if figure.map_percent and figure.average_map_percent is not None:
            # The average lies between the loosest and the strictest threshold.
            assert min(figure.map_percent) < figure.average_map_percent < max(figure.map_percent)


def test_configs_find_the_figure_that_they_repeat() -> None:
    expected = {"anet_e2e": 38.73, "anet_features": 37.80, "thumos_features": 55.56}
    for config, average in expected.items():
        figure = find_reproducible(config)
        assert figure is not None
        assert figure.average_map_percent == average
        assert figure.reproduction is not None
        assert str(load_config(config).postprocess.class_scores) == figure.reproduction.classifier_file
    assert find_reproducible("quickstart") is None
    assert {figure.reproduction.config for figure in load_published() if figure.reproduction} == set(expected)
    with pytest.raises(ConfigError, match="2 name the config anet_e2e"):
        find_reproducible("anet_e2e", load_published() * 2)


def test_one_dataset_best_first() -> None:
    figures = load_published("thumos")
    assert {figure.dataset for figure in figures} == {"thumos"}
    values = [figure.average_map_percent or 0.0 for figure in figures]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not valid YAML"),
        ("- 1", "must hold a mapping, not list"),
        ("figures: []\nfigure: []", r"figure: unknown key; did you mean figures\?"),
        ("figures: [3]", "figures.0: must be a mapping, not 3"),
        ("defaults: 3\nfigures: []", "defaults: must be a mapping, not 3"),
        ("figures: [{method: X}]", r"figure 1 \(X\): input: is missing"),
        ("figures: [{method: X, input: y, end_to_end: true, source: z, marks: [SEEN], dataset: hacs}]", "marks.0"),
        ("figures: [{method: X, input: y, end_to_end: true, source: z, marks: [], dataset: hacs}]", "marks"),
        ("figures: [{method: X, input: y, end_to_end: true, source: z, marks: [READ]}]", "neither an accuracy nor"),
        (
            "figures: [{method: X, input: y, end_to_end: true, source: z, marks: [READ], average_map_percent: 3}]",
            "needs a dataset",
        ),
        (
            "figures: [{method: X, input: y, end_to_end: true, source: z, marks: [READ], cost: {memory_gb: 3}}]",
            "memory_gb needs memory_meaning",
        ),
        (
            "figures: [{method: X, input: y, end_to_end: true, source: z, marks: [READ], dataset: hacs,"
            " tiou: [0.5, 0.75], map_percent: [3]}]",
            "1 values of map_percent for 2 of tiou",
        ),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_published(folder=tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "x.yaml"))
    assert "\n" not in str(caught.value)


def test_an_empty_folder_has_no_figures(tmp_path: Path) -> None:
    assert load_published(folder=tmp_path) == []
    assert format_figures([], "table").startswith("Published figures")


def test_a_cost_is_one_line() -> None:
    assert describe_cost(None) == ""
    cost = Cost(gpu="V100", gpus=2, memory_gb=1.3, memory_meaning="per video", training_h=18, statement="slow")
    assert describe_cost(cost) == "2 x V100; 1.3 GB per video; 18 h of training; slow"


def test_markdown_and_csv_escape() -> None:
    figure = Figure(
        method="A | B",
        dataset="hacs",
        input='x, "y"',
        end_to_end=None,
        average_map_percent=1,
        source="z",
        marks=("READ",),
    )
    assert "A \\| B" in format_figures([figure], "md")
    row = next(csv.DictReader(io.StringIO(format_figures([figure], "csv"))))
    assert row["input"] == 'x, "y"'
    assert row["kind"] == "published"


@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_the_command(form: str, tmp_path: Path) -> None:
    arguments = ["published", "--dataset", "activitynet", "--format", form]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert "published" in result.output.lower()
    assert "38.73" in result.output
    assert "AFSD/anet" in result.output
    written = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "out")])
    assert written.exit_code == 0
    assert (tmp_path / "out").read_text() == result.output
    if form == "json":
        assert {entry["dataset"] for entry in json.loads(result.output)} == {"activitynet"}


def test_an_unknown_dataset_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["published", "--dataset", "kinetics"]).exit_code == 2
