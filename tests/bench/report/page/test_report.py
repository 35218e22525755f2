"""The report: what it reads and leaves out, what it concludes, and that every number can be found in it again."""

import base64
import csv
import gzip
import io
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bench.cli import main
from bench.machine.datasheets import list_profiles
from bench.machine.prices import Rates
from bench.published.figures import Figure, load_published
from bench.records.record import Failure, Finding, Metric, Record
from bench.records.store import ResultStore
from bench.report.page import html as html_module
from bench.report.page.assemble import build_report
from bench.report.page.collect import Collected, Entry, collect, spread_out, telling_names
from bench.report.page.costs import costs_section
from bench.report.page.curves import curve_sections
from bench.report.page.document import Chart, Charts, Report, Section, Table
from bench.report.page.fitting import Need, fitting_section, needs_of, verdict
from bench.report.page.html import to_html
from bench.report.page.markdown import to_markdown
from bench.report.page.overview import failures_section, stability_section
from bench.report.page.pareto import Candidate, front, own_candidates, published_candidate
from bench.report.page.settings import differing, label_of_several, settings_of
from bench.report.page.speed import roofline_section
from bench.report.reading import main_metric
from bench.units import format_number, format_seconds
from etad.config import load_config
from etad.errors import DataError, NothingToDoError

GIB = 2**30
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def make(suite: str, metrics: dict[str, Metric], *assignments: str, name: str = "anet_e2e", **facts: Any) -> Record:
    kind = facts.get("kind", "measured")
    given: dict[str, Any] = {
        "status": "predicted" if kind == "predicted" else "ok",
        "kind": kind,
        "suite": suite,
        "device": "gpu-x",
        "config": load_config(name, assignments).resolved(),
        "measurement": {},
        "environment": {"host": {"name": "box"}, "code": {"git_sha": "abc123def4567", "git_dirty": True}},
        "command": f"etad-bench {suite} {' '.join(assignments)}",
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
        "duration_s": 1.0,
    }
    return Record(metrics=metrics, **(given | facts))


def memory(ratio: float, strategy: str, gib: float, upper: float | None = None, **facts: Any) -> Record:
    held = {"held.category.activation_bytes": 0.75, "held.category.optimizer_state_bytes": 0.25}
    metrics = {
        "reserved_peak_bytes": Metric(
            value=int(gib * GIB), low=int(gib * GIB), high=int((upper or gib) * GIB), unit="bytes"
        ),
        "requested_peak_bytes": Metric(value=int(0.8 * gib * GIB), unit="bytes"),
        **{name: Metric(value=int(share * gib * GIB), unit="bytes") for name, share in held.items()},
        "held.tensor.01_bytes": Metric(value=GIB // 4, unit="bytes", method="activation, encoder, aten.conv3d, 4x64"),
    }
    settings = (f"step.snippet_ratio={ratio}", f"step.strategy={strategy}")
    return make("memory", metrics, *settings, **({"kind": "predicted", "device": "cuda-sm-80"} | facts))


def timed(ratio: float, step_s: float, finding: str = "stable", peak: float | None = 60e12, **facts: Any) -> Record:
    unknown = "the peak is not known"
    metrics = {
        "step_s": Metric(value=step_s, low=0.9 * step_s, high=1.1 * step_s, unit="s", samples=(step_s,) * 5),
        "achieved_flops_per_s": Metric(value=2e13 / step_s, unit="FLOP/s"),
        "arithmetic_intensity_flops_per_byte": Metric(value=20.0, unit="1"),
        "peak_flops_per_s": Metric(value=peak, unit="FLOP/s", reason=None if peak else unknown),
        "memory_bandwidth_bytes_per_s": Metric(value=peak and 3e12, unit="bytes/s", reason=None if peak else unknown),
    }
    phases = {"encode": {"time_s": Metric(value=0.7 * step_s, unit="s")}}
    found = {"stability.step_s": Finding(verdict=finding), "bound": Finding(verdict="compute", why="it is")}
    return make("throughput", metrics, f"step.snippet_ratio={ratio}", phases=phases, findings=found, **facts)


def scored(ratio: float, seed: int, average: float, hours: float = 1.0, **facts: Any) -> Record:
    metrics = {
        "average_mAP": Metric(value=average, unit="1"),
        "train_s": Metric(value=3600 * hours, unit="s"),
    }
    return make("accuracy", metrics, f"step.snippet_ratio={ratio}", f"train.seed={seed}", **facts)


def failed() -> Record:
    failure = Failure(message="process ended with signal 11", phase="encode", requested_bytes=3 * GIB)
    return make("throughput", {}, "train.batch=64", status="error", failure=failure)


RECORDS = [
    *(memory(ratio, "sequential", 3.5, 4.5) for ratio in (0.1, 0.3, 1.0)),
    *(memory(ratio, "joint", 70 * ratio, 100 * ratio) for ratio in (0.1, 0.3, 1.0)),
    timed(0.3, 2.0),
    timed(1.0, 4.0, "noisy: it jumps"),
    timed(0.3, 90.0, peak=None, device="cpu-y"),
    *(scored(0.3, seed, average) for seed, average in ((1, 0.30), (2, 0.40))),
    scored(1.0, 1, 0.36, hours=3.0),
    failed(),
]


def entries_of(records: list[Record]) -> list[Entry]:
    return [Entry(Path(f"{number}.json"), record) for number, record in enumerate(records)]


@pytest.fixture(scope="module")
def report() -> Report:
    collected = Collected(tuple(entries_of(RECORDS)), unreadable=("x.json: <broken>",))
    return build_report(collected, [Path("results")], load_published(), list_profiles(), "made today")


def section(report: Report, ident: str) -> Section:
    return next(found for found in report.sections if found.ident == ident)


def tables(found: Section) -> dict[str, Table]:
    return {block.ident: block for block in found.blocks if isinstance(block, Table)}


def charts(found: Section) -> list[Chart]:
    return [chart for block in found.blocks if isinstance(block, Charts) for chart in block.charts]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *(str(argument) for argument in arguments)])


