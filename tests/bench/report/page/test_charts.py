"""Charts: axes with round ticks, labels that stay apart, shapes that tell the kind, and text that is escaped."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.records.record import Kind
from bench.report.page.charts import (
    HEIGHT,
    WIDTH,
    Axis,
    Bar,
    Limit,
    Mark,
    Point,
    Range,
    Series,
    _pushed_apart,
    curve_chart,
    range_chart,
    scatter_chart,
    stacked_bars,
)


def line(label: str, *ys: float, kind: Kind = "measured") -> Series:
    return Series(label, kind, [Point(number / len(ys), y, y, y, f"{y:g}") for number, y in enumerate(ys)])


def test_ticks_are_round() -> None:
    assert Axis(0.0, 10.0, 0, 100).ticks() == [0, 2.5, 5, 7.5, 10]
    assert Axis(2.0, 100.0, 0, 100, log=True).ticks() == [2, 5, 10, 20, 50, 100]
    assert Axis(1e9, 1e13, 0, 100, log=True).ticks() == [1e9, 1e10, 1e11, 1e12, 1e13]


@pytest.mark.parametrize(("log", "middle"), [(False, 50.5), (True, 10.0)])
def test_the_middle_of_an_axis(log: bool, middle: float) -> None:
    assert Axis(1.0, 100.0, 0, 200, log)(middle) == pytest.approx(100)


@given(st.lists(st.floats(30, 250), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_labels_are_pushed_apart(centres: list[float]) -> None:
    placed = _pushed_apart(centres, [15.0] * len(centres), 20, 280)
    assert all(after - before >= 15 - 1e-6 for before, after in itertools.pairwise(sorted(placed)))
    assert min(placed) >= 20
    assert max(placed) <= 280


def test_the_kind_is_a_shape() -> None:
    svg = curve_chart("c", "title", "x", "y", [line("a", 1, 2), line("b", 2, 3, kind="predicted")])
    assert svg.count("<circle") == 2
    assert svg.count('class="predicted"') == 2
    assert svg.count("dashed") == 1
    marks = [Mark(1, 30, "M", "M", "published")]
    assert 'class="published"' in scatter_chart("s", "title", "x", "y", marks)


def test_values_far_apart_are_drawn_on_a_logarithmic_axis_percentages_never() -> None:
    far = [line("a", 1, 100)]
    assert "y (log)" in curve_chart("c", "title", "x", "y", far)
    assert "(log)" not in curve_chart("c", "title", "x", "y", far, may_be_log=False)
    assert "(log)" not in curve_chart("c", "title", "x", "y", [line("a", 0, 100)])


def test_every_chart_is_well_formed_named_and_escaped() -> None:
    evil = '<b>&"'
    drawn = [
        curve_chart("c", evil, evil, evil, [line(evil, 1, 2)]),
        scatter_chart("s", evil, evil, evil, [Mark(1, 2, evil, evil, "measured")], [Limit(evil, [(1, 1), (2, 3)])]),
        range_chart("r", evil, evil, [Range(evil, 1, 2, "predicted", evil)], [8, 16]),
        stacked_bars("b", evil, [Bar(evil, [(evil, 3.0), ("b", 0.1)])], [evil, "b"], str),
    ]
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        title, description = root[0], root[1]
        assert root.attrib["aria-labelledby"].split() == [title.attrib["id"], description.attrib["id"]]
        assert title.text == evil
        assert "<b>" not in svg


@pytest.mark.parametrize("count", [1, 12, 40])
def test_labels_of_a_scatter_chart_do_not_overlap_and_stay_inside(count: int) -> None:
    marks = [
        Mark(1 + number % 7, 10 + (number * 7) % 11, f"method number {number}", "t", "measured")
        for number in range(count)
    ]
    svg = scatter_chart("s", "title", "x", "y", marks, front=[(1, 10), (3, 15)])
    assert svg.count("<circle") == count
    boxes = []
    for x, y, anchor, text in re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)" class="small over">([^<]+)', svg
    ):
        width = len(text) * 6
        left = float(x) - {"start": 0, "middle": width / 2, "end": width}[anchor]
        boxes.append((left, float(y) - 9, left + width, float(y) + 2))
    assert boxes
    for one, other in itertools.combinations(boxes, 2):
        assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]
    assert all(box[0] >= 0 and box[2] <= WIDTH + 12 and box[1] >= 0 and box[3] <= HEIGHT for box in boxes)


def test_parts_too_small_for_their_name_are_listed_below() -> None:
    svg = stacked_bars("b", "title", [Bar("cell", [("large", 98.0), ("small", 2.0)])], ["large", "small"], str)
    assert ">large 98%<" in svg
    assert ">then small 2.0%<" in svg
