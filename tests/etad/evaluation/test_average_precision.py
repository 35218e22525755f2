"""Evaluation: published figures, planted faults, and properties that hold for any detections."""

import gzip
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etad.config import EvaluateConfig
from etad.detections.class_scores import read_class_scores
from etad.detections.detections import Detections
from etad.detections.submissions import load_submission, parse_submission
from etad.errors import NothingToDoError
from etad.evaluation.average_precision import (
    ACTIVITYNET_TIOU,
    Evaluation,
    GroundTruth,
    evaluate,
    exact_thresholds,
    format_table,
    mean_average_precision,
)
from etad.evaluation.duplicates import without_duplicates
from etad.evaluation.false_positives import CATEGORIES, false_positives, format_profile
from tests.paths import FIXTURES, SHARED

REFERENCE = FIXTURES / "postprocess.npz"
SHARED_DATA = SHARED / "data"
CLASSES = ("class0", "class1", "class2")

needs_data = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the third-party data is not here")

Truth = dict[str, tuple[Any, Any]]
Found = dict[str, Detections]


def detections(segments: Any, labels: Any, scores: Any = None) -> Detections:
    labels = np.array(labels, dtype=np.int64)
    scores = np.linspace(1.0, 0.5, len(labels)) if scores is None else np.array(scores, dtype=np.float64)
    return Detections(np.array(segments, dtype=np.float64).reshape(-1, 2), scores, labels)


def truth(**videos: list[tuple[float, float, int]]) -> Truth:
    """True actions from (start, end, class) triples."""
    return {
        video_id: (
            np.array([[start, end] for start, end, _ in actions], dtype=np.float64).reshape(-1, 2),
            np.array([label for *_, label in actions], dtype=np.int64),
        )
        for video_id, actions in videos.items()
    }


def perfect(ground_truth: GroundTruth) -> Found:
    return {video_id: detections(segments, labels) for video_id, (segments, labels) in ground_truth.items()}


def naive_average_precision(ground_truth: GroundTruth, found: Found, label: int, threshold: float) -> float:
    """AP of one class at one threshold, written out detection by detection; scores must differ."""
    ranked = sorted(
        (-score, video_id, segment)
        for video_id, entry in found.items()
        for segment, score, own in zip(entry.segments_s.tolist(), entry.scores, entry.labels, strict=True)
        if own == label
    )
    wanted = {
        (video_id, number): segment
        for video_id, (segments, labels) in ground_truth.items()
        for number, (segment, own) in enumerate(zip(segments.tolist(), labels, strict=True))
        if own == label
    }
    total, hits, precision = len(wanted), [], []
    for rank, (_, video_id, (start, end)) in enumerate(ranked, 1):
        best, best_tiou = None, threshold
        for key, (true_start, true_end) in wanted.items():
            overlap = max(0.0, min(end, true_end) - max(start, true_start))
            tiou = overlap / ((end - start) + (true_end - true_start) - overlap)
            if key[0] == video_id and tiou >= best_tiou:
                best, best_tiou = key, tiou
        if best is not None:
            del wanted[best]
        hits.append(best is not None)
        precision.append(sum(hits) / rank)
    return sum(max(precision[rank:]) for rank, hit in enumerate(hits) if hit) / total