# What is read


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for record in RECORDS:
        ResultStore(folder).write(record)
    return folder


def test_costs_are_a_section_where_prices_are_given() -> None:
    schedule = Metric(value=7200.0, low=3600.0, high=10800.0, unit="s")
    facts = {"kind": "predicted", "measurement": {"task": "train", "hardware": "rtx_4090_24g"}}
    forecast = make("throughput", {"step_s": Metric(value=1.0, unit="s"), "schedule_s": schedule}, **facts)
    rates = Rates(price_per_hour=0.5, currency="EUR", carbon_g_per_kwh=400.0)
    entries = [Entry(Path("a.json"), forecast)]
    section = costs_section(entries, list_profiles(), rates)
    [table] = [block for block in section.blocks if isinstance(block, Table)]
    row = dict(zip((column.key for column in table.columns), table.rows[0], strict=True))
    assert (row["kind"], row["training_h"]) == ("predicted", 2.0)
    assert (row["rent_money"], row["rent_money_low"], row["rent_money_high"]) == (1.0, 0.5, 1.5)
    assert row["carbon_kg"] == pytest.approx(0.45 * 2 * 0.4)
    assert costs_section([], list_profiles(), rates).instead


def test_damaged_files_are_told_and_left_out(results: Path) -> None:
    whole = next(results.rglob("*.json")).read_text()
    tree = json.loads(whole)
    (results / "truncated.json").write_text(whole[:200])
    (results / "newer.json").write_text(json.dumps(tree | {"schema_version": 99}))
    (results / "nan.json").write_text(json.dumps(tree | {"duration_s": float("nan")}))
    (results / "list.json").write_text("[]")
    output = results.parent / "report.html"
    result = run(results, "-o", output)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    for words in (
        "truncated.json: not valid JSON, or cut off",
        "schema version 99 is newer",
        "nan.json: holds NaN",
        "list.json: not a",
    ):
        assert words in result.stderr
        assert words in output.read_text()
    assert f"{len(RECORDS)} records" in result.stderr


