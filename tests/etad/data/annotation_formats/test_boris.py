"""BORIS's moments and runs of media: what pairs with what, and which file a bout lies in."""

import json
from pathlib import Path
from typing import Any

import pytest

from etad.data.annotation_formats.interval import VideoFacts
from etad.data.annotation_formats.reading import ReadOptions
from etad.errors import DataError
from tests.etad.data.annotation_formats.reads import read, written

TWO = ("/lab/one.mp4", "/lab/two.mp4")


def project(events: list[list[Any]], files: tuple[str, ...] = ("a.mp4",), offset_s: float = 0.0) -> str:
    lengths = dict.fromkeys(files, 60.0)
    observation = {
        "file": {"1": list(files)},
        "time offset": offset_s,
        "events": [[*event, "", ""][:5] for event in events],
        "media_info": {"length": lengths, "fps": {}},
    }
    conf = {"0": {"code": "groom", "type": "State event"}}
    return json.dumps({"behaviors_conf": conf, "observations": {"o": observation}})


def found(folder: Path, content: str, name: str = "a.boris") -> list[tuple[str, float, float]]:
    return [(one.video_id, one.start_s, one.end_s) for one in read(written(folder, content, name)).intervals]


def test_states_pair_by_subject_behaviour_and_modifier(tmp_path: Path) -> None:
    events = [[0.0, "m", "groom", "left"], [5.0, "m", "groom", "right"], [10.0, "m", "groom", "left"]]
    events += [[6.0, "f", "groom", "left"], [15.0, "m", "groom", "right"], [7.0, "f", "groom", "left"]]
    assert sorted(found(tmp_path, project(events))) == [("a", 0.0, 10.0), ("a", 5.0, 15.0), ("a", 6.0, 7.0)]


def test_times_run_on_over_the_media_files(tmp_path: Path) -> None:
    events = [[10.0, "", "groom"], [20.0, "", "groom"], [55.0, "", "groom"], [65.0, "", "groom"], [70.0, "", "groom"]]
    content = project([*events, [80.0, "", "groom"]], TWO)
    assert found(tmp_path, content) == [("one", 10, 20), ("one", 55, 60), ("two", 0, 5), ("two", 10, 20)]
    assert "1 actions run on into the next media file: cut in two" in " ".join(
        read(written(tmp_path, content)).faults.lines()
    )


def test_the_time_offset_is_in_the_times_already(tmp_path: Path) -> None:
    events = [[105.0, "", "groom"], [110.0, "", "groom"]]
    assert found(tmp_path, project(events, offset_s=100.0)) == [("a", 5.0, 10.0)]


AGGREGATED = """\
Observation id\tMedia file\tTotal length\tFPS\tSubject\tBehavior\tBehavior type\tStart (s)\tStop (s)
o\t/lab/one.mp4\t120.0\t25\t\tgroom\tSTATE\t10.0\t20.0
o\t/lab/two.mp4\t120.0\t25\t\tgroom\tSTATE\t70.0\t80.0
"""


def test_a_table_over_several_media_files_needs_their_lengths(tmp_path: Path) -> None:
    path = written(tmp_path, AGGREGATED, "a.tsv")
    with pytest.raises(DataError, match=r"a\.tsv, line 2: observation o runs on over 2 media files.*--videos FOLDER"):
        read(path)
    options = ReadOptions(facts_of=lambda video_id: VideoFacts(video_id, duration_s=60.0))
    times = [(one.video_id, one.start_s, one.end_s) for one in read(path, options).intervals]
    assert times == [("one", 10.0, 20.0), ("two", 10.0, 20.0)]


def test_columns_of_the_newest_version(tmp_path: Path) -> None:
    header = (
        "Observation id,Source,Time offset (s),Media duration (s),FPS,Subject,Behavior,Modifier #1,Behavior type,Time"
    )
    start = "o,player #1:/lab/one.mp4;/lab/two.mp4,0,60.0;60.0,25;25,m,groom,"
    content = f"{header}\n{start},START,70.0\n{start},STOP,80.0\n"
    assert found(tmp_path, content, "a.csv") == [("two", 10.0, 20.0)]


ROWS = "Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status\n"


@pytest.mark.parametrize(
    ("rows", "left", "said"),
    [
        (
            ["1,START"],
            0,
            "1 states have a START and no STOP: left out (first: {path}, line 2); give them a STOP",
        ),
        (
            ["1,STOP"],
            0,
            "1 states have a STOP and no START: left out (first: {path}, line 2); give them a START",
        ),
        (
            ["1,START", "2,START", "3,STOP"],
            1,
            "1 states START again without a STOP: left out up to there (first: {path}, line 2)",
        ),
        (["1,POINT"], 0, "1 point events have no length: left out (first: {path}, line 2); code them as state events"),
        (["x,START", "2,STOP"], 0, "1 events have no time: left out (first: {path}, line 2); correct the row"),
    ],
)
def test_what_does_not_pair_is_counted(tmp_path: Path, rows: list[str], left: int, said: str) -> None:
    lines = [f"{time},a.mp4,60,25,m,groom,,,{status}\n" for time, status in (row.split(",") for row in rows)]
    path = written(tmp_path, ROWS + "".join(lines), "a.csv")
    reading = read(path)
    assert len(reading.intervals) == left
    assert any(line.startswith(said.format(path=path)) for line in reading.faults.lines()), reading.faults.lines()
