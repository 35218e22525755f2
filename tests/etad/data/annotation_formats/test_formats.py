"""Every format: told by its content, and read as the tool means it."""

import gzip
from itertools import pairwise
from pathlib import Path

import pytest

from etad.data.annotation_formats.reading import ReadOptions
from etad.data.annotation_formats.registry import FORMATS, format_of
from etad.data.annotation_formats.source import Source
from etad.errors import DataError
from tests.etad.data.annotation_formats.files import EXAMPLES, Example
from tests.etad.data.annotation_formats.reads import read, written
from tests.paths import SHARED

REAL = SHARED / "data" / "annotations"
NAMES = [f"{number}-{one.format}" for number, one in enumerate(EXAMPLES)]


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_a_file_is_told_by_its_content_and_read(example: Example, tmp_path: Path) -> None:
    path = written(tmp_path, example.content, example.name)
    assert format_of(Source(path)).name == example.format
    reading = read(path, ReadOptions(fps=example.fps, **example.options))  # type: ignore[arg-type]
    found = [(one.video_id, one.start_s, one.end_s, one.label) for one in reading.intervals]
    assert found == [
        (video, pytest.approx(start), pytest.approx(end), label) for video, start, end, label in example.found
    ]
    assert set(reading.videos) >= {video for video, *_ in example.found}


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_only_one_format_takes_a_file_for_its_own(example: Example, tmp_path: Path) -> None:
    source = Source(written(tmp_path, example.content, example.name))
    taking = {found.name for found in FORMATS.values() if found.recognises(source)}
    alike = {"thumos": {"multithumos"}, "activitynet": {"hacs", "fineaction"}}
    # A sheet that a person made may look like intervals, too; the more special format comes first.
    assert taking - {"intervals"} - alike.get(example.format, set()) <= {example.format}


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_a_file_of_another_format_than_was_said_is_refused_and_its_own_named(example: Example, tmp_path: Path) -> None:
    path = written(tmp_path, example.content, example.name)
    wrong = "elan" if example.format != "elan" else "boris"
    with pytest.raises(DataError, match=rf"is no file of {wrong} .*: give --from {example.format}"):
        read(path, name=wrong)


def test_facts_of_the_videos_come_along(tmp_path: Path) -> None:
    contents = {(one.format, one.name): one.content for one in EXAMPLES}
    boris = read(written(tmp_path, contents["boris", "a.boris"])).videos["cage"]
    assert (boris.duration_s, boris.fps, boris.file) == (60.0, 25.0, "/lab/cage.avi")
    ego = read(written(tmp_path, contents["ego4d", "a.json"])).videos["clip-1"]
    assert (ego.duration_s, ego.subset) == (480.0, "val")
    videos = read(written(tmp_path, contents["activitynet", "a.json"])).videos
    assert videos["12345"].duration_s == 10.0
    assert (videos["-5ecT"].subset, videos["-5ecT"].fps) == ("validation", 25.0)
    feral = read(written(tmp_path, contents["frames", "a.json"]), ReadOptions(fps=10)).videos["cage"]
    assert (feral.duration_s, feral.subset) == (1.5, "train")
    cvat = read(written(tmp_path, contents["cvat", "a.xml"]), ReadOptions(fps=10)).videos
    assert set(cvat) == {"cage"}
    assert read(written(tmp_path, contents["bento", "a.annot"])).videos["cage"].duration_s == 10.0
    assert read(written(tmp_path, contents["charades", "a.csv"])).videos["46GP8"].duration_s == 24.83


def test_a_gzipped_file_is_read(tmp_path: Path) -> None:
    content = next(one.content for one in EXAMPLES if one.format == "vidat")
    assert isinstance(content, str)
    assert len(read(written(tmp_path, gzip.compress(content.encode()), "a.gz")).intervals) == 1


@pytest.mark.skipif(not REAL.exists(), reason="needs the real files beside the checkout")
@pytest.mark.parametrize(
    ("file", "name", "videos", "actions"),
    [
        ("boris/e3v813a-20210610T120637-121213_reencode.csv", "boris", 1, 15),
        ("boris/e3v813a-20210610T122758-123309_reencode.csv", "boris", 1, 8),
        ("boris/test-simultaneous-events.csv", "boris", 1, 3),
        ("boris/test-multi-behaviors.boris", "boris", 1, 3),
        ("elan/sample_3.0.eaf.gz", "elan", 1, 8778),
        ("vidat/example.json", "vidat", 1, 0),
        ("feral/labels_singlelabel.json", "frames", 18, 142),
        ("feral/labels_multilabel.json", "frames", 18, 130),
        ("calms21/train/mouse046_task1_annotator1.csv", "intervals", 1, 28),
        ("../thumos14/thumos14.json", "activitynet", 412, 6365),
        ("../salads50/annotations.json", "activitynet", 50, 896),
    ],
)
def test_a_real_file_is_read(file: str, name: str, videos: int, actions: int) -> None:
    path = REAL / file
    assert format_of(Source(path)).name == name
    reading = read(path, ReadOptions(fps=30))
    assert (len(reading.videos), len(reading.intervals)) == (videos, actions)


@pytest.mark.skipif(not REAL.exists(), reason="needs the real files beside the checkout")
def test_a_project_and_its_table_say_the_same() -> None:
    project = read(REAL / "boris/test-multi-behaviors.boris").intervals
    table = read(REAL / "boris/test-simultaneous-events.csv").intervals
    assert project == table
    assert [(one.start_s, one.end_s, one.label) for one in project] == [
        (9.955, 11.256, "mm"),
        (28.205, 30.63, "aa"),
        (26.605, 31.705, "mm"),
    ]


@pytest.mark.skipif(not REAL.exists(), reason="needs the real files beside the checkout")
def test_the_words_of_a_real_elan_file_divide_their_sentence() -> None:
    reading = read(REAL / "elan/sample_3.0.eaf.gz")
    sentence = next(one for one in reading.intervals if one.tier == "text")
    for tier in ("words-timesub", "words-symsub"):
        words = [
            one
            for one in reading.intervals
            if one.tier == tier and sentence.start_s <= one.start_s and one.end_s <= sentence.end_s
        ]
        assert len(words) > 1
        assert (words[0].start_s, words[-1].end_s) == (sentence.start_s, sentence.end_s)
        assert all(one.end_s == pytest.approx(other.start_s) for one, other in pairwise(words))