def test_a_cell_in_two_folders_is_named_and_the_newest_counts(results: Path, tmp_path: Path) -> None:
    later = RECORDS[6].model_copy(update={"started_at": datetime(2026, 2, 1, tzinfo=UTC)})
    ResultStore(tmp_path / "more").write(later)
    collected = collect([results, tmp_path / "more"])
    assert len(collected.entries) == len(RECORDS)
    assert later in [entry.record for entry in collected.entries]
    assert len(collected.duplicates) == 1
    assert str(tmp_path / "more") in collected.duplicates[0]
    # The same folder twice is no conflict, and a single file is a source, too.
    assert not collect([results, results]).problems
    path = next(results.rglob("*.json"))
    assert [entry.path for entry in collect([path]).entries] == [path]


def test_nothing_to_report_is_told_by_exit_code(tmp_path: Path) -> None:
    with pytest.raises(NothingToDoError, match="no result records"):
        collect([tmp_path])
    assert run(tmp_path).exit_code == 5
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(NothingToDoError, match=r"1 files are not readable records, the first: .*a.json"):
        collect([tmp_path])
    with pytest.raises(DataError, match="no such folder"):
        collect([tmp_path / "none"])
    assert run(tmp_path / "none").exit_code == 2


def test_many_problems_are_cut_short() -> None:
    problems = Collected((), unreadable=tuple(f"{number}" for number in range(200))).problems
    assert (len(problems), problems[-1]) == (51, "and 150 more")


# What tells cells apart


def test_settings_that_differ_name_the_cells() -> None:
    cells = [settings_of(record) for record in RECORDS[:6]]
    assert differing(cells) == ["strategy", "snippet ratio"]
    assert label_of_several(cells[:3], ["strategy", "snippet ratio"]) == "sequential, snippet ratio 0.1/0.3/1"
    assert telling_names(entries_of(RECORDS[:6])) == {"anet_e2e": ["strategy", "snippet ratio"]}
    many = [{"batch": number} for number in range(9)]
    assert label_of_several(many, ["batch"]) == "9 values of batch"


def test_seeds_and_folders_do_not_tell_cells_apart_but_variants_do() -> None:
    first = scored(0.3, 1, 0.3)
    assert settings_of(first) == settings_of(scored(0.3, 2, 0.4))
    config = json.loads(json.dumps(first.config))
    config["efficiency"]["compile"] = True
    compiled = first.model_copy(update={"config": config})
    assert differing([settings_of(first), settings_of(compiled)]) == ["variant"]
    assert settings_of(first)["variant"] == "published"
    assert settings_of(compiled)["variant"] == "compile=yes"
    del config["efficiency"]
    assert settings_of(first.model_copy(update={"config": config}))["variant"] == "published"


def test_a_setting_that_a_record_is_older_than_has_its_default() -> None:
    first = scored(0.3, 1, 0.3)
    config = json.loads(json.dumps(first.config))
    del config["data"]["layout"]
    older = first.model_copy(update={"config": config})
    assert differing([settings_of(first), settings_of(older)]) == []


def test_spreading_out_keeps_both_ends() -> None:
    assert spread_out(range(100), 4) == [0, 33, 66, 99]
    assert spread_out([1, 2], 4) == [1, 2]


# What is concluded


def test_curves_are_of_one_experiment_and_split_by_settings(report: Report) -> None:
    chart = charts(section(report, "memory"))[0]
    assert chart.kinds == ["predicted"]
    assert ">joint<" in chart.svg
    assert ">sequential<" in chart.svg
    rows = [dict(zip(("x", "y", "low", "high"), row[7:11], strict=True)) for row in _rows(report, "memory")]
    assert {"x": 1.0, "y": 70 * GIB, "low": 70 * GIB, "high": 100 * GIB} in rows


def test_times_of_two_devices_never_share_a_chart(report: Report) -> None:
    found = [chart.title for chart in charts(section(report, "time"))]
    assert found == ["anet_e2e, training step, gpu-x, by snippet ratio"]


