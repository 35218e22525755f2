"""Submission files: the detections of a test set in the ActivityNet form.

What other programs write is read where only one thing can be meant: ids with or without ``v_``, labels as whole numbers
where the annotations have them too, proposals without a label where there is one class. What could mean two things is
refused, with the remedy.
"""

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etad.detections.detections import Detections, FloatArray, IntArray
from etad.errors import DataError, one_line
from etad.files import kind, parse_json, read_text

SUBMISSION_VERSION = "VERSION 1.3"
MADE_BY = "made_by"
"""Key beside the results, under which ours say what they were made from; evaluation servers ignore it."""

NAMED = 5
"""So many classes an error names."""

SHOWN = 80
"""So many characters of a label are told."""


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
    """Return a submission file, plain or gzipped, as plain JSON values.

    Raises:
        DataError: the file cannot be read, is not JSON, has no object ``results``, or lists a video twice there.
    """
    text = read_text(path)
    tree = parse_json(path, text)
    if not isinstance(tree, dict) or not isinstance(tree.get("results"), dict):
        raise DataError(f"{path}: must hold a JSON object with an object 'results' (video id -> detections)")
    read = sum(len(entries) for entries in tree["results"].values() if isinstance(entries, list))
    if text.count('"segment"') != read:
        # Looking at every object takes three times as long, and only such a file can have lost detections.
        _refuse_repeated(text, path)
    return tree


def _refuse_repeated(text: str, path: Path) -> None:
    """Raise DataError if a video is listed more than once: of several lists, JSON keeps the last without a word."""
    again: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        listed = Counter(key for key, value in pairs if isinstance(value, list) or key == "results")
        again.extend(key for key, count in listed.items() if count > 1 and key != "segment")
        return dict(pairs)

    parse_json(path, text, look)
    if again:
        raise DataError(
            f"{path}: {len(again)} videos are listed more than once in 'results' (first: {again[0]}); "
            "join the detections of a video into one list"
            if again != ["results"]
            else f"{path}: holds 'results' more than once; join them into one object"
        )


def parse_submission(
    tree: Mapping[str, Any],
    path: Path,
    classes: Sequence[str],
    *,
    agnostic: bool = False,
    video_ids: Collection[str] = (),
    ignored: Collection[str] = (),
) -> tuple[dict[str, Detections], list[str]]:
    """Make detections of a submission file; entries that cannot be used are left out, counted and named.

    Args:
        tree: its content, ``{"results": {id: [{"label", "score", "segment": [start_s, end_s]}]}}``, from
            :func:`load_submission`.
        path: the file.
        classes: names of the class numbers.
        agnostic: whatever a detection's label, it is of the only class. A segment that has several labels is one
            detection then, of its best score.
        video_ids: those of the annotations; an id that differs from one only by a leading ``v_`` is taken for it.
        ignored: labels that do not count (``data.ignored_classes``).

    Returns:
        results: video id -> detections, in the order of the file.
        warnings: one line for each kind of problem, with the number of entries and the first of them.

    Raises:
        DataError: the entry of a video is not a list, two entries are of one video, or no detection has a label that
            can be understood.
    """
    reader = _Reader(classes, agnostic, frozenset(ignored))
    detections: dict[str, Detections] = {}
    spelled: dict[str, str] = {}
    for written, entries in tree["results"].items():
        if not isinstance(entries, list):
            raise DataError(f"{path}: results of video {written} must be a list, not {kind(entries)}")
        video_id = _known_id(written, video_ids)
        if video_id in spelled:
            raise DataError(
                f"{path}: {spelled[video_id]} and {written} are one video of the annotations; "
                "join their detections into one list"
            )
        spelled[video_id] = written
        if video_id != written:
            reader.problems.add("videos are written with another 'v_' than in the annotations, read as those", written)
        detections[video_id] = reader.read(written, entries)
    reader.refuse_useless(path)
    return detections, reader.problems.lines(path)


def _known_id(written: str, video_ids: Collection[str]) -> str:
    if written in video_ids:
        return written
    other = written.removeprefix("v_") if written.startswith("v_") else f"v_{written}"
    return other if other in video_ids else written


