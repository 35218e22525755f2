"""The picture of durations: a row a class, and a refusal where there is nothing to draw."""

from pathlib import Path

import pytest

from bench.report.plots.durations import plot_durations
from etad.data.annotation_statistics import ClassStatistics, Statistics
from etad.errors import ConfigError


def one(label: str, *durations_s: float) -> ClassStatistics:
    return ClassStatistics(label, 1, len(durations_s), {"training": len(durations_s)}, durations_s)


def test_every_class_has_a_row(tmp_path: Path) -> None:
    target = tmp_path / "durations.svg"
    plot_durations(Statistics((one("run", 1.0, 2.0), one("$odd_", 3.0)), one("all", 1.0, 2.0, 3.0), ()), target)
    assert target.read_text().startswith("<?xml")


def test_without_a_length_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no action has a length"):
        plot_durations(Statistics((one("run"),), one("all"), ()), tmp_path / "a.png")