def test_seeds_are_averaged_with_their_range(report: Report) -> None:
    point = next(row for row in _rows(report, "accuracy") if row[7] == 0.3)
    assert point[8:] == [pytest.approx(0.35), 0.30, 0.40, 2]


def _rows(report: Report, ident: str) -> list[Any]:
    return [list(row) for row in tables(section(report, ident))[f"{ident}-curves"].rows]


def test_many_settings_are_merged_into_few_curves() -> None:
    records = [
        memory(ratio, strategy, 2.0 + ratio + batch / 10, measurement={"batch": batch, "n": n})
        for ratio in (0.1, 0.5)
        for strategy in ("joint", "sequential")
        for batch in range(8)
        for n in range(1)
    ]
    records = [
        make(
            "memory",
            record.metrics,
            f"step.snippet_ratio={record.config['step']['snippet_ratio']}",  # type: ignore[index,call-overload]
            f"step.strategy={record.config['step']['strategy']}",  # type: ignore[index,call-overload]
            f"train.batch={number % 8 + 1}",
            kind="predicted",
        )
        for number, record in enumerate(records)
    ]
    found = next(iter(curve_sections(entries_of(records))))
    chart = charts(found)[0]
    assert chart.svg.count("<polyline") >= 2
    assert "median of up to 8 records that differ in batch" in chart.caption


def test_an_empty_section_names_the_command_that_fills_it() -> None:
    collected = Collected(tuple(entries_of([RECORDS[0]])))
    report = build_report(collected, [Path("results")], [], [], "made today")
    for ident in ("time", "accuracy", "roofline"):
        assert section(report, ident).blocks == ()
        assert section(report, ident).instead.startswith("etad-bench ")
        assert section(report, ident).instead in to_markdown(report)
    page = to_html(report)
    assert "No data. This fills it: <code>etad-bench throughput" in page


@pytest.mark.parametrize(
    ("goals", "best"),
    [
        ([(0.3, 1, 1), (0.4, 2, 2), (0.35, 3, 3)], [0, 1]),
        ([(0.3, 1, 9), (0.3, 9, 1), (0.3, 9, 9)], [0, 1]),
        ([(0.3, 1, 1), (0.3, 1, 1)], [0, 1]),
        ([(0.9, None, 1), (0.3, 5, 5)], [1]),
    ],
)
def test_the_front_is_what_nothing_beats(goals: list[tuple[float, Any, Any]], best: list[int]) -> None:
    candidates = [_candidate(number, *goal) for number, goal in enumerate(goals)]
    assert {candidate.label for candidate in front(candidates, [0, 1])} == {str(number) for number in best}


def _candidate(number: int, average: float, memory_bytes: Any, hours: Any) -> Candidate:
    return Candidate(str(number), "set", "measured", average, memory_bytes, "", "measured", hours, "", "")


def test_our_front_takes_memory_from_the_same_settings() -> None:
    records = [scored(0.3, 1, 0.3), memory(0.3, "sequential", 3.5), memory(1.0, "joint", 70)]
    (candidate,) = own_candidates(entries_of(records))
    assert (candidate.dataset, candidate.memory_bytes) == ("activitynet", 3.5 * GIB)
    assert candidate.memory_of == "reserved, predicted"
    without = own_candidates(entries_of([records[0], records[2]]))
    assert without[0].memory_bytes is None


def test_a_published_figure_per_video_is_told_but_not_compared() -> None:
    facts: dict[str, Any] = {"method": "M", "dataset": "thumos", "input": "I", "end_to_end": True, "source": "S"}
    facts |= {"average_map_percent": 60.0, "marks": ("READ",)}
    whole = Figure(**facts, cost={"memory_gb": 8, "memory_meaning": "of training"})
    share = Figure(**facts, cost={"memory_gb": 1, "memory_meaning": "per video", "memory_is_per_video": True})
    costless = Figure(**facts)
    assert [one.costs[0] for one in published_candidate(whole)] == [8e9]
    assert [(one.costs[0], one.memory_bytes) for one in published_candidate(share)] == [(None, 1e9)]
    assert not list(published_candidate(costless))