def naive_average_recall(ground_truth: GroundTruth, found: Found, wanted: int) -> float:
    """AR at ``wanted`` proposals a video, written out: every video gives the same part of what it has."""
    ranked = {
        video_id: [segment for _, segment in sorted(zip(-entry.scores, entry.segments_s.tolist(), strict=True))]
        for video_id, entry in found.items()
    }
    total = sum(len(segments) for segments in ranked.values())
    part = wanted / 100 * (100 * len(ground_truth) / total)
    recalls = []
    for threshold in ACTIVITYNET_TIOU:
        hits = []
        for video_id, (segments, _) in ground_truth.items():
            used = ranked[video_id][: int(len(ranked[video_id]) * part)]
            for true_start, true_end in segments.tolist():
                overlaps = [max(0.0, min(end, true_end) - max(start, true_start)) for start, end in used]
                spans = [(end - start) + (true_end - true_start) for start, end in used]
                hits.append(any(o / (s - o) >= threshold for o, s in zip(overlaps, spans, strict=True)))
        recalls.append(np.mean(hits))
    return float(np.mean(recalls))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Truth, Found]:
    """A few videos with true actions, and detections near them or anywhere, with different scores."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    ground_truth: Truth = {}
    found: Found = {}
    videos = draw(st.integers(1, 5))
    scores = iter(random.permutation(np.linspace(0.01, 0.99, 200)).tolist())
    for number in range(videos):
        actions = int(random.integers(1, 5))
        starts = random.uniform(0, 50, actions)
        segments = np.stack([starts, starts + random.uniform(1, 20, actions)], axis=1)
        labels = random.integers(0, len(CLASSES), actions)
        ground_truth[f"video{number}"] = (segments, labels)
        count = int(random.integers(0, 12))
        chosen = random.integers(0, actions, count)
        shifted = segments[chosen] + random.normal(0, 1, (count, 1))
        shifted[:, 1] += random.uniform(0, 2, count)
        own = np.where(random.uniform(size=count) < 0.8, labels[chosen], random.integers(0, len(CLASSES), count))
        found[f"video{number}"] = detections(shifted, own, [next(scores) for _ in range(count)])
    return ground_truth, found


# --- published figures ---


def test_published_map_is_reproduced() -> None:
    with np.load(REFERENCE) as arrays:
        numbers = {name: number for number, name in enumerate(CLASSES)}
        ground_truth = {}
        found = {}
        for video in (f"video{number}" for number in range(6)):
            ground_truth[video] = (
                arrays[f"{video}.gt"],
                np.array([numbers[name] for name in arrays[f"{video}.gt_labels"]]),
            )
            labels = [numbers[name] for name in arrays[f"{video}.labels"]]
            found[video] = detections(arrays[f"{video}.segments"], labels, arrays[f"{video}.scores"])
        result = evaluate(ground_truth, found, CLASSES)
        np.testing.assert_allclose(result.mAP, arrays["mAP"], rtol=0, atol=1e-9)
        assert result.average_mAP == pytest.approx(float(arrays["average_mAP"]), abs=1e-9)


@needs_data
def test_autoloc_on_thumos() -> None:
    tree = json.loads((SHARED_DATA / "predictions" / "autoloc_TH14.json").read_text())
    ground_truth = truth(
        **{
            video_id: [(*action["segment"], action["label"]) for action in actions]
            for video_id, actions in tree["ground_truth"].items()
        }
    )
    found = {
        video_id: detections(
            [entry["segment"] for entry in entries],
            [entry["label"] for entry in entries],
            [entry["score"] for entry in entries],
        )
        for video_id, entries in tree["results"].items()
    }
    labels = {label for _, numbers in ground_truth.values() for label in numbers.tolist()}
    classes = tuple(str(number) for number in range(max(labels) + 1))
    result = evaluate(ground_truth, found, classes, tree["tiou"])
    np.testing.assert_allclose(result.mAP, tree["map_recomputed"], rtol=0, atol=1e-9)
    # Three videos of the file are not annotated; their detections count as wrong.
    assert result.counts.unknown_video == 275


@pytest.fixture(scope="module")
def activitynet() -> tuple[Truth, dict[str, float], tuple[str, ...]]:
    path = SHARED_DATA / "activitynet" / "activity_net.v1-3.json.gz"
    if not path.is_file():
        pytest.skip("the ActivityNet annotations are not here")
    with gzip.open(path) as file:
        database = json.load(file)["database"]
    videos = {video_id: video for video_id, video in database.items() if video["subset"] == "validation"}
    classes = tuple(sorted({action["label"] for video in videos.values() for action in video["annotations"]}))
    numbers = {name: number for number, name in enumerate(classes)}
    ground_truth = truth(
        **{
            video_id: [(*action["segment"], numbers[action["label"]]) for action in video["annotations"]]
            for video_id, video in videos.items()
        }
    )
    return ground_truth, {video_id: video["duration"] for video_id, video in videos.items()}, classes


ActivityNet = tuple[Truth, dict[str, float], tuple[str, ...]]


@needs_data
def test_the_activitynet_sample_is_perfect(activitynet: ActivityNet) -> None:
    ground_truth, _, classes = activitynet
    path = SHARED_DATA / "predictions" / "activitynet_sample.json"
    found, warnings = parse_submission(load_submission(path), path, classes)
    blocked = json.loads((SHARED_DATA / "activitynet" / "blocked.json").read_text())
    assert warnings == []
    everything = evaluate(ground_truth, found, classes)
    assert everything.mAP.tolist() == [1.0] * 10
    assert everything.counts.instances == 7654
    unblocked = evaluate(ground_truth, found, classes, blocked=set(blocked))
    assert unblocked.mAP.tolist() == [1.0] * 10
    assert (unblocked.counts.blocked_videos, unblocked.counts.videos) == (31, 4895)
    # OpenTAD's own function leaves 7,630 of them (opentad/evaluations/builder.py, commit 3dd7b03).
    unique = evaluate(ground_truth, found, classes, remove_duplicates=True)
    assert (unique.counts.instances, unique.counts.duplicates_removed) == (7630, 24)
    assert 0.998 < unique.average_mAP < 1


@needs_data
def test_floor_and_ceiling_of_the_video_level_classes(activitynet: ActivityNet) -> None:
    ground_truth, durations_s, classes = activitynet
    scores = read_class_scores(SHARED_DATA / "activitynet" / "val_top1.json", classes)
    floor, ceiling = {}, {}
    for video_id, (segments, _) in ground_truth.items():
        label = int(scores.of(video_id).argmax())
        score = scores.of(video_id)[label]
        floor[video_id] = detections([[0, durations_s[video_id]]], [label], [score])
        ceiling[video_id] = detections(segments, [label] * len(segments), [score] * len(segments))
    assert 100 * evaluate(ground_truth, floor, classes).average_mAP == pytest.approx(19.66, abs=0.01)
    assert 100 * evaluate(ground_truth, ceiling, classes).average_mAP == pytest.approx(87.1, abs=0.05)


# --- properties ---


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_average_precision_equals_the_plain_one(scene: tuple[Truth, Found]) -> None:
    ground_truth, found = scene
    result = evaluate(ground_truth, found, CLASSES, (0.3, 0.5, 0.75))
    for row, threshold in enumerate(result.tiou):
        for label in range(len(CLASSES)):
            if any((labels == label).any() for _, labels in ground_truth.values()):
                expected = naive_average_precision(ground_truth, found, label, threshold)
                assert result.ap[row, label] == pytest.approx(expected, abs=1e-12)
            else:
                assert np.isnan(result.ap[row, label])


@pytest.mark.parametrize("seed", range(5))
def test_detections_that_compete_for_many_actions(seed: int) -> None:
    """Chains of second and third choices: many actions that overlap each other, and more detections."""
    random = np.random.default_rng(seed)
    starts = random.uniform(0, 12, 15)
    segments = np.stack([starts, starts + random.uniform(8, 12, 15)], axis=1)
    guesses = segments[random.integers(0, 15, 80)] + random.normal(0, 1, (80, 2))
    ground_truth: Truth = {"a": (segments, np.zeros(15, dtype=np.int64))}
    found = {"a": detections(guesses, np.zeros(80), random.permutation(80) / 80)}
    thresholds = (0.1, 0.4, 0.5, 0.6, 0.7, 0.8)
    ap = evaluate(ground_truth, found, CLASSES, thresholds).ap[:, 0]
    expected = [naive_average_precision(ground_truth, found, 0, threshold) for threshold in thresholds]
    np.testing.assert_allclose(ap, expected, rtol=0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(scenes())
def test_map_alone_is_that_of_the_evaluation(scene: tuple[Truth, Found]) -> None:
    np.testing.assert_array_equal(mean_average_precision(*scene, CLASSES), evaluate(*scene, CLASSES).mAP)


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_average_recall_equals_the_plain_one(scene: tuple[Truth, Found]) -> None:
    ground_truth, found = scene
    if any(len(entry) for entry in found.values()):
        result = evaluate(ground_truth, found, CLASSES)
        for wanted in (1, 2, 3, 5, 8, 100):
            expected = naive_average_recall(ground_truth, found, wanted)
            assert result.average_recall[wanted - 1] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_perfect_detections_are_perfect(scene: tuple[Truth, Found]) -> None:
    ground_truth, _ = scene
    result = evaluate(ground_truth, perfect(ground_truth), CLASSES)
    assert result.mAP.tolist() == [1.0] * 10
    assert result.average_mAP == 1.0
    assert result.average_recall[-1] == 1.0


@settings(max_examples=40, deadline=None)
@given(scenes(), st.randoms(use_true_random=False))
def test_order_of_different_scores_does_not_matter(scene: tuple[Truth, Found], random: Any) -> None:
    ground_truth, found = scene
    shuffled = {}
    for video_id in random.sample(list(found), len(found)):
        order = random.sample(range(len(found[video_id])), len(found[video_id]))
        entry = found[video_id]
        shuffled[video_id] = Detections(entry.segments_s[order], entry.scores[order], entry.labels[order])
    first, second = evaluate(ground_truth, found, CLASSES), evaluate(ground_truth, shuffled, CLASSES)
    np.testing.assert_array_equal(first.ap, second.ap)
    np.testing.assert_array_equal(first.average_recall, second.average_recall)


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_figures_are_fractions_and_fall_with_the_threshold(scene: tuple[Truth, Found]) -> None:
    result = evaluate(*scene, CLASSES)
    assert (np.diff(result.mAP) <= 1e-12).all()
    assert (np.diff(result.average_recall) >= 0).all()
    assert 0 <= result.average_mAP <= 1
    assert 0 <= result.recall_auc <= 1


# --- planted faults ---

PLANTED = truth(
    a=[(0, 10, 0), (20, 40, 1)],
    b=[(5, 9, 2), (30, 60, 0)],
    c=[(2, 8, 1)],
)


def test_wrong_labels_cost_everything() -> None:
    wrong = {
        video_id: Detections(entry.segments_s, entry.scores, (entry.labels + 1) % 3)
        for video_id, entry in perfect(PLANTED).items()
    }
    result = evaluate(PLANTED, wrong, CLASSES)
    assert result.average_mAP == 0
    # Recall is blind to classes.
    assert result.average_recall[-1] == 1


def test_a_shift_costs_the_short_actions_first() -> None:
    shifted = {
        video_id: Detections(entry.segments_s + 2.0, entry.scores, entry.labels)
        for video_id, entry in perfect(PLANTED).items()
    }
    result = evaluate(PLANTED, shifted, CLASSES, (0.5, 0.7, 0.9))
    # tIoU after the shift: (length - 2) / (length + 2): 4 s .33, 6 s .50, 10 s .67, 20 s .82, 30 s .88.
    by_class = {name: result.ap[:, number].tolist() for number, name in enumerate(CLASSES)}
    assert by_class["class2"] == [0, 0, 0]
    # At 0.7 only the 20 s action is left, behind the wrong one: recall 1/2 at precision 1/2.
    assert by_class["class1"] == [1, pytest.approx(0.25), 0]
    assert by_class["class0"][0] == 1
    assert 0 < by_class["class0"][1] < 1


def test_duplicates_cost_precision_of_what_follows() -> None:
    ground_truth = truth(a=[(0, 10, 0)], b=[(0, 10, 0)])
    once = {"a": detections([[0, 10]], [0], [0.9]), "b": detections([[0, 10]], [0], [0.8])}
    twice = once | {"a": detections([[0, 10], [0, 10]], [0, 0], [0.9, 0.85])}
    assert evaluate(ground_truth, once, CLASSES).average_mAP == 1
    assert evaluate(ground_truth, twice, CLASSES).average_mAP == pytest.approx((1 + 2 / 3) / 2)


def test_a_detection_takes_the_next_action_when_its_best_is_taken() -> None:
    ground_truth = truth(a=[(0, 10, 0), (1, 11, 0)])
    found = {"a": detections([[0, 10], [0, 10]], [0, 0], [0.9, 0.8])}
    # The second detection overlaps the second action by 9 / 11 = 0.82.
    assert evaluate(ground_truth, found, CLASSES, (0.8, 0.85)).mAP.tolist() == [1.0, 0.5]


def test_a_tiou_equal_to_the_threshold_counts() -> None:
    found = {"a": detections([[0, 5]], [0])}
    assert evaluate(truth(a=[(0, 10, 0)]), found, CLASSES, (0.5,)).average_mAP == 1


def test_among_equal_scores_the_later_one_comes_first() -> None:
    ground_truth = truth(a=[(0, 10, 0)])
    right, wrong = [0.0, 10.0], [50.0, 60.0]
    assert evaluate(ground_truth, {"a": detections([wrong, right], [0, 0], [1, 1])}, CLASSES).average_mAP == 1
    assert evaluate(ground_truth, {"a": detections([right, wrong], [0, 0], [1, 1])}, CLASSES).average_mAP == 0.5


def test_actions_without_length_can_be_found() -> None:
    ground_truth = truth(a=[(3, 3, 0)])
    assert evaluate(ground_truth, perfect(ground_truth), CLASSES).average_mAP == 1


def test_the_thresholds_are_numpys_to_the_bit() -> None:
    assert np.linspace(0.5, 0.95, 10).tolist() == list(ACTIVITYNET_TIOU)
    assert exact_thresholds((0.9, 0.5, 0.4, 0.899)).tolist() == [0.4, 0.5, 0.899, 0.8999999999999999]


def test_a_tiou_between_the_published_threshold_and_its_decimal_is_a_hit() -> None:
    # sming256/ETAD, lib/eval/eval_detection.py, commit 33d2733, gives 90.0 for these.
    found = {"a": detections([[136.86, 311.55]], [0])}
    for tiou in (ACTIVITYNET_TIOU, EvaluateConfig().tiou):
        result = evaluate(truth(a=[(121.33, 315.43, 0)]), found, CLASSES, tiou)
        assert result.mAP.tolist() == [1.0] * 9 + [0.0]
        assert list(result.to_record()["mAP_by_tiou"])[8] == "0.9"


def test_a_true_action_that_ends_before_it_starts_is_missed() -> None:
    # The same evaluator gives 50.0, and 100.0 for the detection of its length.
    ground_truth = truth(a=[(9, 3, 0), (20, 30, 0)])
    assert evaluate(ground_truth, {"a": detections([[20, 30]], [0])}, CLASSES).mAP.tolist() == [0.5] * 10
    assert evaluate(ground_truth, {"a": detections([[3, 9], [20, 30]], [0, 0])}, CLASSES).average_mAP == 1.0


def test_detections_that_end_before_they_start_take_actions_of_their_length() -> None:
    # The same evaluator gives 100.0, then 0.0: what is swapped overlaps with nothing, but 0/0 is a match.
    ground_truth = truth(a=[(10, 20, 0), (50, 80, 0)])
    assert evaluate(ground_truth, {"a": detections([[20, 10], [80, 50]], [0, 0])}, CLASSES).average_mAP == 1.0
    assert evaluate(ground_truth, {"a": detections([[20, 11], [80, 51]], [0, 0])}, CLASSES).average_mAP == 0.0


def test_duplicates_are_removed_as_opentad_does() -> None:
    ground_truth = truth(a=[(10, 20, 0), (10.0005, 20.0009, 0), (10, 20, 1), (5, 5, 0), (7, 6, 0), (10.0015, 20, 0)])
    found = {"a": detections([[10, 20], [10, 20], [10.0015, 20]], [0, 1, 0], [0.9, 0.8, 0.7])}
    result = evaluate(ground_truth, found, CLASSES, remove_duplicates=True)
    # Of a chain, each is compared with those that stay: 10.0015 is near the one that went, not the one that stayed.
    assert (result.counts.instances, result.counts.duplicates_removed) == (3, 3)
    assert result.average_mAP == 1.0
    with pytest.raises(NothingToDoError, match="has no annotated action that ends after it starts"):
        evaluate(truth(a=[(5, 5, 0)]), found, CLASSES, remove_duplicates=True)


@given(st.integers(0, 2**32 - 1))
def test_duplicates_are_those_of_the_plain_rule(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(0, 30))
    near = random.choice([0, 5e-4, 1e-3, -1e-3], (count, 2))
    segments = np.round(random.uniform(0, 2, (count, 2)), int(random.integers(0, 4))) + near
    labels, videos = random.integers(0, 2, count), np.sort(random.integers(0, 2, count))
    kept: list[int] = []
    for action in range(count):
        alike = [
            other
            for other in kept
            if (videos[other], labels[other]) == (videos[action], labels[action])
            and (np.abs(segments[other] - segments[action]) <= 1e-3).all()
        ]
        if segments[action, 1] > segments[action, 0] and not alike:
            kept.append(action)
    assert without_duplicates(videos, labels, segments).tolist() == kept


# --- what is counted ---


def test_classes_without_predictions_count_as_zero_and_without_truth_not_at_all() -> None:
    ground_truth = truth(a=[(0, 10, 0), (20, 30, 1)])
    found = {"a": detections([[0, 10], [0, 10]], [0, 2])}
    result = evaluate(ground_truth, found, CLASSES)
    assert result.ap[0, :2].tolist() == [1, 0]
    assert np.isnan(result.ap[0, 2])
    assert result.average_mAP == 0.5
    assert result.counts.unknown_class == 1
    assert result.counts.classes == 2


def test_detections_in_unknown_videos_are_wrong_and_counted() -> None:
    ground_truth = truth(a=[(0, 10, 0)])
    found = {"z": detections([[0, 10]], [0], [1.0]), "a": detections([[0, 10]], [0], [0.5])}
    result = evaluate(ground_truth, found, CLASSES)
    assert result.average_mAP == 0.5
    assert result.counts.unknown_video == 1


def test_blocked_videos_leave_both_sides() -> None:
    ground_truth = truth(a=[(0, 10, 0)], b=[(0, 10, 0)])
    found = {"a": detections([[0, 10]], [0]), "b": detections([[70, 90]], [0], [2.0])}
    result = evaluate(ground_truth, found, CLASSES, blocked={"b", "elsewhere"})
    assert result.average_mAP == 1
    assert (result.counts.blocked_videos, result.counts.blocked_detections, result.counts.videos) == (1, 1, 1)


def test_no_detections_score_zero() -> None:
    for found in ({}, {"a": Detections.empty()}):
        result = evaluate(truth(a=[(0, 10, 0)]), found, CLASSES)
        assert result.average_mAP == 0
        assert result.recall_auc == 0
        assert result.counts.videos_without_detections == 1


def test_an_empty_subset_is_named() -> None:
    with pytest.raises(NothingToDoError, match="subset validation: has no annotated action"):
        evaluate({}, {}, CLASSES, name="subset validation")
    with pytest.raises(NothingToDoError, match="1 of its videos are blocked"):
        evaluate(truth(a=[(0, 1, 0)]), {}, CLASSES, blocked={"a"})


# --- proposals ---


def test_average_recall_follows_rank() -> None:
    # The true segment is the second of four proposals in every video.
    ground_truth = truth(a=[(0, 10, 0)], b=[(0, 10, 0)])
    segments = [[50, 60], [0, 10], [70, 80], [90, 95]]
    found = {video_id: detections(segments, [0, 1, 2, 0]) for video_id in ground_truth}
    result = evaluate(ground_truth, found, CLASSES)
    assert result.average_recall[:5].tolist() == [0, 1, 1, 1, 1]


def test_a_segment_of_two_classes_is_one_proposal() -> None:
    ground_truth = truth(a=[(0, 10, 0)])
    double = {"a": detections([[50, 60], [50, 60], [0, 10]], [0, 1, 0])}
    single = {"a": detections([[50, 60], [0, 10]], [0, 0])}
    first, second = (evaluate(ground_truth, found, CLASSES).average_recall for found in (double, single))
    np.testing.assert_array_equal(first, second)


# --- views of the result ---


@pytest.fixture
def planted() -> Evaluation:
    return evaluate(PLANTED, perfect(PLANTED), (*CLASSES, "unseen"))


def test_the_record_is_plain_json(planted: Evaluation) -> None:
    record = planted.to_record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert list(record["mAP_by_tiou"]) == [f"{tiou:g}" for tiou in ACTIVITYNET_TIOU]
    assert record["ap_by_class"]["unseen"] == [None] * 10
    assert record["average_recall_by_proposals"]["100"] == 1
    assert record["counts"]["instances"] == 5


def test_the_table_lines_up(planted: Evaluation) -> None:
    lines = format_table(planted).splitlines()
    assert len(lines[0]) == len(lines[1])
    assert lines[0].split()[-1] == "average"
    assert lines[1].split() == ["100.00"] * 11
    assert lines[2].split()[0] == "AR@1"
    assert lines[-1] == "5 detections, 5 actions of 3 classes in 3 videos"


# --- false positives ---


def test_every_kind_of_false_positive_is_told_apart() -> None:
    ground_truth = truth(a=[(0, 10, 0), (20, 30, 1)])
    kinds = {
        "true_positive": ([0, 10], 0),
        "double_detection": ([0, 9], 0),
        "wrong_label": ([20, 29], 0),
        "localisation": ([0, 3], 0),
        "confusion": ([20, 23], 0),
        "background": ([70, 80], 0),
    }
    found = {"a": detections(*zip(*kinds.values(), strict=True))}
    profile = false_positives(ground_truth, found, CLASSES)
    # Class 0 has one action, so every group holds one detection, in order of score.
    for number, name in enumerate(kinds):
        assert profile.counts[number].tolist() == [int(name == category) for category in CATEGORIES]
    assert profile.shares[6:].sum() == 0


def test_the_profile_looks_at_ten_times_as_many_detections_as_actions() -> None:
    ground_truth = truth(a=[(0, 10, 0), (20, 30, 0)])
    found = {"a": detections([[50 + i, 60 + i] for i in range(35)], [0] * 30 + [2] * 5)}
    profile = false_positives(ground_truth, found, CLASSES)
    assert profile.counts.sum(axis=1).tolist() == [2] * 10
    assert json.loads(json.dumps(profile.to_record())) == profile.to_record()
    assert len(format_profile(profile).splitlines()) == 11


@settings(max_examples=30, deadline=None)
@given(scenes())
def test_true_positives_of_the_profile_are_those_of_the_evaluation(scene: tuple[Truth, Found]) -> None:
    ground_truth, found = scene
    profile = false_positives(ground_truth, found, CLASSES)
    sums = profile.counts.sum(axis=1)
    np.testing.assert_allclose(profile.shares.sum(axis=1)[sums > 0], 1)
    actions = sum(len(labels) for _, labels in ground_truth.values())
    assert profile.counts[:, 0].sum() <= actions


def test_a_profile_of_nothing_is_empty() -> None:
    assert false_positives(truth(a=[(0, 10, 0)]), {}, CLASSES).counts.sum() == 0
