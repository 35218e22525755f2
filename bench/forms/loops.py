"""Soft-NMS and mAP written out detection by detection, and their times beside the vectorised ones of ``etad``.

The loops are what one would write first, and the references of two targets; results are equal. They get what the
vectorised forms get, on the host.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from bench.cells import Cell
from bench.forms.differences import difference_metrics
from bench.forms.side_by_side import speedup
from bench.machine.clocks import HostClock, Round, Stopwatch
from bench.machine.environment import collect_environment, device_slug
from bench.machine.processes import Outcome, run_isolated
from bench.measure.host_workloads import random_detections
from bench.measure.rounds import Limits, counted_rounds, take_rounds
from bench.measure.timing import TIMEOUT_S
from bench.records.draft import Asked, Draft, draft
from bench.records.record import Record
from bench.suites.throughput import SUITE, sampled, shortfall, stability_finding
from etad.config import Config
from etad.detections.detections import Detections
from etad.detections.soft_nms import soft_nms
from etad.evaluation.average_precision import ACTIVITYNET_TIOU, GroundTruth, mean_average_precision
from etad.host_memory import keep_freed_memory

Floats = NDArray[np.float64]
FORMS = ("loop", "vectorised")
VIDEOS, DETECTIONS, CLASSES = 200, 200, 200
"""Of the evaluation: as many detections a video as published, and as many classes as ActivityNet; fewer videos."""


@dataclass(frozen=True)
class LoopRow:
    """One row.

    Attributes:
        row: its name.
        task: its key in the record.
        least: ratio to reach.
        make: returns the two forms; both give the same array.
    """

    row: str
    task: str
    least: float
    make: Callable[[Config], tuple[Callable[[], Floats], Callable[[], Floats]]]


def soft_nms_loop(
    segments: Sequence[tuple[float, float]], scores: Sequence[float], sigma: float, max_segments: int
) -> tuple[list[int], list[float]]:
    """Gaussian soft-NMS, see :func:`etad.detections.soft_nms.soft_nms`; return what is kept and its scores."""
    live = dict(enumerate(scores))
    kept: list[int] = []
    kept_scores: list[float] = []
    while live and len(kept) < max_segments:
        best = max(live, key=live.__getitem__)
        kept.append(best)
        kept_scores.append(live.pop(best))
        start, end = segments[best]
        for number in live:
            other_start, other_end = segments[number]
            overlap = min(end, other_end) - max(start, other_start)
            if overlap > 0:
                tiou = overlap / ((end - start) + (other_end - other_start) - overlap)
                live[number] *= math.exp(-(tiou**2) / sigma)
    return kept, kept_scores


def mean_average_precision_loop(truth: GroundTruth, found: dict[str, Detections], tiou: Sequence[float]) -> list[float]:
    """Return mAP at every threshold, for scores that differ.

    See :func:`etad.evaluation.average_precision.mean_average_precision`.
    """
    ranked: dict[int, list[tuple[float, str, list[float]]]] = defaultdict(list)
    for video_id, entry in found.items():
        for segment, score, label in zip(
            entry.segments_s.tolist(), entry.scores.tolist(), entry.labels.tolist(), strict=True
        ):
            ranked[label].append((score, video_id, segment))
    wanted: dict[tuple[int, str], list[list[float]]] = defaultdict(list)
    instances: dict[int, int] = defaultdict(int)
    for video_id, (segments, labels) in truth.items():
        for segment, label in zip(segments.tolist(), labels.tolist(), strict=True):
            wanted[label, video_id].append(segment)
            instances[label] += 1
    means = []
    for threshold in tiou:
        precisions = []
        for label, count in instances.items():
            taken: set[tuple[str, int]] = set()
            precision, hits = [], []
            for rank, (_, video_id, (start, end)) in enumerate(sorted(ranked[label], reverse=True), 1):
                best, best_tiou = None, threshold
                for number, (true_start, true_end) in enumerate(wanted.get((label, video_id), [])):
                    overlap = max(0.0, min(end, true_end) - max(start, true_start))
                    reached = overlap / ((end - start) + (true_end - true_start) - overlap)
                    if (video_id, number) not in taken and reached >= best_tiou:
                        best, best_tiou = number, reached
                if best is not None:
                    taken.add((video_id, best))
                hits.append(best is not None)
                precision.append(len(taken) / rank)
            highest, area = 0.0, 0.0
            for hit, value in zip(reversed(hits), reversed(precision), strict=True):
                highest = max(highest, value)
                area += highest if hit else 0.0
            precisions.append(area / count)
        means.append(sum(precisions) / len(precisions))
    return means


def nms_forms(config: Config) -> tuple[Callable[[], Floats], Callable[[], Floats]]:
    """Return soft-NMS of all proposals of one video in both forms; they give the kept candidates and their scores."""
    raw, post = random_detections(config, np.random.default_rng(0)), config.postprocess
    segments, scores = raw.segments_in_seconds(), raw.scores.astype(np.float64)
    pairs, plain = [(start, end) for start, end in segments.tolist()], scores.tolist()

    def loop() -> Floats:
        return np.array(soft_nms_loop(pairs, plain, post.soft_nms_sigma, post.max_segments))

    def vectorised() -> Floats:
        return np.array(soft_nms(segments, scores, post.soft_nms_sigma, post.max_segments))

    return loop, vectorised


def evaluation_forms(config: Config) -> tuple[Callable[[], Floats], Callable[[], Floats]]:
    """Return mAP of a made-up set, at every threshold, in both forms."""
    random = np.random.default_rng(0)
    truth: dict[str, tuple[Floats, NDArray[np.int64]]] = {}
    found: dict[str, Detections] = {}
    for number in range(VIDEOS):
        actions = np.sort(random.uniform(0, 100, (2, 2)), axis=1)
        label = random.integers(0, CLASSES)
        truth[str(number)] = (actions, np.full(2, label))
        guesses = np.sort(random.uniform(0, 100, (DETECTIONS, 2)), axis=1)
        guesses[: DETECTIONS // 4] = actions[random.integers(0, 2, DETECTIONS // 4)]
        guesses += random.normal(0.0, 1.0, guesses.shape)
        # As published: every segment with the two best classes of its video, the right one among them mostly.
        labels = np.where(np.arange(DETECTIONS) % 2, label, random.integers(0, CLASSES))
        found[str(number)] = Detections(np.sort(guesses, axis=1), random.random(DETECTIONS), labels)
    classes = [str(number) for number in range(CLASSES)]

    def loop() -> Floats:
        return np.array(mean_average_precision_loop(truth, found, ACTIVITYNET_TIOU))

    def vectorised() -> Floats:
        return mean_average_precision(truth, found, classes)

    return loop, vectorised


LOOP_ROWS = (
    LoopRow("soft-NMS of a video's proposals", "soft_nms", 20.0, nms_forms),
    LoopRow(f"mAP of {VIDEOS} videos", "mean_average_precision", 50.0, evaluation_forms),
)


def time_loops(row: LoopRow, config: Config, limits: Limits) -> tuple[list[list[Round]], float]:
    """Time both forms in turn, and return the largest difference of their results; called in a process of its own."""
    keep_freed_memory()
    forms = row.make(config)
    loop, vectorised = (form() for form in forms)
    rounds = take_rounds(forms, [Stopwatch(HostClock()) for _ in forms], limits)
    return rounds, float(np.abs(loop - vectorised).max())


def compare_loops(cell: Cell, limits: Limits) -> Iterator[tuple[LoopRow, Record]]:
    """Yield the records of every row in both forms, the loop first."""
    environment = collect_environment()
    for row in LOOP_ROWS:
        outcome = run_isolated(time_loops, row, cell.config, limits, timeout_s=TIMEOUT_S)
        for number, form in enumerate(FORMS):
            measurement: dict[str, JsonValue] = {
                "task": row.task,
                "variant": form,
                "variants": list(FORMS),
                "row": row.row,
            }
            asked = Asked(SUITE, "measured", measurement, device_slug(environment))
            of_rows = replace(cell, command="etad-bench throughput --variants published,fast", warnings=())
            yield row, _record(number, outcome, draft(of_rows, outcome, asked, environment), limits)


def _record(number: int, outcome: Outcome[tuple[list[list[Round]], float]], begun: Draft, limits: Limits) -> Record:
    if outcome.value is None:
        return begun.failed(outcome.status, outcome.message)
    taken, difference = outcome.value
    rounds = counted_rounds(taken[number])
    durations = [one.duration_s for one in rounds]
    metrics = {
        "step_s": sampled(durations, "s", HostClock.method),
        "speedup_ratio": speedup(taken[0], taken[number]),
    }
    if number:
        metrics |= difference_metrics({"result_difference": difference})
    findings = {"stability.step_s": stability_finding(durations)}
    return begun.done(metrics, findings=findings, warnings=shortfall(rounds, limits))