def test_published_methods_are_marked_with_source_and_classifier(report: Report) -> None:
    table = tables(section(report, "pareto"))["pareto"]
    keys = [column.key for column in table.columns]
    rows = [dict(zip(keys, row, strict=True)) for row in table.rows]
    etad = next(row for row in rows if row["kind"] == "published" and row["average_mAP"] == pytest.approx(0.3873))
    assert etad["classifier"] == "CUHK"
    assert "READ" in str(etad["source"])
    kinds = {kind for chart in charts(section(report, "pareto")) for kind in chart.kinds}
    assert "published" in kinds
    assert "△ published" in to_markdown(report)


@pytest.mark.parametrize(("available_gib", "expected"), [(3, "no"), (4, "uncertain"), (5.4, "uncertain"), (6, "yes")])
def test_whether_it_fits(available_gib: float, expected: str) -> None:
    need = Need("anet_e2e", "joint", "predicted", 4.0 * GIB, 4.5 * GIB, 3.5 * GIB)
    assert verdict(need, int(available_gib * GIB)) == expected


def test_equal_needs_are_one(report: Report) -> None:
    needs = list(needs_of(entries_of(RECORDS)))
    assert needs[0].settings == "sequential, snippet ratio 0.1/0.3/1"
    assert len(needs) == 4
    table = tables(section(report, "hardware"))["gpus"]
    assert len(table.rows) == len(list_profiles())


def test_verdicts_of_records_are_shown_with_their_reason() -> None:
    record = memory(0.3, "joint", 22, 35, measurement={"hardware": "rtx", "hardware_memory_bytes": 6 * GIB})
    unknown = Metric(value=None, unit="1", reason="scratch decides")
    record = record.model_copy(update={"metrics": record.metrics | {"fits": unknown}})
    table = tables(fitting_section(entries_of([record]), []))["verdicts"]
    assert "scratch decides" in table.rows[0]
    assert "◐ uncertain" in [text for text, _ in table.shown[0]]


def test_roofline_has_a_roof_where_the_peak_is_known() -> None:
    with_roof, without = charts(
        roofline_section(entries_of([timed(0.3, 2.0), timed(0.3, 90.0, peak=None, device="cpu-y")]))
    )
    assert 'class="limit"' in with_roof.svg
    assert 'class="limit"' not in without.svg
    assert "there is no roof" in without.caption


def test_a_probed_peak_that_varies_makes_one_roof() -> None:
    (chart,) = charts(roofline_section(entries_of([timed(0.3, 2.0, peak=50e12), timed(1.0, 4.0, peak=60e12)])))
    assert "60 TFLOP/s" in chart.svg
    assert "highest of 2" in chart.caption
    assert "50 TFLOP/s" in chart.caption


def test_what_is_not_stable_and_what_failed() -> None:
    entries = entries_of(RECORDS)
    rows = tables(stability_section(entries))["unstable"].rows
    assert [row[3] for row in rows] == ["noisy: it jumps"]
    row = tables(failures_section(entries))["failures"].rows[0]
    assert row[0] == "error"
    assert row[4:7] == ["encode", 3 * GIB, "process ended with signal 11"]


def test_the_summary_says_the_few_facts(report: Report) -> None:
    text = "\n".join(report.summary)
    assert "13 records (7 measured, 6 predicted)" in text
    assert "snippet ratio 1: average mAP 36.00 %" in text
    assert "3584.0 MiB to 4608.0 MiB with sequential" in text
    assert "1 record without a result: 1 failed" in text
    assert "1 timed quantity is not stable" in text


def test_every_record_has_its_row_command_and_cell(report: Report) -> None:
    table = tables(section(report, "numbers"))["numbers"]
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert {row["cell_id"] for row in rows} == {record.cell_id for record in RECORDS}
    assert {row["command"] for row in rows} == {record.command for record in RECORDS}
    assert {row["kind"] for row in rows} == {"measured", "predicted"}
    assert rows[0]["git_sha"] == "abc123def4 + changes"


def test_the_main_metric_is_the_one_of_the_suite() -> None:
    assert main_metric(scored(0.3, 1, 0.3))[0] == "average_mAP"
    assert main_metric(failed()) == (None, None)


