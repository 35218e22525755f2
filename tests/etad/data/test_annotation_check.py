"""What is odd about a set, with numbers and the first case of each; and its counts and durations."""

import json
from pathlib import Path
from typing import Any

import pytest

from etad.config import Config, load_config
from etad.data.annotation_check import Finding, check_annotations
from etad.data.annotation_statistics import statistics_of
from etad.data.annotations import Annotations, load_annotations
from etad.data.class_names import alike, misread_by_yaml
from etad.data.video_facts import VideoFolder
from tests.etad.make_videos import write_video


def annotations(folder: Path, *videos: tuple[str, str, float, list[tuple[float, float, str]]]) -> Annotations:
    database = {
        name: {
            "subset": subset,
            "duration": duration,
            "annotations": [{"segment": [start, end], "label": label} for start, end, label in actions],
        }
        for name, subset, duration, actions in videos
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps({"database": database}))
    return load_annotations(path)


def lines(found: list[Finding]) -> list[str]:
    return [one.line() for one in found]


def enough(label: str) -> list[tuple[float, float, str]]:
    return [(float(number), number + 0.5, label) for number in range(20)]


def test_a_sound_set_has_nothing_odd(tmp_path: Path) -> None:
    both = enough("run")
    loaded = annotations(tmp_path, ("a", "training", 30.0, both), ("b", "validation", 30.0, both))
    assert check_annotations(loaded) == []


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (
            [(1, 3, "run"), (2, 4, "run")],
            "note: 1 actions overlap one of the same class (first: a: run 1 to 3 s",
        ),
        (
            [(1, 3, "run"), (2, 4, "sit")],
            "note: 1 actions overlap one of another class (first: a: run 1 to 3 s, and sit",
        ),
        ([(1, 3, "run"), (1, 3, "run")], "problem: 1 actions are listed more than once (first: a: run 1 to 3 s)"),
        ([(1, 1, "run")], "problem: 1 actions have no length (first: a)"),
        ([(1, 300, "run")], "problem: 1 actions end after the end of their video (first: a)"),
        ([(1, 2, "rare")], "problem: 1 classes of 'training'"),
        ([(1, 2, "rare")], "note: 1 classes have fewer than 10 instances in 'training' (first: rare: 1)"),
        ([(1, 2, "rare")], "note: 1 classes have no instance in 'validation' (first: rare)"),
        ([(1, 2, "Jump-ing"), (3, 4, "jumping")], "note: 1 pairs of class names are nearly the same"),
        (
            [(1, 2, "null")],
            "note: 1 classes are no text to YAML: put their names in quotes in a config",
        ),
    ],
)
def test_each_oddity_is_told_with_its_first_case(
    actions: list[tuple[float, float, str]], said: str, tmp_path: Path
) -> None:
    both = enough("walk")
    loaded = annotations(
        tmp_path, ("a", "training", 30.0, actions), ("b", "training", 30.0, both), ("c", "validation", 30.0, both)
    )
    told = lines(check_annotations(loaded))
    if said.startswith("problem: 1 classes of"):
        loaded = annotations(tmp_path, ("c", "training", 30.0, both), ("a", "validation", 30.0, actions))
        told = lines(check_annotations(loaded))
        said = "problem: 1 classes of 'validation' do not occur in training: they cannot be learnt (first: rare)"
    assert any(line.startswith(said) for line in told), told


def test_an_empty_subset_and_a_single_one_are_told(tmp_path: Path) -> None:
    loaded = annotations(tmp_path, ("a", "training", 30.0, enough("run")), ("b", "testing", 30.0, []))
    assert "note: subset 'testing' holds no action" in lines(check_annotations(loaded))
    alone = annotations(tmp_path, ("a", "training", 30.0, enough("run")))
    assert any("all videos are of subset 'training'; --split" in line for line in lines(check_annotations(alone)))
    nothing = annotations(tmp_path, ("a", "training", 30.0, []))
    assert any("there is no action at all" in line for line in lines(check_annotations(nothing)))


