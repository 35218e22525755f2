"""From the files of a tool to annotations: nothing is dropped without being told, and what is wrong is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etad.data.annotation_formats import intervals
from etad.data.annotation_formats.reading import ReadOptions
from etad.data.annotation_import import Imported, ImportOptions, import_annotations, named_files
from etad.data.annotation_split import split_videos
from etad.data.annotations import load_annotations
from etad.data.video_facts import VideoFolder
from etad.data.video_reader import probe
from etad.errors import ConfigError, DataError, NothingToDoError, UserError
from tests.etad.make_videos import write_video
from tests.paths import SHARED

HEADER = "video,start,end,label,subject,video_duration_s\n"


def imported(folder: Path, rows: str, **options: Any) -> Imported:
    path = folder / "a.csv"
    path.write_text(HEADER + rows)
    return import_annotations([(path, None)], ImportOptions(**options))


def test_names_that_yaml_or_a_shell_would_misread_survive_the_trip(tmp_path: Path) -> None:
    names = ["no", "on", "null", "1e5", "True", "~", "0012"]
    rows = "".join(f"-5ecT{number},1,2,{name},,10\n" for number, name in enumerate(names)) + "12345,1,2,no,,10\n"
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(imported(tmp_path, rows).database()))
    loaded = load_annotations(path)
    assert loaded.classes == tuple(sorted(names))
    assert [video.id for video in loaded.videos] == [*(f"-5ecT{number}" for number in range(7)), "12345"]
    assert loaded.problems == ()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "a,2,1,x,,10\n",
            "1 actions stop before they start: left out (first: {path}, line 2); exchange",
        ),
        ("a,1,2,,,10\n", "1 actions have no label: left out (first: {path}, line 2); name their class in the tool"),
        (
            "a,one,2,x,,10\n",
            "1 actions have a time that is no number: left out (first: {path}, line 2); correct",
        ),
        (",1,2,x,,10\n", "1 rows name no video: left out (first: {path}, line 2); fill in the column video"),
        ("a,1,2,BG,,10\n", "1 stretches are 'BG', which is no action: left out (first: {path}, line 2)"),
        ("a,1,2,x,,10\na,1,2,x,,10\n", "1 actions are listed twice, with the same times and class: the first counts"),
        ("a,1,3,x,m,10\na,2,4,x,m,10\n", "1 actions of one class and subject overlap: kept (first: {path}, line 3)"),
        ("a,1,3,x,m,10\na,2,4,y,m,10\n", "1 states of one subject overlap: kept, as actions that may happen at once"),
        ("a,1,12,x,,10\n", "1 actions end after the end of their video: kept; training cuts them off"),
        ("a,-1,2,x,,10\n", "1 actions start before their video: kept; training cuts them off"),
        ("a,1,1,x,,10\n", "1 actions have no length: kept; training leaves them out"),
        ("a,1,2,x,,10\na,3,4,x,,20\n", "1 durations differ between entries of one video: the first counts"),
        ("a,1,2,x,,\n", "1 videos have no duration in the files: the end of their last action is taken (first: a)"),
        (
            "b,,,,,\n",
            "1 videos have neither a duration nor actions: left out (first: b); --videos",
        ),
    ],
)
def test_what_is_odd_is_counted_with_file_row_and_remedy(rows: str, said: str, tmp_path: Path) -> None:
    told = imported(tmp_path, rows + "z,1,2,x,,10\n").problems
    assert any(line.startswith(said.format(path=tmp_path / "a.csv")) for line in told), told


def test_nothing_is_told_of_a_sound_file(tmp_path: Path) -> None:
    assert imported(tmp_path, "a,1,2,x,,10\na,2,3,y,,10\nb,,,,,20\n").problems == ()


@pytest.mark.parametrize(
    ("files", "options", "error", "said"),
    [
        ({"a.csv": "nothing known\n"}, {}, DataError, "{folder}/a.csv: its format is not known"),
        (
            {"a.csv": f"{HEADER}a,1,2,x,,10\n", "b.txt": "run\nrun\nrun\nrun\n"},
            {},
            DataError,
            "the files are in several formats ({folder}/a.csv is intervals, {folder}/b.txt is frames); import",
        ),
        (
            {"a.txt": "run\nrun\nrun\nrun\n"},
            {},
            DataError,
            "{folder}/a.txt: counts frames, and the frame rate of a is not known; give --fps N, or --videos FOLDER",
        ),
        (
            {"a.csv": f"{HEADER}a,1500,2000,x,,10\na,3000,9000,x,,10\n"},
            {},
            DataError,
            "{folder}/a.csv, line 2: 2 of 2 actions lie far beyond the end of their video (here 2000 of 10 s), and "
            "within it if times are milliseconds; give --time-unit ms",
        ),
        (
            {"a.csv": "video,start,end,label,video_duration_s,fps\na,300,600,x,100,25\na,1100,2000,x,100,25\n"},
            {},
            DataError,
            "and within it if times are frames; give --time-unit frames",
        ),
        (
            {"a.csv": f"{HEADER}/one/a.mp4,1,2,x,,10\n/two/a.mp4,1,2,x,,10\n"},
            {},
            DataError,
            "two videos are called a: /one/a.mp4 and /two/a.mp4; rename one, or, if they are one",
        ),
        (
            {"a.csv": f"{HEADER}a,1,2,x,,10\n"},
            {"split": 0.8},
            NothingToDoError,
            "--split 0.8 of 1 videos leaves validation empty; there must be two videos at least",
        ),
        (
            {"a.csv": f"{HEADER}a,1,2,x,,10\nb,1,2,x,,10\n"},
            {"split": 0.1},
            NothingToDoError,
            "--split 0.1 of 2 videos leaves training empty; choose another fraction",
        ),
        (
            {"a.csv": f"{HEADER}a,1,2,x,fred,10\n"},
            {"subjects": ("anna",)},
            NothingToDoError,
            "--subject anna: there is no such subject; there are: fred",
        ),
        (
            {"a.csv": f"{HEADER}a,,,,,\n"},
            {},
            NothingToDoError,
            "{folder}/a.csv: no usable video; 1 videos",
        ),
        (
            {"a_val.txt": "video_validation_0000001 1 2\n"},
            {"read": ReadOptions(time_unit="frames")},
            ConfigError,
            "--time-unit frames is for tables of intervals",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(
    files: dict[str, str], options: dict[str, Any], error: type[UserError], said: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(error) as caught:
        import_annotations(named_files([str(tmp_path)]), ImportOptions(**options))
    assert said.format(folder=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_milliseconds_are_taken_for_what_they_are_once_told(tmp_path: Path) -> None:
    (tmp_path / "a_val.txt").write_text("v 1500 2000\n")
    options = ImportOptions(read=ReadOptions(time_unit="ms"))
    (one,) = import_annotations(named_files([str(tmp_path)]), options).intervals
    assert (one.start_s, one.end_s) == (1.5, 2.0)


def test_a_bare_name_and_a_path_may_be_one_video(tmp_path: Path) -> None:
    rows = "/lab/day 1/a.mp4,1,2,x,,10\na.mp4,3,4,x,,10\nday 1\\a.mp4,5,6,x,,10\n"
    assert len(imported(tmp_path, rows).intervals) == 3


def test_subsets_come_from_the_command_line_the_file_or_the_default(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        subset = "held out" if name == "three" else ""
        (tmp_path / f"{name}.csv").write_text(f"video,start,end,label,subset\n{name},1,2,x,{subset}\n")
    words = [f"validation={tmp_path}/one.csv", f"{tmp_path}/two.csv", f"{tmp_path}/three.csv"]
    found = import_annotations(named_files(words), ImportOptions())
    assert [facts.subset for facts in found.videos.values()] == ["validation", "training", "held out"]


def test_tiers_and_subjects_are_chosen_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("video,start,end,label,tier,subject\na,1,2,x,t1,m\na,3,4,y,t2,m\na,5,6,z,t1,f\n")
    everything = import_annotations([(path, None)], ImportOptions())
    assert any("1 videos have several tiers" in line for line in everything.problems)
    some = import_annotations([(path, None)], ImportOptions(tiers=("t1",), subjects=("m",)))
    assert some.classes == ("x",)
    told = " ".join(some.problems)
    assert "1 actions are of another tier: left out (--tier)" in told
    assert "1 actions are of another subject: left out (--subject)" in told


def test_the_videos_give_lengths_and_frame_rates(tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "cage.mp4" if (tmp_path / "videos").mkdir() is None else tmp_path, 30, fps=10)
    (tmp_path / "cage.txt").write_text("run\n" * 10 + "SIL\n" * 20)
    (tmp_path / "gone.txt").write_text("run\n" * 10 + "SIL\n" * 20)
    files = named_files([str(tmp_path / "cage.txt")])
    found = import_annotations(files, ImportOptions(videos=tmp_path / "videos"))
    assert [(one.start_s, one.end_s) for one in found.intervals] == [(0.0, pytest.approx(1.0))]
    assert found.videos["cage"].duration_s == pytest.approx(3.0)
    assert found.videos["cage"].fps == pytest.approx(10.0)
    both = named_files([str(tmp_path / "cage.txt"), str(tmp_path / "gone.txt")])
    options = ImportOptions(videos=tmp_path / "videos", read=ReadOptions(fps=5.0))
    told = " ".join(import_annotations(both, options).problems)
    assert "1 videos have no file in" in told
    assert "1 durations differ from the video's, which was taken (first: cage: 6.00 s stated, 3.00 s measured)" in told


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv"):
        write_video(tmp_path / f"a{suffix}", 5)
    with pytest.raises(DataError, match=r"two videos are called a: a\.mkv and a\.mp4; rename one"):
        VideoFolder(tmp_path).facts_of("a")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_packets_tell_what_decoding_would(suffix: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"a{suffix}", 33, fps=10)
    facts, decoded = VideoFolder(tmp_path).facts_of("a"), probe(path)
    assert facts is not None
    assert (facts.duration_s, facts.fps) == pytest.approx((decoded.times.end_s, decoded.fps), rel=1e-9)


@given(
    classes=st.dictionaries(st.text(min_size=1, max_size=4), st.sets(st.sampled_from("abcd")), min_size=2, max_size=12),
    fraction=st.floats(0.1, 0.9),
    seed=st.integers(0, 3),
)
def test_a_split_is_the_same_every_time_and_of_the_size_asked_for(
    classes: dict[str, set[str]], fraction: float, seed: int
) -> None:
    training = round(fraction * len(classes))
    if not 0 < training < len(classes):
        with pytest.raises(NothingToDoError):
            split_videos(classes, fraction, seed)
        return
    found = split_videos(classes, fraction, seed)
    assert found == split_videos(dict(reversed(classes.items())), fraction, seed)
    assert sum(subset == "training" for subset in found.values()) == training


def test_a_split_leaves_classes_in_both_parts_where_it_can() -> None:
    classes = {f"v{number:02}": {"rare"} if number in (3, 17) else {"often"} for number in range(20)}
    for seed in range(10):
        found = split_videos(classes, 0.5, seed)
        assert found["v03"] != found["v17"]


@pytest.mark.skipif(not (SHARED / "data").exists(), reason="needs the real files beside the checkout")
def test_calms21_becomes_a_set_with_its_split(tmp_path: Path) -> None:
    folder = SHARED / "data" / "annotations" / "calms21"
    found = import_annotations(named_files([f"training={folder}/train", f"validation={folder}/test"]), ImportOptions())
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(found.database()))
    loaded = load_annotations(path)
    assert loaded.classes == ("attack", "investigation", "mount")
    assert (len(loaded.select(["training"])), len(loaded.select(["validation"]))) == (70, 19)


def test_what_json_gives_twice_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    entry = '{"duration": 10, "annotations": [{"segment": [1, 2], "label": "x"}]}'
    path.write_text(f'{{"database": {{"a": {entry}, "a": {entry}}}}}')
    (told,) = import_annotations([(path, None)], ImportOptions()).problems
    assert told == f"1 keys are given more than once: the last entry counts (first: {path}, 'a')"


@pytest.mark.skipif(not (SHARED / "data").exists(), reason="needs the real files beside the checkout")
def test_a_real_set_comes_back_from_a_table_as_it_was(tmp_path: Path) -> None:
    real = import_annotations([(SHARED / "data" / "thumos14" / "thumos14.json", None)], ImportOptions())
    table = tmp_path / "a.csv"
    table.write_text(intervals.write(real.intervals, real.videos))
    again = import_annotations([(table, None)], ImportOptions())
    assert (len(again.videos), len(again.intervals)) == (412, 6365)
    assert again.database()["database"] == real.database()["database"]
