"""Scoring a submission: whatever is odd about it is counted and named, and nothing is dropped in silence."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from etad.config import Config, load_config
from etad.errors import DataError, NothingToDoError
from etad.evaluation.scoring import Score, score
from tests.etad.small_runs import write_small_set
from tests.paths import SHARED

VALIDATION = [f"video{number}" for number in range(6, 12)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_config(write_small_set(tmp_path_factory.mktemp("set")))


@pytest.fixture(scope="module")
def truth(config: Config) -> dict[str, Any]:
    return dict(json.loads((config.data.root / "annotations.json").read_text())["database"])


def perfect(truth: dict[str, Any], ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    return {
        id_: [{**action, "score": 0.5 + 0.001 * int(id_[5:])} for action in truth[id_]["annotations"]] for id_ in ids
    }


def scored(results: dict[str, Any], config: Config, folder: Path) -> Score:
    path = folder / "predictions.json"
    path.write_text(json.dumps({"results": results}))
    return score(path, config)


def problem(result: Score, what: str) -> str:
    """Return the one problem that says ``what``."""
    (line,) = [line for line in result.problems if what in line]
    return line.partition("predictions.json: ")[2]


def test_nothing_is_odd_about_perfect_detections(config: Config, truth: dict[str, Any], tmp_path: Path) -> None:
    result = scored(perfect(truth, VALIDATION), config, tmp_path)
    assert result.evaluation.average_mAP == 1.0
    assert not result.problems


def test_the_order_of_detections_does_not_matter(config: Config, truth: dict[str, Any], tmp_path: Path) -> None:
    results = perfect(truth, VALIDATION)
    for number, entries in enumerate(results.values()):
        entries.append({"label": "run", "score": 0.6 + 0.01 * number, "segment": [number, number + 3.0]})
    sorted_down = {id_: sorted(found, key=lambda entry: -entry["score"]) for id_, found in results.items()}
    sorted_up = {id_: sorted(found, key=lambda entry: entry["score"]) for id_, found in reversed(results.items())}
    records = [scored(one, config, tmp_path).to_record() for one in (results, sorted_down, sorted_up)]
    assert records[0] == records[1] == records[2]
    assert records[0]["average_mAP"] < 1.0


def test_a_submission_of_another_subset_is_named(config: Config, truth: dict[str, Any], tmp_path: Path) -> None:
    result = scored(perfect(truth, ["video0", "video1"]), config, tmp_path)
    assert result.evaluation.average_mAP == 0.0
    assert problem(result, "outside") == (
        "2 detections are in 2 videos outside the subset validation (first: video0; 2 of subset training); "
        "they count as false positives"
    )
    assert problem(result, "no detection") == "6 videos of the subset validation have no detection (first: video6)"


def test_two_subsets_mixed_up_are_named(config: Config, truth: dict[str, Any], tmp_path: Path) -> None:
    results = perfect(truth, [*VALIDATION, "video3"]) | {"elsewhere": perfect(truth, ["video6"])["video6"]}
    result = scored(results, config, tmp_path)
    assert result.evaluation.average_mAP < 1.0
    assert "(first: video3; 1 of subset training, 1 not in the annotations)" in problem(result, "outside")


def test_no_detection_at_all_scores_zero_and_is_said(config: Config, tmp_path: Path) -> None:
    empty: tuple[dict[str, Any], ...] = ({}, {id_: [] for id_ in VALIDATION})
    for results in empty:
        result = scored(results, config, tmp_path)
        assert result.evaluation.average_mAP == 0.0
        assert problem(result, "holds no detection").endswith("every action of it is missed")


def test_unusable_detections_are_named(config: Config, truth: dict[str, Any], tmp_path: Path) -> None:
    results = perfect(truth, VALIDATION)
    segment = results["video6"][0]["segment"]
    results["video7"] += [
        {"label": "run", "score": math.nan, "segment": segment},
        {"label": "swim", "score": 0.9, "segment": segment},
        {"label": "run", "score": 0.9, "segment": [0.0]},
    ]
    result = scored(results, config, tmp_path)
    assert result.evaluation.average_mAP == 1.0
    assert problem(result, "NaN") == (
        "1 detections whose score is NaN or infinite, left out (first: video video7, label 'run')"
    )
    assert "label 'swim'" in problem(result, "unknown class")
    assert "video7" in problem(result, "malformed")


def test_classes_without_true_actions_are_named(config: Config, truth: dict[str, Any], tmp_path: Path) -> None:
    fold = config.model_copy(update={"data": config.data.model_copy(update={"blocked": ("video7", "v_video9")})})
    only_run = {"video11": {**truth["video11"], "annotations": []}}
    (tmp_path / "annotations.json").write_text(json.dumps({"database": truth | only_run}))
    fold = fold.model_copy(update={"data": fold.data.model_copy(update={"root": tmp_path})})
    results = perfect(truth, VALIDATION)
    result = scored(results, fold, tmp_path)
    assert result.evaluation.counts.videos == 4
    assert problem(result, "without true actions") == (
        "1 detections are of 1 classes without true actions in the subset validation (first: jump); "
        "mAP does not see them"
    )
    # The list spells one id with "v_", the annotations without.
    assert problem(result, "blocked") == ("2 detections are in blocked videos (first: video7); they are left out")


def test_a_subset_that_is_not_there_is_named(config: Config, truth: dict[str, Any], tmp_path: Path) -> None:
    absent = config.model_copy(update={"data": config.data.model_copy(update={"test_subsets": ("testing",)})})
    with pytest.raises(NothingToDoError, match="no video in subset 'testing'"):
        scored(perfect(truth, VALIDATION), absent, tmp_path)
    with pytest.raises(DataError, match=r"nowhere\.json"):
        score(tmp_path / "nowhere.json", config)


def changed(config: Config, truth: dict[str, Any], folder: Path, **settings: Any) -> Config:
    """Return the experiment with other annotations, and other settings of ``data``."""
    (folder / "annotations.json").write_text(json.dumps({"database": truth}))
    data = config.data.model_copy(update={"annotations": folder / "annotations.json", **settings})
    return config.model_copy(update={"data": data})


@pytest.mark.parametrize("duration", [{}, {"duration": 0}])
def test_durations_do_not_matter(
    config: Config, truth: dict[str, Any], tmp_path: Path, duration: dict[str, Any]
) -> None:
    without = truth | {
        id_: {key: value for key, value in truth[id_].items() if key != "duration"} | duration for id_ in VALIDATION[:4]
    }
    for found in (VALIDATION, VALIDATION[:4], VALIDATION[4:]):
        results = perfect(truth, found)
        expected = scored(results, config, tmp_path).to_record()
        assert scored(results, changed(config, without, tmp_path), tmp_path).to_record() == expected


def test_an_ignored_class_is_left_out_of_both_sides(config: Config, truth: dict[str, Any], tmp_path: Path) -> None:
    doubtful = {id_: {**video, "annotations": [*video["annotations"]]} for id_, video in truth.items()}
    doubtful["video6"]["annotations"].append({"label": "Ambiguous", "segment": [0, 5]})
    result = scored(perfect(truth, VALIDATION), changed(config, doubtful, tmp_path), tmp_path)
    assert result.evaluation.average_mAP < 1
    left_out = changed(config, doubtful, tmp_path, ignored_classes=("Ambiguous",))
    results = perfect(doubtful, VALIDATION)
    result = scored(results, left_out, tmp_path)
    assert result.evaluation.average_mAP == 1
    assert problem(result, "data.ignored_classes, left out") == (
        "1 detections of a class of data.ignored_classes, left out (first: video video6, label 'Ambiguous')"
    )


def test_labelled_detections_are_scored_without_classes(config: Config, truth: dict[str, Any], tmp_path: Path) -> None:
    post = config.postprocess.model_copy(update={"classes": "agnostic"})
    agnostic = config.model_copy(update={"postprocess": post})
    result = scored(perfect(truth, VALIDATION), agnostic, tmp_path)
    assert result.evaluation.average_mAP == 1
    assert result.evaluation.classes == ("action",)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="shared data absent")
def test_activitynets_own_truth_is_perfect_whatever_the_durations(tmp_path: Path) -> None:
    # So says sming256/ETAD, lib/eval/eval_detection.py, commit 33d2733.
    with gzip.open(SHARED / "data" / "activitynet" / "activity_net.v1-3.json.gz") as file:
        database = json.load(file)["database"]
    videos = {id_: video for id_, video in database.items() if video["subset"] == "validation"}
    for video in list(videos.values())[::3]:
        del video["duration"]
    results = {id_: [{**action, "score": 1.0} for action in video["annotations"]] for id_, video in videos.items()}
    config = changed(load_config("anet_features"), videos, tmp_path, train_subsets=("validation",), blocked=())
    result = scored(results, config, tmp_path)
    assert result.evaluation.mAP.tolist() == [1.0] * 10
    assert result.evaluation.counts.instances == 7654