# How it is written


class _Page(HTMLParser):
    """Collects tags, links and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(attribute))]


def test_the_page_needs_nothing_else(report: Report) -> None:
    page = _Page(to_html(report))
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not page.values("src")
    assert all(link.startswith(("#", "data:")) for link in page.values("href"))
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))
    labels = [ident for value in page.values("aria-labelledby") for ident in value.split()]
    assert set(labels) <= set(identifiers)
    assert {link[1:] for link in page.values("href") if link.startswith("#")} <= set(identifiers)
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert pictures
    assert all(attributes["role"] == "img" for attributes in pictures)


def test_everything_from_records_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    failure = Failure(message=evil)
    bad = make("memory", {}, status="error", failure=failure, command=evil, device="gpu-x", warnings=(evil,))
    config = json.loads(json.dumps(RECORDS[0].config)) | {"name": evil}
    named = [
        Record.model_validate(record.to_tree() | {"config": config | {"step": record.config["step"]}, "cell_id": ""})
        for record in RECORDS
    ]
    collected = Collected(tuple(entries_of([bad, *named])), unreadable=(evil,))
    page = to_html(build_report(collected, [Path(evil)], [], list_profiles(), "today"))
    assert page.count("<script>") == 1
    assert "alert(1)" in page
    markdown = to_markdown(build_report(collected, [Path(evil)], [], [], "today"))
    assert "\\<script>" in markdown


def test_csv_files_hold_the_raw_rows(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tables(section(report, "numbers"))["numbers"]
    assert _downloaded(to_html(report), "numbers.csv") == table.to_csv()
    monkeypatch.setattr(html_module, "MOST_PLAIN_BYTES", 100)
    assert _downloaded(to_html(report), "numbers.csv.gz") == table.to_csv()


def _downloaded(page: str, name: str) -> str:
    (link,) = [attributes["href"] for _, attributes in _Page(page).tags if attributes.get("download") == name]
    assert link is not None
    data = base64.b64decode(link.partition("base64,")[2])
    return (gzip.decompress(data) if name.endswith(".gz") else data).decode()


def test_a_long_table_is_cut_on_the_page_and_whole_in_csv() -> None:
    records = [memory(0.3, "joint", 3, measurement={"number": number}) for number in range(250)]
    report = build_report(Collected(tuple(entries_of(records))), [Path("results")], [], [], "today")
    table = tables(section(report, "numbers"))["numbers"]
    assert (len(table.shown), table.hidden) == (200, 50)
    assert table.to_csv().count("\n") == 251
    assert "50 more rows are not shown" in to_html(report)
    assert "210 more rows are left out here" in to_markdown(report)


def test_markdown_has_the_tables_and_is_chosen_by_suffix(results: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.md"
    assert run(results, "-o", output).exit_code == 0
    text = output.read_text()
    assert text.startswith("# ETAD benchmark report")
    assert re.search(r"^\| kind \| status \| device", text, re.MULTILINE)
    printed = run(results, "--format", "md")
    assert printed.stdout.startswith("# ETAD benchmark report")
    assert run(results).stdout.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12.30 ms"), (1.5, "1.50 s"), (150, "2.5 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.5, "0.5"), (66.9e12, "66.9 T"), (3.35e9, "3.35 G"), (2e6, "2 M")])
def test_numbers(value: float, text: str) -> None:
    assert format_number(value) == text


# In a browser


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_shows_it_without_errors(report: Report, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    page = tmp_path / "report.html"
    # Sort the last table by its last column, and change the theme: what a person would click.
    clicks = "document.getElementById('theme').click();[...document.querySelectorAll('th button')].at(-1).click()"
    page.write_text(to_html(report).replace("</body>", f"<script>{clicks}</script></body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom"]
    shown = subprocess.run([CHROMIUM, *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in shown.stderr
    assert 'data-theme="light"' in shown.stdout
    assert 'aria-sort="ascending"' in shown.stdout
    assert shown.stdout.count("<svg") == to_html(report).count("<svg")
