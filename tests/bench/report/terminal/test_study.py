"""The sampling study's axes, comparisons and picture, from made-up records."""

from pathlib import Path

import pytest

from bench.records.record import Metric, Record
from bench.report.plots.canvas import check_target
from bench.report.plots.scores import plot_over_ratio, plot_study
from bench.report.terminal.study import (
    AXES,
    PROPOSALS,
    SNIPPETS,
    along,
    comparisons,
    format_comparisons,
    study_frame,
)
from etad.errors import ConfigError

Setting = tuple[str, float, str, float]
"""Snippet sampler and ratio, proposal sampler and ratio."""

SCORES: dict[Setting, tuple[float, ...]] = {
    ("random", 0.3, "random", 0.25): (0.80, 0.82, 0.81),
    ("random", 1.0, "random", 0.25): (0.81, 0.79, 0.83),
    ("block", 0.3, "random", 0.25): (0.50, 0.52, 0.51),
    ("random", 0.3, "grid", 0.25): (0.90, 0.91, 0.92),
    ("random", 0.3, "grid", 0.06): (0.70,),
}


def records(name: str = "some", scores: dict[Setting, tuple[float, ...]] = SCORES) -> list[Record]:
    return [
        Record(
            status="ok",
            kind="measured",
            suite="accuracy",
            device="cpu",
            config={
                "name": name,
                "step": dict(
                    zip(
                        ("snippet_sampler", "snippet_ratio", "proposal_sampler", "proposal_ratio"), setting, strict=True
                    )
                ),
                "train": {"seed": seed},
            },
            measurement={},
            metrics={
                "average_mAP": Metric(value=score, unit="1"),
                "train_s": Metric(value=60.0, unit="s"),
            },
            environment={},
            command="etad-bench accuracy",
            started_at="2026-01-01T00:00:00Z",
            duration_s=1.0,
        )
        for setting, values in scores.items()
        for seed, score in enumerate(values)
    ]


def test_each_axis_keeps_to_the_usual_setting_of_the_other() -> None:
    frame = study_frame(records())
    snippets, proposals = (along(frame, axis, other) for axis, other in AXES)
    assert set(zip(snippets["snippet_sampler"], snippets["snippet_ratio"], strict=True)) == {
        ("random", 0.3),
        ("random", 1.0),
        ("block", 0.3),
    }
    assert set(proposals["proposal_sampler"]) == {"random", "grid"}
    assert set(proposals["snippet_ratio"]) == {0.3}


def test_experiments_are_not_mixed() -> None:
    other = records(
        "features", {("random", 0.3, "random", 0.25): (0.1, 0.1), ("random", 0.3, "block", 0.25): (0.2, 0.2)}
    )
    rows = along(study_frame([*records(), *other]), PROPOSALS, SNIPPETS)
    assert set(rows["name"]) == {"some"}


def test_ratios_are_compared_with_the_largest_and_samplers_with_random() -> None:
    rows = along(study_frame(records()), SNIPPETS, PROPOSALS)
    found = {one.setting: one for one in comparisons(rows, SNIPPETS)}
    assert {setting: one.against for setting, one in found.items()} == {
        "random 0.3": "random 1",
        "block 0.3": "random 0.3",
    }
    # By hand: means 0.51 and 0.81, both variances 1e-4, so the standard error is sqrt(2e-4 / 3), 4 degrees of freedom.
    block = found["block 0.3"]
    assert block.difference == pytest.approx(-30.0)
    assert block.high - block.difference == pytest.approx(100 * 2.776445 * (2e-4 / 3) ** 0.5)
    assert (block.verdict, found["random 0.3"].verdict) == ("lower", "not told apart")


def test_a_single_seed_is_not_compared_and_no_scatter_is_no_failure() -> None:
    lines = format_comparisons(records()).splitlines()
    assert not any("0.06" in line for line in lines)
    assert any("grid 0.25" in line and line.endswith("higher") for line in lines)
    same = {("random", 0.3, "random", 0.25): (0.5, 0.5), ("random", 1.0, "random", 0.25): (0.5, 0.5)}
    assert "+0.00..+0.00   not told apart" in format_comparisons(records(scores=same))
    assert format_comparisons([]) == ""
    assert format_comparisons(records(scores={("random", 0.3, "random", 0.25): (0.5, 0.6)})) == ""


def test_the_picture(tmp_path: Path) -> None:
    target = tmp_path / "study.svg"
    plot_study(records(), target)
    text = target.read_text()
    assert text.count("part of the") == 2
    with pytest.raises(ConfigError, match="no sampler or ratio was tried with several values"):
        plot_study([], target)
    assert target.read_text() == text
    with pytest.raises(ConfigError, match=r"study\.txt: name a file that ends in \.png"):
        check_target("--plot", tmp_path / "study.txt")
    plot_over_ratio(records()[:1], target)
    assert target.read_text().count("part of the") == 1