class _Problems:
    """Counts problems by kind and remembers the first example of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def add(self, kind: str, example: str, count: int = 1) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + count
        self._examples.setdefault(kind, example)

    def lines(self, path: Path) -> list[str]:
        return [f"{path}: {count} {kind} (first: {self._examples[kind]})" for kind, count in self._counts.items()]


class _Reader:
    """Reads the entries of one video after the other, and what is odd about them."""

    def __init__(self, classes: Sequence[str], agnostic: bool, ignored: frozenset[str]) -> None:
        self.problems = _Problems()
        self._classes = classes
        self._number_of = {name: number for number, name in enumerate(classes)}
        self._agnostic = agnostic
        self._ignored = ignored
        self._read = 0
        self._unlabelled = 0
        self._unknown: list[Any] = []

    def read(self, video_id: str, entries: list[Any]) -> Detections:
        """Return the detections of a video that can be used."""
        segments: list[tuple[float, float]] = []
        scores: list[float] = []
        labels: list[int] = []
        foreign = 0
        add = self.problems.add
        for entry in entries:
            try:
                label = entry.get("label")
                score = float(entry["score"])
                start_s, end_s = map(float, entry["segment"])
            except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
                add("malformed detections, left out", f"video {video_id}, {json.dumps(entry)[:80]}")
                continue
            name = str(label) if label is not None else None
            if not math.isfinite(score):
                add("detections whose score is NaN or infinite, left out", f"video {video_id}, label {_shown(name)}")
                continue
            if not (math.isfinite(start_s) and math.isfinite(end_s)):
                add("detections whose segment is NaN or infinite, left out", f"video {video_id}, label {_shown(name)}")
                continue
            if name in self._ignored:
                add(
                    "detections of a class of data.ignored_classes, left out", f"video {video_id}, label {_shown(name)}"
                )
                continue
            number = self._number(name)
            if number is None:
                if name is None:
                    self._unlabelled += 1
                    add("detections without a label, left out", f"video {video_id}, {start_s:g} to {end_s:g} s")
                else:
                    self._unknown.append(label)
                    add("detections of an unknown class, left out", f"video {video_id}, label {_shown(name)}")
                continue
            foreign += name is not None and name not in self._number_of
            if end_s < start_s:
                add(
                    "detections that end before they start, kept as published: only a true action of exactly their "
                    "length, turned round, takes one as found, and elsewhere they count as false positives",
                    f"video {video_id}, {start_s:g} to {end_s:g} s",
                )
            segments.append((start_s, end_s))
            scores.append(score)
            labels.append(number)
        self._read += len(scores)
        return self._as_detections(video_id, segments, scores, labels, foreign)

    def _number(self, name: str | None) -> int | None:
        if name is None or self._agnostic:
            # Of one class, there is nothing to choose.
            return 0 if self._agnostic or len(self._classes) == 1 else None
        return self._number_of.get(name)

    def _as_detections(
        self,
        video_id: str,
        segments: list[tuple[float, float]],
        scores: list[float],
        labels: list[int],
        foreign: int,
    ) -> Detections:
        found = Detections(
            np.array(segments, dtype=np.float64).reshape(-1, 2),
            np.array(scores, dtype=np.float64),
            np.array(labels, dtype=np.int64),
        )
        if not foreign:
            return found
        self.problems.add(
            f"detections have a label, and all count as {self._classes[0]!r} (postprocess.classes is agnostic); a "
            "segment of several labels counts once, with its best score",
            f"video {video_id}",
            foreign,
        )
        kept = _best_of_equal(found.segments_s, found.scores)
        return Detections(found.segments_s[kept], found.scores[kept], found.labels[kept])

    def refuse_useless(self, path: Path) -> None:
        """Raise DataError where not one detection has a label that can be understood: the score would mean nothing."""
        names = ", ".join(self._classes[:NAMED]) + (", ..." if len(self._classes) > NAMED else "")
        if self._read or not (self._unlabelled or self._unknown):
            return
        if not self._unknown:
            raise DataError(
                f"{path}: its {self._unlabelled} detections have no label, as proposals have none; "
                "set postprocess.classes=agnostic to score them as such"
            )
        if all(str(label).lstrip("-").isdigit() for label in self._unknown):
            raise DataError(
                f"{path}: its labels are numbers (first: {str(self._unknown[0])[:SHOWN]}), and those of the "
                f"annotations names ({names}); write each detection's name, since files differ in their numbers"
            )
        raise DataError(
            f"{path}: none of its {len(self._unknown)} detections is of a class of the annotations "
            f"(first: {_shown(self._unknown[0])}; there are: {names}); write classes as the annotations do"
        )


def _shown(label: Any) -> str:
    return "none" if label is None else repr(one_line(str(label), SHOWN))


def _best_of_equal(segments_s: FloatArray, scores: FloatArray) -> IntArray:
    """Return the places of the different segments ``[n, 2]``, each where its score is best, ascending."""
    order = np.lexsort((-scores, segments_s[:, 1], segments_s[:, 0]))
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (segments_s[order][1:] != segments_s[order][:-1]).any(axis=1)
    kept: IntArray = np.sort(order[first])
    return kept