def test_ids_and_files_are_compared(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", 30, fps=10)
    write_video(folder / "spare.mp4", 5)
    (folder / "broken.mp4").write_bytes(b"no video")
    both = [(0.0, 1.0, "run")]
    loaded = annotations(
        tmp_path,
        *[(name, "training", 30.0, both) for name in ("a", "gone", "broken")],
        ("-b", "validation", 30.0, both),
    )
    told = lines(check_annotations(loaded, VideoFolder(folder)))
    assert f"problem: 2 videos have no file in {folder} (first: gone)" in told
    assert "problem: 1 durations differ from the file's (first: a: 30.00 s, its file 3.00 s)" in told
    assert any(line.startswith("problem: 1 videos cannot be opened (first: ") for line in told)
    assert f"note: 1 files in {folder} have no annotations (first: spare.mp4)" in told


def config(**data: Any) -> Config:
    return load_config("quickstart", [f"data.{key}={json.dumps(value)}" for key, value in data.items()])


def test_snippets_that_are_too_coarse_are_told(tmp_path: Path) -> None:
    actions = [(0.0, 1.0, "run"), (2.0, 12.0, "run")]
    loaded = annotations(tmp_path, ("a", "training", 100.0, actions), ("b", "validation", 100.0, actions))
    told = lines(check_annotations(loaded, config=config(length=20)))
    assert any(
        line.startswith(
            "note: 2 of 4 actions are shorter than the distance of two snippets, half of these by a factor of 5.0"
        )
        and line.endswith("(first: a: run of 1.00 s, a snippet every 5.00 s)")
        for line in told
    ), told
    assert not any(
        "distance of two snippets" in line for line in lines(check_annotations(loaded, config=config(length=200)))
    )
    window = {"window": {}, "stride_frames": 30, "fps": 15.0, "input": "features"}
    assert any("a snippet every 2.00 s" in line for line in lines(check_annotations(loaded, config=config(**window))))


def test_a_subset_of_the_config_that_the_file_lacks_is_a_problem(tmp_path: Path) -> None:
    loaded = annotations(tmp_path, ("a", "Training", 30.0, enough("run")), ("b", "validation", 30.0, enough("run")))
    told = lines(check_annotations(loaded, config=config()))
    assert "problem: the config names subset 'training', which the file lacks; it has Training, validation" in told


def test_names_alike() -> None:
    names = [
        "Jump",
        "jump",
        "sit_down",
        "sit down",
        "running",
        "runing",
        "high jump",
        "long jump",
        "walk",
        "talk",
        "x1",
        "x2",
    ]
    assert set(alike(names)) == {("Jump", "jump"), ("sit down", "sit_down"), ("runing", "running")}
    assert misread_by_yaml(["no", "on", "null", "1e5", "run", "12", "2026-01-01", "a: b", "- x"]) == [
        *("no", "on", "null", "1e5", "12", "2026-01-01", "a: b", "- x")
    ]


def test_counts_and_durations(tmp_path: Path) -> None:
    loaded = annotations(
        tmp_path,
        ("a", "training", 10.0, [(0.0, 4.0, "run"), (2.0, 6.0, "sit"), (8.0, 12.0, "run")]),
        ("b", "training", 10.0, []),
        ("c", "validation", 20.0, [(1.0, 2.0, "run")]),
    )
    found = statistics_of(loaded)
    run, sit = found.classes
    assert (run.label, run.videos, run.actions, run.by_subset) == ("run", 2, 3, {"training": 2, "validation": 1})
    assert run.durations_s == (1.0, 2.0, 4.0)
    assert (run.total_s, run.median_s, sit.durations_s) == (7.0, 2.0, (4.0,))
    assert (found.all.videos, found.all.actions) == (2, 4)
    training, validation = found.subsets
    assert (training.videos, training.without_actions, training.actions, training.duration_s) == (2, 1, 3, 20.0)
    assert (training.labelled_s, validation.labelled_s) == (8.0, 1.0)
    assert found.record()["classes"][0]["median_s"] == 2.0
