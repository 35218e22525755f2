"""The verdict: every way of not being comparable is found and named, and the tolerance decides the rest."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bench.published.figures import load_published
from bench.published.reproduction import ReproductionVerdict, judge_reproduction
from bench.records.record import Finding, Metric, Record
from bench.report.terminal.accuracy import as_json, as_markdown
from etad.config import load_config

# Read once: the files are many.
FIGURES = load_published()
COUNTS = {
    "test_videos": 4895,
    "test_videos_without_detections": 0,
    "training_videos": 9971,
    "training_videos_missing": 0,
}


def record(
    percent: float,
    *settings: str,
    config: str = "anet_features",
    findings: dict[str, str] | None = None,
    measurement: dict[str, Any] | None = None,
    **counts: int,
) -> Record:
    metrics = {name: Metric(value=value, unit="1") for name, value in (COUNTS | counts).items()}
    metrics["average_mAP"] = Metric(value=percent / 100, unit="1")
    metrics["mAP_at_tiou_0.5"] = Metric(value=percent / 100 + 0.17, unit="1")
    metrics["mAP_at_tiou_0.55"] = Metric(value=percent / 100 + 0.14, unit="1")
    return Record(
        status="ok",
        kind="measured",
        suite="accuracy",
        device="cpu",
        config=load_config(config, settings).resolved(),
        measurement=measurement or {},
        metrics=metrics,
        findings={
            name: Finding(verdict=verdict)
            for name, verdict in ({"classifier": "cuhk_val_simp_7.json"} if findings is None else findings).items()
        },
        environment={},
        command="etad-bench accuracy",
        started_at=datetime.now(UTC),
        duration_s=1.0,
    )


def seeds(*percents: float) -> list[Record]:
    return [record(percent, f"train.seed={seed}") for seed, percent in enumerate(percents)]


def judged(records: list[Record]) -> ReproductionVerdict:
    return judge_reproduction(records, FIGURES)


def why_not(*arguments: Any, **keywords: Any) -> str:
    verdict = judged([record(*arguments, **keywords)])
    assert verdict.word == "not comparable", verdict
    return verdict.why


@pytest.mark.parametrize(
    ("percent", "word"),
    [
        *((37.80, "reproduced"), (37.31, "reproduced"), (38.29, "reproduced")),
        *((37.29, "not reproduced"), (38.31, "not reproduced")),
    ],
)
def test_the_tolerance_decides(percent: float, word: str) -> None:
    verdict = judged([record(percent)])
    assert verdict.word == word
    assert f"average mAP {percent:.2f} with one seed, published 37.80, difference {percent - 37.8:+.2f}" in verdict.why
    assert "tolerance 0.5 (the authors' two figures" in verdict.why


def test_the_mean_over_seeds_is_what_counts() -> None:
    verdict = judged(seeds(37.0, 37.6, 38.2))
    assert verdict.word == "reproduced"
    assert "average mAP 37.60 ± 0.60 over 3 seeds" in verdict.why
    assert judged(seeds(36.0, 36.6, 37.2)).word == "not reproduced"


def test_seeds_that_spread_too_far_say_nothing() -> None:
    verdict = judged(seeds(35.0, 37.8, 40.6))
    assert verdict.word == "not comparable"
    assert "standard error over 3 seeds is 1.62, above the tolerance of 0.5: run more seeds" in verdict.why


def test_every_obstacle_is_named() -> None:
    assert why_not(37.8, config="quickstart") == "no published figure belongs to the config quickstart"
    assert "synthetic data (noise)" in why_not(
        37.8, findings={"classifier": "cuhk_val_simp_7.json", "data.synthetic": "noise"}
    )
    assert why_not(37.8, findings={"classifier": "val_top1.json"}) == (
        "classes from another source: val_top1.json, published cuhk_val_simp_7.json"
    )
    assert "classes from another source: not known" in why_not(37.8, findings={})
    assert why_not(37.8, test_videos=4728) == "4728 test videos, published 4895"
    assert why_not(37.8, test_videos_without_detections=100) == (
        "100 test videos have no detection, which can cost 0.77 points"
    )
    assert why_not(37.8, detections_in_unknown_videos=7) == "7 detections are in videos outside the test set"
    assert why_not(37.8, training_videos_missing=300) == "300 training videos are missing"
    assert why_not(37.8, "train.epochs=1", "step.precision=bf16") == (
        "other settings: step.precision bf16, not fp32, train.epochs 1, not 6"
    )
    both = why_not(37.8, "train.epochs=1", test_videos=1)
    assert "other settings" in both
    assert "1 test videos" in both


def test_what_cannot_change_the_score_is_no_obstacle() -> None:
    settings = ["data.root=/elsewhere", "data.workers=0", "train.seed=1", "efficiency.roi_align=auto"]
    # From features, no encoder runs.
    settings += ["step.snippet_ratio=0.7", "model.encoder.frozen_stages=0", "postprocess.class_scores=/x/cuhk.json"]
    few = {"test_videos_without_detections": 60, "training_videos_missing": 50}
    assert judged([record(37.8, *settings, **few)]).word == "reproduced"


def test_end_to_end_the_encoder_matters_but_not_where_its_weights_lie() -> None:
    moved = record(38.7, "model.encoder.weights=/x/r2plus1d_34-tsp_on_activitynet.pth", config="anet_e2e")
    assert judged([moved]).word == "reproduced"
    other = why_not(38.7, "model.encoder.weights=null", "step.snippet_ratio=0.5", config="anet_e2e")
    assert "model.encoder.weights None, not r2plus1d_34-tsp_on_activitynet.pth" in other
    assert "step.snippet_ratio 0.5, not 0.3" in other


def test_half_way_only_what_is_still_ahead_matters() -> None:
    settings = ["train.epochs=1", "step.proposal_ratio=0.5"]
    weights = {"checkpoint": "etad.pth", "checkpoint_sha256": "0"}
    assert judged([record(37.8, *settings, measurement=weights)]).word == "reproduced"
    assert "postprocess.soft_nms_sigma" in why_not(37.8, "postprocess.soft_nms_sigma=0.1", measurement=weights)
    detections = {"predictions": "p.json", "predictions_sha256": "0"}
    assert judged([record(37.8, *settings, "model.detector.hidden=64", measurement=detections)]).word == "reproduced"
    assert "evaluate.remove_duplicates" in why_not(37.8, "evaluate.remove_duplicates=true", measurement=detections)


def test_ours_stands_beside_the_published_row() -> None:
    lines = as_markdown(seeds(37.0, 37.6, 38.2)).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:5]]
    assert cells[0] == ["snippet ratio", "average mAP", "mAP@0.5", "mAP@0.55", "seeds", "training (s)", "epoch (s)"]
    assert cells[2] == ["0.3", "37.60 ± 0.60", "54.60 ± 0.60", "51.60 ± 0.60", "3", "-", "-"]
    assert cells[3] == ["published", "37.80", "54.96", "-", "-", "-", "-"]
    assert cells[4] == ["difference", "-0.20", "-0.36", "-", "-", "-", "-"]
    assert lines[6].startswith("- published: ETAD, TSP features: ETAD repository, README")
    assert lines[7].startswith("- reproduced: average mAP 37.60")
    several = as_markdown([*seeds(37.0), record(37.0, "step.snippet_ratio=0.5")]).splitlines()
    assert [line.split("|")[1].strip() for line in several[2:7]] == [
        *("0.3", "0.5", "published", "difference at 0.3", "difference at 0.5")
    ]
    assert '"word"' not in as_json(seeds(37.0))
    assert '"verdict": "not reproduced"' in as_json(seeds(37.0))


def test_a_verdict_reads_as_one_line() -> None:
    assert str(ReproductionVerdict("reproduced", "it is the same", None)) == "reproduced: it is the same"
