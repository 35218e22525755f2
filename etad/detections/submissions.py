"""Submission files: the detections of a test set in the ActivityNet form."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etad.detections.detections import Detections
from etad.errors import DataError
from etad.files import kind, read_json

SUBMISSION_VERSION = "VERSION 1.3"


def submission(
    results: Mapping[str, Detections], classes: Sequence[str], external_data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return detections in the ActivityNet submission form, ready for JSON.

    Args:
        results: video id -> detections.
        classes: names of the class numbers.
        external_data: what besides the data set was used, e.g. ``{"used": True, "details": "CUHK classifier"}``.
    """
    return {
        "version": SUBMISSION_VERSION,
        "results": {
            video_id: [
                {"label": classes[label], "score": score, "segment": segment}
                for label, score, segment in zip(
                    detections.labels.tolist(),
                    detections.scores.tolist(),
                    detections.segments_s.tolist(),
                    strict=True,
                )
            ]
            for video_id, detections in results.items()
        },
        "external_data": dict(external_data or {"used": False, "details": ""}),
    }


def load_submission(path: Path) -> dict[str, Any]:
    """Return a submission file as plain JSON values.

    Raises:
        DataError: the file cannot be read, is not JSON, or has no object ``results``.
    """
    tree = read_json(path)
    if not isinstance(tree, dict) or not isinstance(tree.get("results"), dict):
        raise DataError(f"{path}: must hold a JSON object with an object 'results' (video id -> detections)")
    return tree


def parse_submission(
    tree: Mapping[str, Any], path: Path, classes: Sequence[str]
) -> tuple[dict[str, Detections], list[str]]:
    """Make detections of a submission file; entries that cannot be used are left out, counted and named.

    Args:
        tree: its content, ``{"results": {id: [{"label", "score", "segment": [start_s, end_s]}]}}``, from
            :func:`load_submission`.
        path: the file.
        classes: names of the class numbers.

    Returns:
        results: video id -> detections, in the order of the file.
        warnings: one line for each kind of problem, with the number of entries and the first of them.

    Raises:
        DataError: the entry of a video is not a list.
    """
    number_of = {name: number for number, name in enumerate(classes)}
    problems = _Problems()
    detections = {}
    for video_id, entries in tree["results"].items():
        if not isinstance(entries, list):
            raise DataError(f"{path}: results of video {video_id} must be a list, not {kind(entries)}")
        detections[video_id] = _read_entries(video_id, entries, number_of, problems)
    return detections, problems.lines(path)


class _Problems:
    """Counts problems by kind and remembers the first example of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def add(self, kind: str, example: str) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._examples.setdefault(kind, example)

    def lines(self, path: Path) -> list[str]:
        return [f"{path}: {count} {kind} (first: {self._examples[kind]})" for kind, count in self._counts.items()]


def _read_entries(video_id: str, entries: list[Any], number_of: Mapping[str, int], problems: _Problems) -> Detections:
    segments: list[tuple[float, float]] = []
    scores: list[float] = []
    labels: list[int] = []
    for entry in entries:
        try:
            label, score = str(entry["label"]), float(entry["score"])
            start_s, end_s = map(float, entry["segment"])
        except (KeyError, TypeError, ValueError):
            problems.add("malformed detections, left out", f"video {video_id}, {json.dumps(entry)[:80]}")
            continue
        if label not in number_of:
            problems.add("detections of an unknown class, left out", f"video {video_id}, label {label!r}")
        elif not math.isfinite(score):
            problems.add("detections whose score is NaN or infinite, left out", f"video {video_id}, label {label!r}")
        elif not (math.isfinite(start_s) and math.isfinite(end_s)):
            problems.add("detections whose segment is NaN or infinite, left out", f"video {video_id}, label {label!r}")
        else:
            if end_s < start_s:
                problems.add(
                    "detections that end before they start, kept; they match nothing",
                    f"video {video_id}, {start_s:g} to {end_s:g} s",
                )
            segments.append((start_s, end_s))
            scores.append(score)
            labels.append(number_of[label])
    return Detections(
        np.array(segments, dtype=np.float64).reshape(-1, 2),
        np.array(scores, dtype=np.float64),
        np.array(labels, dtype=np.int64),
    )
