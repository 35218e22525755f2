"""Does our accuracy agree with the published one? First whether the two compare at all, then by how much they differ.

What a run has to share with a published figure stands beside the figure (``reproduction:`` in
``results/published/*.yaml``): the config, the number of test videos, the file of class scores, the tolerance.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import numpy as np

from bench.published.figures import Figure, Reproduction, find_reproducible
from bench.records.flat import flat
from bench.records.record import Record
from etad.config import Config, load_config

Word = Literal["reproduced", "not reproduced", "not comparable"]

CLASSIFIER = "classifier"
SYNTHETIC = "data.synthetic"
VERDICT = "verdict"
"""Keys of a record's findings: name of the file that gave the classes; what of the data is made up; this verdict."""

WITHOUT_EFFECT = (
    *("name", "data.root", "data.annotations", "data.blocked", "data.folder", "data.pattern", "data.layout"),
    *("data.workers", "data.cache", "data.frames.decoder", "efficiency", "train.seed", "train.checkpoint_every_s"),
    "postprocess.class_scores",
)
"""Settings that say where things are, or how the same numbers are computed; a section stands for all that it holds.
What the files hold is compared by its counts and by the classifier file's name."""

ENCODER_SETTINGS = (
    *("model.encoder", "data.frames", "step.strategy", "step.chunk"),
    *("step.snippet_ratio", "step.snippet_sampler"),
)
"""Without effect when the input is features."""

MISSING_TRAINING = 0.01
"""The training set may lack this part of its videos."""


@dataclass(frozen=True)
class ReproductionVerdict:
    """The verdict and why; ``figure`` is the published figure, None where there is none."""

    word: Word
    why: str
    figure: Figure | None

    def __str__(self) -> str:
        return f"{self.word}: {self.why}"


def judge_reproduction(records: Sequence[Record], figures: Sequence[Figure] | None = None) -> ReproductionVerdict:
    """Compare the accuracy records of one experiment, one a seed, with the published figure.

    Args:
        records: at least one, of the suite "accuracy"; they differ in their seed only.
        figures: published figures; None: all that are shipped.
    """
    name = str(records[0].config["name"])
    figure = find_reproducible(name, figures)
    if figure is None or figure.reproduction is None or figure.average_map_percent is None:
        return ReproductionVerdict("not comparable", f"no published figure belongs to the config {name}", None)
    wanted, published = figure.reproduction, figure.average_map_percent
    values = 100 * np.array([record.metrics["average_mAP"].value for record in records], dtype=np.float64)
    reasons = list(dict.fromkeys(reason for record in records for reason in _obstacles(record, wanted, published)))
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    if error > wanted.tolerance_percent:
        reasons.append(
            f"the standard error over {len(values)} seeds is {error:.2f}, above the tolerance of "
            f"{wanted.tolerance_percent:g}: run more seeds"
        )
    if reasons:
        return ReproductionVerdict("not comparable", "; ".join(reasons), figure)
    difference = float(values.mean()) - published
    spread = f" ± {values.std(ddof=1):.2f} over {len(values)} seeds" if len(values) > 1 else " with one seed"
    why = (
        f"average mAP {values.mean():.2f}{spread}, published {published:.2f}, difference {difference:+.2f}, "
        f"tolerance {wanted.tolerance_percent:g} ({wanted.tolerance_reason})"
    )
    return ReproductionVerdict(
        "reproduced" if abs(difference) <= wanted.tolerance_percent else "not reproduced", why, figure
    )


def _obstacles(record: Record, wanted: Reproduction, published: float) -> Iterator[str]:
    """Say what keeps a record from being compared, one line each."""
    if SYNTHETIC in record.findings:
        yield f"synthetic data ({record.findings[SYNTHETIC].verdict})"
    changed = _other_settings(record, load_config(wanted.config))
    if changed:
        yield f"other settings: {', '.join(changed)}"
    classifier = record.findings[CLASSIFIER].verdict if CLASSIFIER in record.findings else "not known"
    if classifier != wanted.classifier_file:
        yield f"classes from another source: {classifier}, published {wanted.classifier_file}"
    videos = _count(record, "test_videos")
    if videos != wanted.test_videos:
        yield f"{videos} test videos, published {wanted.test_videos}"
    without = _count(record, "test_videos_without_detections")
    # Every action of theirs is missed: so much of the score can be lost.
    lost = published * without / max(videos, 1)
    if lost > wanted.tolerance_percent:
        yield f"{without} test videos have no detection, which can cost {lost:.2f} points"
    outside = _count(record, "detections_in_unknown_videos")
    if outside:
        yield f"{outside} detections are in videos outside the test set"
    missing = _count(record, "training_videos_missing")
    if missing > MISSING_TRAINING * (missing + _count(record, "training_videos")):
        yield f"{missing} training videos are missing"


def _other_settings(record: Record, shipped: Config) -> list[str]:
    """Return the settings that differ from the shipped config's and can change the score, as "key ours, not theirs"."""
    ignored = list(WITHOUT_EFFECT)
    if shipped.data.input == "features" and _at(record.config, "data.input") == "features":
        ignored += ENCODER_SETTINGS
    if "checkpoint" in record.measurement:
        ignored += ["train", "step.strategy", "step.snippet_ratio", "step.snippet_sampler", "step.proposal_ratio"]
        ignored += ["step.proposal_sampler", "model.encoder.weights", "data.train_subsets", "data.min_action_fraction"]
    if "predictions" in record.measurement:
        ignored += ["train", "step", "model", "data.train_subsets", "data.length", "data.input", "data.channels"]
    ours, theirs = flat("", record.config), flat("", shipped.resolved())
    return [
        f"{key} {_shown(ours.get(key))}, not {_shown(theirs.get(key))}"
        for key in sorted(ours.keys() | theirs.keys())
        if not any(key == one or key.startswith(f"{one}.") for one in ignored)
        and _shown(ours.get(key)) != _shown(theirs.get(key))
    ]


def _shown(value: Any) -> str:
    # The same weight file may lie in another folder.
    return PurePath(value).name if isinstance(value, str) else str(value)


def _at(tree: Mapping[str, Any], key: str) -> Any:
    return flat("", tree).get(key)


def _count(record: Record, name: str) -> int:
    metric = record.metrics.get(name)
    return 0 if metric is None or metric.value is None else int(metric.value)
