"""Annotation files: the published ones, and every way in which one can be wrong."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etad.config import DataConfig
from etad.data.annotations import Action, Annotations, Video, annotations_of, load_annotations, load_blocked
from etad.data.dataset import ground_truth
from etad.errors import DataError, NothingToDoError
from tests.paths import SHARED

REAL = SHARED / "data"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="shared data absent")


def entry(*segments: Any, **changes: Any) -> dict[str, Any]:
    """Return a database entry of a 100 s training video with an action "run" for each segment."""
    actions = [{"segment": segment, "label": "run"} for segment in segments]
    return {"subset": "training", "duration": 100.0, "annotations": actions} | changes


def load(tmp_path: Path, database: Any, **arguments: Any) -> Annotations:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"database": database}))
    return load_annotations(path, **arguments)


def test_a_clean_file(tmp_path: Path) -> None:
    found = load(tmp_path, {"b": entry([1, 2.5], fps=25), "a": entry(subset="validation")})
    assert found.videos == (
        Video("b", "training", 100.0, 25.0, (Action(1.0, 2.5, "run"),)),
        Video("a", "validation", 100.0, None, ()),
    )
    assert found.classes == ("run",)
    assert found.problems == ()


def test_numbers_written_as_strings_are_read(tmp_path: Path) -> None:
    assert load(tmp_path, {"a": entry(duration="12.5")}).videos[0].duration_s == 12.5


@pytest.mark.parametrize(
    ("segment", "problem"),
    [
        ([5, float("nan")], "1 actions have no segment of two numbers (first: bad): left out"),
        ([float("-inf"), 5], "1 actions have no segment of two numbers (first: bad): left out"),
        ([5], "1 actions have no segment of two numbers (first: bad): left out"),
        ("5-6", "1 actions have no segment of two numbers (first: bad): left out"),
        (["a", "b"], "1 actions have no segment of two numbers (first: bad): left out"),
        ([True, False], "1 actions have no segment of two numbers (first: bad): left out"),
    ],
)
def test_a_senseless_action_is_left_out(tmp_path: Path, segment: Any, problem: str) -> None:
    found = load(tmp_path, {"bad": entry(segment, [1, 2])})
    assert found.videos[0].actions == (Action(1, 2, "run"),)
    assert found.problems == (problem,)


@pytest.mark.parametrize(
    ("segment", "fault", "clipped"),
    [
        ([-1, 5], "start before their video", [(0, 5)]),
        ([90, 101], "end after the end of their video", [(90, 100)]),
        ([100, 101], "start after the end of their video", []),
        ([7, 7], "have no length", []),
        ([9, 3], "end before they start", []),
    ],
)
def test_a_badly_lying_action_is_kept_and_clipped_for_training(
    tmp_path: Path, segment: list[float], fault: str, clipped: list[tuple[float, float]]
) -> None:
    found = load(tmp_path, {"bad": entry(segment)})
    (video,) = found.videos
    assert video.actions == (Action(segment[0], segment[1], "run"),)
    assert [(action.start_s, action.end_s) for action in video.clipped_actions()] == clipped
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"1 actions {fault} (first: bad): kept for evaluation, ")


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ({"duration": 10, "annotations": []}, "have no subset"),
        (["training", 10], "are not JSON objects"),
    ],
)
def test_a_senseless_video_is_left_out(tmp_path: Path, bad: Any, fault: str) -> None:
    found = load(tmp_path, {"bad": bad, "good": entry()})
    assert [video.id for video in found.videos] == ["good"]
    assert found.problems == (f"1 videos {fault} (first: bad): left out",)


@pytest.mark.parametrize(
    ("duration", "fault"),
    [
        ({}, "have no duration, or one that is not a number"),
        ({"duration": None}, "have no duration, or one that is not a number"),
        ({"duration": float("nan")}, "have no duration, or one that is not a number"),
        ({"duration": "long"}, "have no duration, or one that is not a number"),
        ({"duration": 10**400}, "have no duration, or one that is not a number"),
        ({"duration": 0}, "have a duration of zero or less"),
        ({"duration": -3.0}, "have a duration of zero or less"),
    ],
)
def test_a_video_without_a_duration_is_scored_and_not_trained_on(
    tmp_path: Path, duration: dict[str, Any], fault: str
) -> None:
    bad = {"subset": "training", "annotations": [{"segment": [1, 9], "label": "run"}]} | duration
    found = load(tmp_path, {"bad": bad})
    assert found.problems == (f"1 videos {fault} (first: bad): scored, but left out elsewhere",)
    (video,) = found.videos
    assert video == Video("bad", "training", 0.0, None, (Action(1, 9, "run"),))
    assert video.clipped_actions() == ()
    assert video.longest_fraction() == 0


def test_lesser_faults_of_a_video_are_told(tmp_path: Path) -> None:
    found = load(tmp_path, {"a": entry(fps=0), "b": {"subset": "training", "duration": 5}})
    assert [(video.fps, video.actions) for video in found.videos] == [(None, ()), (None, ())]
    assert found.problems == (
        "1 videos have an unusable fps (first: a): taken as not given",
        "1 videos have no list of annotations (first: b): taken as without actions",
    )


def test_labels(tmp_path: Path) -> None:
    nameless = entry(annotations=[{"segment": [1, 2]}, {"segment": [1, 2], "label": True}, "run"])
    found = load(tmp_path, {"a": nameless, "b": entry([1, 2]), "c": entry([3, 4])}, classes=["jump"])
    assert found.classes == ()
    assert found.problems == (
        "3 actions have no label (first: a): left out",
        "2 actions have a label that is not among the classes (first: b): left out",
    )


def test_labels_may_be_whole_numbers(tmp_path: Path) -> None:
    actions = [{"segment": [1, 2], "label": label} for label in (7, 0, -1, 10**4000)]
    found = load(tmp_path, {"a": entry(annotations=actions)})
    assert found.classes == ("-1", "0", "7")
    assert found.problems == ("1 actions have no label (first: a): left out",)


def test_ignored_classes_are_left_out_and_counted(tmp_path: Path) -> None:
    actions = [{"segment": [1, 2], "label": label} for label in ("run", "Ambiguous", "Ambiguous")]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"database": {"a": entry(annotations=actions), "b": entry(annotations=actions[1:])}}))
    counted = annotations_of(DataConfig(root=tmp_path))
    assert counted.classes == ("Ambiguous", "run")
    assert counted.problems == (
        f"{path}: Ambiguous counts as a class; where it marks what nobody can tell, as in THUMOS-14, "
        "set data.ignored_classes=[Ambiguous]",
    )
    found = annotations_of(DataConfig(root=tmp_path, ignored_classes=("Ambiguous",)))
    assert found.classes == ("run",)
    assert [video.actions for video in found.videos] == [(Action(1, 2, "run"),), ()]
    assert found.problems == (
        "4 actions are of the class 'Ambiguous' (first: a): left out, as data.ignored_classes says",
    )


def test_a_misspelt_ignored_class_is_named(tmp_path: Path) -> None:
    found = load(tmp_path, {"a": entry([1, 2])}, ignored=("rnu",))
    assert found.problems == (
        f"{found.path}: data.ignored_classes names 'rnu', which is no class of it; did you mean run?",
    )


def test_a_file_without_the_ignored_class_is_in_order(tmp_path: Path) -> None:
    assert load(tmp_path, {"a": entry([1, 2])}, ignored=("Ambiguous",)).problems == ()


def test_a_video_listed_twice_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    first, last = json.dumps(entry([1, 2])), json.dumps(entry([3, 4]))
    path.write_text(f'{{"database": {{"a": {first}, "b": {first}, "a": {last}}}}}')
    found = load_annotations(path)
    assert [(video.id, video.actions[0].start_s) for video in found.videos] == [("a", 3.0), ("b", 1.0)]
    assert found.problems == ("1 videos are listed more than once (first: a): the last entry counts",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"database": {"a": {"subset"', "not valid JSON, or cut off, at line 1"),
        (b"", "not valid JSON, or cut off, at line 1"),
        (b"\xff\xfe", "not a text file in UTF-8"),
        (b"[" * 100_000, "too deeply in each other"),
        (b"[]", 'no "database" of videos'),
        (b'{"database": []}', 'no "database" of videos'),
        (b'{"database": {}}', "no usable video"),
        (b'{"database": {"a": {"duration": 0}}}', "have no subset (first: a): left out"),
    ],
)
def test_an_unusable_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        load_annotations(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_gzip_whole_cut_off_and_not_gzip_at_all(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json.gz"
    whole = gzip.compress(json.dumps({"database": {"a": entry()}}).encode())
    path.write_bytes(whole)
    assert len(load_annotations(path).videos) == 1
    for broken in (whole[:-12], whole[:5], whole[:15] + b"\xff\xff" + whole[17:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="not valid gzip, or cut off"):
            load_annotations(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        load_annotations(tmp_path / "none.json")


def test_select_names_the_subset_and_those_that_exist(tmp_path: Path) -> None:
    found = load(tmp_path, {"a": entry(), "b": entry(subset="validation")})
    assert [video.id for video in found.select(["validation", "training"])] == ["a", "b"]
    with pytest.raises(NothingToDoError, match=r"no video in subset 'Test'; the file has training, validation$"):
        found.select(["training", "Test"])


def test_blocked_ids_match_with_and_without_the_prefix(tmp_path: Path) -> None:
    found = load(tmp_path, {"a": entry(), "b": entry(), "v_c": entry(), "d": entry()})
    assert [video.id for video in found.select(["training"], {"a", "v_b", "c"})] == ["d"]
    with pytest.raises(NothingToDoError, match="all 4 videos of training are blocked"):
        found.select(["training"], {"a", "b", "c", "d"})


def test_blocked_from_the_config_or_a_file(tmp_path: Path) -> None:
    assert load_blocked(DataConfig(blocked=("a",))) == {"a"}
    data = DataConfig(root=tmp_path, blocked=Path("blocked.json"))
    (tmp_path / "blocked.json").write_text('["a", "b"]')
    assert load_blocked(data) == {"a", "b"}
    for content in ('{"a": 1}', "[1]"):
        (tmp_path / "blocked.json").write_text(content)
        with pytest.raises(DataError, match="must be a JSON list of video ids"):
            load_blocked(data)


times = st.floats(-200, 400, allow_nan=False)


@given(st.floats(0.01, 200), st.lists(st.tuples(times, times)))
def test_clipped_actions_lie_in_the_video_and_have_length(
    duration_s: float, segments: list[tuple[float, float]]
) -> None:
    video = Video("a", "training", duration_s, None, tuple(Action(min(pair), max(pair), "run") for pair in segments))
    for action in video.clipped_actions():
        assert 0 <= action.start_s < action.end_s <= duration_s
    assert 0 <= video.longest_fraction() <= 1


def test_ground_truth_is_the_file_as_it_is() -> None:
    video = Video("a", "test", 10.0, None, (Action(5, 12, "run"), Action(3, 3, "jump")))
    truth = ground_truth([video, Video("b", "test", 10.0, None, ())], ["jump", "run"])
    np.testing.assert_array_equal(truth["a"][0], [[5, 12], [3, 3]])
    np.testing.assert_array_equal(truth["a"][1], [1, 0])
    assert truth["b"][0].shape == (0, 2)
    assert [str(part.dtype) for part in truth["a"]] == ["float64", "int64"]
    with pytest.raises(DataError, match="a: label 'jump' is not among the 1 classes"):
        ground_truth([video], ["run"])


@needs_real_data
def test_activitynet() -> None:
    found = load_annotations(REAL / "activitynet" / "activity_net.v1-3.json.gz")
    training, validation, testing = (found.select([name]) for name in ("training", "validation", "testing"))
    assert (len(training), len(validation), len(testing)) == (10_024, 4_926, 5_044)
    assert sum(len(video.actions) for video in training) == 15_410
    assert sum(len(video.actions) for video in validation) == 7_654
    assert len(found.classes) == 200
    assert [problem.split(" (")[0] for problem in found.problems] == [
        "226 actions end after the end of their video",
        "12 actions have no length",
    ]
    assert sum(video.longest_fraction() > 0.01 for video in training) == 10_024 - 47
    blocked = load_blocked(DataConfig(root=REAL / "activitynet", blocked=Path("blocked.json")))
    assert len(found.select(["validation"], blocked)) == 4_926 - 31


@needs_real_data
def test_the_official_sample_submission_is_the_ground_truth() -> None:
    found = load_annotations(REAL / "activitynet" / "activity_net.v1-3.json.gz")
    truth = ground_truth(found.select(["validation"]), found.classes)
    sample = json.loads((REAL / "predictions" / "activitynet_sample.json").read_text())["results"]
    assert sample.keys() == truth.keys()
    for video_id, (segments, labels) in truth.items():
        ours = sorted(zip(labels.tolist(), *segments.T.tolist(), strict=True))
        theirs = sorted((found.classes.index(item["label"]), *item["segment"]) for item in sample[video_id])
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-9)


@needs_real_data
@pytest.mark.parametrize(("subset", "videos", "actions"), [("Validation", 200, 3_007), ("Test", 212, 3_358)])
def test_thumos(subset: str, videos: int, actions: int) -> None:
    found = load_annotations(REAL / "thumos14" / "thumos14.json")
    chosen = found.select([subset])
    assert (len(chosen), sum(len(video.actions) for video in chosen)) == (videos, actions)
    assert len(found.classes) == 20
    assert {video.fps for video in found.videos} == {24.0, 25.0, 29.97, 30.0}


@needs_real_data
def test_salads50() -> None:
    found = load_annotations(REAL / "salads50" / "annotations.json")
    assert (len(found.videos), sum(len(video.actions) for video in found.videos), len(found.classes)) == (50, 896, 17)
    assert {video.subset for video in found.videos} == {f"fold{number}" for number in range(1, 6)}
    assert found.problems == ()
