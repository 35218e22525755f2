"""What is exported for a tool is imported again as it was, for every format that is both written and read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etad.data.annotation_export import FOLDERS, SINGLE, Labelled, export, read_labelled
from etad.data.annotation_formats.interval import Interval, VideoFacts, media_id
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.registry import format_of
from etad.data.annotation_formats.source import Source
from etad.errors import DataError

ODD = ["no", "on", "null", "1e5", "-5ecT", "0012", "True", "~", "a, b", 'say "hi"', "a;b", "<x> & y", "#1", "é"]
"""What YAML, CSV, XML or a shell might take for something else."""
WORDS = st.sampled_from(ODD) | st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6
)
IDS = WORDS.filter(lambda name: media_id(name) == name and not set(name) & set("/\\:?%") and not name.startswith("."))


@st.composite
def labelled(draw: st.DrawFn, step_s: float) -> Labelled:
    """Draw annotations whose times are multiples of a step, in the order that exports keep."""
    ids = draw(st.lists(IDS, min_size=1, max_size=3, unique_by=str.casefold))
    videos = {name: VideoFacts(name, None, draw(st.integers(1000, 5000)) / 8, 25.0, "training") for name in ids}
    found = set()
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, 200))
        end = start + draw(st.integers(1, 200))
        video, label, subject = draw(st.sampled_from(ids)), draw(WORDS), draw(st.sampled_from(["", "mouse", "no"]))
        found.add(Interval(video, start * step_s, end * step_s, label, subject))
    return Labelled(Path("a.json"), tuple(sorted(found, key=key)), videos, ())


def key(one: Interval) -> tuple[str, float, float, str, str]:
    return one.video_id, one.start_s, one.end_s, one.label, one.subject


def back(paths: list[Path], name: str) -> Reading:
    reading = Reading()
    for path in paths:
        source = Source(path)
        assert format_of(source).name == name
        format_of(source).read(source, reading)
    return reading


def times(
    intervals: list[Interval] | tuple[Interval, ...], subjects: bool = True
) -> list[tuple[str, int, int, str, str]]:
    return sorted(
        (i.video_id, round(1000 * i.start_s), round(1000 * i.end_s), i.label, i.subject if subjects else "")
        for i in intervals
    )


QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(what=labelled(1 / 7))
@pytest.mark.parametrize(("form", "name"), [("intervals", "intervals"), ("activitynet", "activitynet")])
def test_intervals_and_activitynet_come_back_exactly(form: str, name: str, what: Labelled, tmp_path: Path) -> None:
    reading = back(export(what, form, tmp_path / f"a{SINGLE[form][0]}"), name)
    assert sorted(reading.intervals, key=key) == sorted(what.intervals, key=key)
    assert {one: (facts.duration_s, facts.subset, facts.fps) for one, facts in reading.videos.items()} == {
        one: (facts.duration_s, facts.subset, facts.fps) for one, facts in what.videos.items()
    }


@QUICK
@given(what=labelled(0.001))
def test_a_boris_project_comes_back_to_the_millisecond(what: Labelled, tmp_path: Path) -> None:
    reading = back(export(what, "boris", tmp_path / "a.boris"), "boris")
    # A subject that does the same twice at a time is numbered, since BORIS knows no such overlap.
    assert times(reading.intervals, subjects=False) == times(what.intervals, subjects=False)
    assert reading.faults.lines() == []
    assert {one: facts.duration_s for one, facts in reading.videos.items()} == {
        one: facts.duration_s for one, facts in what.videos.items()
    }


@QUICK
@given(what=labelled(0.001))
def test_elan_comes_back_to_the_millisecond(what: Labelled, tmp_path: Path) -> None:
    folder = tmp_path / "elan"
    assert times(back(export(what, "elan", folder), "elan").intervals) == times(what.intervals)


@QUICK
@given(what=labelled(0.001))
def test_events_for_a_sheet_come_back_to_the_millisecond(what: Labelled, tmp_path: Path) -> None:
    paths = export(what, "boris-events", tmp_path / "events")
    assert {path.stem for path in paths} == set(what.videos)
    assert times(back(paths, "boris").intervals, subjects=False) == times(what.intervals, subjects=False)


def test_every_export_is_tested() -> None:
    assert {*SINGLE, *FOLDERS} == {"intervals", "activitynet", "boris", "boris-events", "elan", "webvtt"}


SUBMISSION = {
    "version": "VERSION 1.3",
    "results": {
        "-5ecT": [
            {"label": "no", "score": 0.25, "segment": [1.0, 2.0]},
            {"label": "walk", "score": 0.75, "segment": [0.5, 3723.25]},
            {"label": "walk", "score": "high", "segment": [0, 1]},
        ],
        "12345": [],
    },
    "external_data": {},
}


@pytest.fixture
def predictions(tmp_path: Path) -> Labelled:
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(SUBMISSION))
    return read_labelled(path)


def test_predictions_keep_their_scores_in_tables(predictions: Labelled, tmp_path: Path) -> None:
    (line,) = predictions.problems
    assert "1 detections have no score: left out (first: " in line
    (table,) = export(predictions, "intervals", tmp_path / "a.csv")
    assert table.read_text().splitlines() == [
        "video_id,start_s,end_s,label,score,subset",
        "-5ecT,1.0,2.0,no,0.25,predicted",
        "-5ecT,0.5,3723.25,walk,0.75,predicted",
        "12345,,,,,predicted",
    ]
    assert [one.score for one in back([table], "intervals").intervals] == [0.25, 0.75]


def test_predictions_as_chapters_of_a_player(predictions: Labelled, tmp_path: Path) -> None:
    paths = export(predictions, "webvtt", tmp_path / "chapters")
    assert [path.name for path in paths] == ["-5ecT.vtt", "12345.vtt"]
    assert paths[0].read_text() == (
        "WEBVTT\n\n1\n00:00:00.500 --> 01:02:03.250\nwalk 0.75\n\n2\n00:00:01.000 --> 00:00:02.000\nno 0.25\n"
    )
    assert paths[1].read_text() == "WEBVTT\n"


def test_predictions_in_boris_carry_the_score_as_a_comment(predictions: Labelled, tmp_path: Path) -> None:
    (path,) = export(predictions, "boris", tmp_path / "a.boris")
    events = json.loads(path.read_text())["observations"]["-5ecT"]["events"]
    assert [1.0, "", "no", "", "score 0.25"] in events


@pytest.mark.parametrize("write", [lambda path: path.mkdir(), lambda path: path.write_text("")])
def test_a_file_is_not_a_folder(predictions: Labelled, tmp_path: Path, write: Callable[[Path], object]) -> None:
    target = tmp_path / "target"
    write(target)
    with pytest.raises(DataError, match=r"is a folder; intervals is one file|is a file; elan is a file for each video"):
        export(predictions, "intervals" if target.is_dir() else "elan", target)
