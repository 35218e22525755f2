"""Forecasts of time: factors found behind made-up measurements, errors on what is left out, intervals, and refusals."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bench.cli import main
from bench.machine.datasheets import load_profile
from bench.machine.processes import Outcome
from bench.predict.factor_fit import KEPT_APART, errors_apart, fit_factors
from bench.predict.forecast import ALL, Factors, dump_factors, forecast, load_factors, regime_of
from bench.predict.roofline import LAUNCH_S, SUSTAINED_SHARE, Roof, sustained_share
from bench.predict.step_costs import Cost
from bench.predict.throughput_table import COLUMNS, GPUS, read_table
from bench.records.record import Record
from bench.records.store import ResultStore
from bench.suites.forecast import roof_to_forecast, training_videos
from etad.config import load_config
from etad.errors import ConfigError, DataError, NothingToDoError
from tests.paths import SHARED

FACTORS = np.array([1.2, 0.5, 3.0])
FAMILIES = ("conv", "depthwise", "transformer")
TABLE = SHARED / "gpu_measured" / "timm_throughput.csv"


def made_up_rows(gpus: Sequence[str] = ("3090", "4090"), **changes: str) -> list[dict[str, Any]]:
    """Return rows whose times are exactly what FACTORS say, at the GPUs' peak and bandwidth."""
    rows = []
    for number, gpu in enumerate(gpus):
        profile = load_profile(GPUS[gpu])
        assert profile.peak_fp16_flops_per_s is not None
        draw = np.random.default_rng(number)
        for model in range(18):
            flops, moved, operators = draw.uniform(1e12, 9e13), draw.uniform(1e10, 9e11), draw.integers(100, 9000)
            peak = profile.peak_fp16_flops_per_s * sustained_share(profile, "fp16")
            least = [flops / peak, moved / profile.memory_bandwidth_bytes_per_s, operators * LAUNCH_S]
            row = {
                "what": "infer",
                "run": f"{gpu} pt2.9",
                "gpu": gpu,
                "model": f"net{model}",
                "family": FAMILIES[model % 3],
                "batch": 256,
                "img": 224,
                "samples_per_s": 256 / float(np.array(least) @ FACTORS),
                "flops": flops,
                "bytes": moved,
                "operators": operators,
            }
            rows.append(row | changes)
    return rows


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    training = made_up_rows(("3090",), what="train")
    return write_table(tmp_path / "table.csv", [*made_up_rows(), *training])


def test_factors_behind_measurements_are_found(table: Path) -> None:
    found = fit_factors(read_table(table))
    assert set(found.regimes) == {"inference", "training"}
    for factors in found.regimes.values():
        assert [factors.compute, factors.memory, factors.launch] == pytest.approx(list(FACTORS), rel=1e-3)
        assert factors.bandwidth_exponent == 1
    for own in found.regimes["inference"].gpus.values():
        assert own.memory == pytest.approx(1, rel=1e-3)
    kinds = {(error.kind, error.name) for error in found.regimes["inference"].errors}
    assert kinds >= {("gpu", "rtx_3090_24g"), ("gpu", ALL), ("family", "conv"), ("family", ALL)}
    assert all(error.typical_error < 1e-3 for error in found.regimes["inference"].errors)
    # Where one GPU was measured, none can be left out, and the table says so.
    assert not found.regimes["training"].of_gpus


def test_nothing_computes_faster_than_the_peak(tmp_path: Path) -> None:
    rows = [row | {"samples_per_s": 3 * row["samples_per_s"]} for row in made_up_rows()]
    found = fit_factors(read_table(write_table(tmp_path / "fast.csv", rows)))
    factors = found.regimes["inference"]
    assert factors.compute == 1
    tree = found.model_dump(mode="json")
    tree["regimes"]["inference"]["compute"] = 0.668
    (tmp_path / "f.yaml").write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match="compute: must be a number of 1 or more"):
        load_factors(tmp_path / "f.yaml")
    roof = Roof(1e14, 1e12, LAUNCH_S, "made up")
    cost = Cost(flops=10**14)
    assert forecast(cost, roof, "rtx_4090_24g", factors).low_s >= 1.0


def test_factors_read_back(tmp_path: Path, table: Path) -> None:
    found = fit_factors(read_table(table))
    (tmp_path / "factors.yaml").write_text(dump_factors(found))
    assert load_factors(tmp_path / "factors.yaml") == found


def test_the_shipped_factors_have_every_regime_and_keep_their_promises() -> None:
    shipped = load_factors()
    assert set(shipped.regimes) == {
        "inference",
        "inference_channels_last",
        "inference_compiled",
        "training",
        "training_channels_last",
    }
    assert shipped.kept_apart == tuple(sorted(KEPT_APART))

    def whole(regime: str, kind: str) -> tuple[float, float]:
        factors = shipped.regimes[regime]  # type: ignore[index]
        found = [error for error in factors.errors if (error.kind, error.name) == (kind, ALL)]
        return found[0].typical_error, found[0].inside

    assert whole("inference", "gpu")[0] <= 0.12
    assert whole("inference_compiled", "gpu")[0] <= 0.10
    assert whole("training", "family")[0] <= 0.10
    for regime, factors in shipped.regimes.items():
        for kind in {error.kind for error in factors.errors}:
            assert 0.75 <= whole(regime, kind)[1] <= 0.93, (regime, kind)
        assert factors.compute >= 1
        assert set(factors.gpus) <= set(GPUS.values())


@pytest.mark.skipif(not TABLE.is_file(), reason="the table of measured GPUs is not here")
def test_the_shipped_factors_are_those_of_the_table_and_hold_for_what_was_kept_apart() -> None:
    rows = read_table(TABLE)
    fitted, shipped = fit_factors(rows), load_factors()
    for regime, factors in shipped.regimes.items():
        again = fitted.regimes[regime]
        assert (again.compute, again.memory, again.launch) == pytest.approx(
            (factors.compute, factors.memory, factors.launch), rel=0.01, abs=0.01
        )
    assert {row.model for row in rows} >= set(KEPT_APART)
    apart = errors_apart(rows, shipped)
    assert set(apart) == set(shipped.regimes)


def test_what_is_kept_apart_does_not_move_the_factors(table: Path) -> None:
    rows = read_table(table)
    without = fit_factors([row for row in rows if row.model != "net3"], kept_apart=("net3",))
    assert fit_factors(rows, kept_apart=("net3",)) == without
    assert {error.name for error in errors_apart(rows, without)["inference"]} == {"rtx_3090_24g", "rtx_4090_24g"}


def test_an_interval_surrounds_every_time_and_a_measured_gpu_has_its_own() -> None:
    factors = load_factors().regimes["inference"]
    roof = Roof(1e14, 1e12, LAUNCH_S, "made up")
    cost = Cost(flops=10**13, moved_bytes=10**11, operators=100)
    unknown, known = forecast(cost, roof, "l4_24g", factors), forecast(cost, roof, "rtx_4090_24g", factors)
    for time in (unknown, known):
        assert time.low_s < time.time_s < time.high_s
    assert unknown.high_s / unknown.time_s == pytest.approx(math.exp(factors.half_width))
    assert known.time_s != unknown.time_s
    both = unknown + known
    assert both.times(2).high_s == pytest.approx(2 * (unknown.high_s + known.high_s))


def test_an_eager_step_takes_at_least_what_the_host_needs_to_issue_it() -> None:
    factors = load_factors().regimes["training"]
    roof = Roof(1e14, 1e12, 5e-6, "made up")
    assert forecast(Cost(operators=100_000), roof, "l4_24g", factors).time_s >= 0.5


def test_the_used_bandwidth_goes_no_further_than_what_was_measured() -> None:
    factors = load_factors().regimes["inference"]
    low, high = factors.bandwidths
    assert factors.used_bandwidth(low / 3) == pytest.approx(factors.used_bandwidth(low) / 3)
    assert factors.used_bandwidth(4 * high) == pytest.approx(4 * factors.used_bandwidth(high))
    assert factors.used_bandwidth(high) < 2 * factors.used_bandwidth(low)


def test_regimes_follow_the_config_and_the_phase() -> None:
    def regimes(*sets: str, task: Any = "train") -> tuple[str, str]:
        config = load_config("quickstart", sets)
        return regime_of(config, task, "encode"), regime_of(config, task, "backpropagate")

    assert regimes() == ("inference", "training")
    assert regimes(task="infer") == ("inference", "inference")
    assert regimes("efficiency.channels_last=true") == ("inference_channels_last", "training_channels_last")
    assert regimes("efficiency.compile=true") == ("inference_compiled", "training")


def test_the_roof_is_the_measured_one_where_there_is_one() -> None:
    profile = load_profile("rtx_3060_laptop_6g")
    assert roof_to_forecast(profile, "bf16").peak_flops_per_s == profile.peak_bf16_flops_per_s
    assert "data sheet" in roof_to_forecast(profile, "bf16").source
    h100 = load_profile("h100_sxm_80g")
    assert roof_to_forecast(h100, "bf16").peak_flops_per_s == SUSTAINED_SHARE * (h100.peak_bf16_flops_per_s or 0)
    measured = {
        "on": "2026-01-01",
        "driver": None,
        "torch": "2.11",
        "memory_bandwidth_bytes_per_s": 1e11,
        "matmul_fp32_flops_per_s": 1e12,
        "matmul_tf32_flops_per_s": None,
        "matmul_bf16_flops_per_s": 2e12,
        "matmul_fp16_flops_per_s": None,
    }
    tree = profile.model_dump() | {"measured": measured}
    assert roof_to_forecast(type(profile).model_validate(tree), "bf16").peak_flops_per_s == 2e12


def test_the_published_run_says_how_many_videos_an_epoch_has() -> None:
    assert training_videos(load_config("anet_features", ["data.root=/nowhere"])) == 9971
    assert training_videos(load_config("quickstart", ["data.root=/nowhere"])) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": 3}, r"unknown column 'speed'; .*samples_per_s"),
        ({"batchh": 3}, "unknown column 'batchh'; did you mean batch"),
        ({"flops": "many"}, "line 2: flops must be a number above 0, not 'many'"),
        ({"batch": 0}, "batch must be a number above 0"),
        ({"samples_per_s": "nan"}, "samples_per_s must be a number above 0"),
        ({"what": "sleep"}, "what must be infer or train, not 'sleep'"),
        ({"what": "train", "run": "3090 dynamo"}, "compiled training is no regime yet"),
    ],
)
def test_a_bad_table_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_table(tmp_path / "bad.csv", [row | change for row in made_up_rows()])
    with pytest.raises(DataError, match=message) as caught:
        read_table(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_tables_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("what,run\n")
    with pytest.raises(DataError, match="lacks the columns gpu, model"):
        read_table(path)
    path.write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(NothingToDoError, match="has no rows"):
        read_table(path)
    path.write_text(",".join(COLUMNS) + "\ninfer,x\n")
    with pytest.raises(DataError, match="line 2: has not 11 values"):
        read_table(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_table(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "nowhere.csv")
    rows = read_table(write_table(path, made_up_rows()[:3]))
    with pytest.raises(NothingToDoError, match="no regime has 8 rows"):
        fit_factors(rows)
    strange = [row | {"gpu": "rtx_9999"} for row in made_up_rows()]
    with pytest.raises(ConfigError, match="rtx_9999: no such hardware profile"):
        fit_factors(read_table(write_table(path, strange)))


# The command.


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["forecast", *arguments])


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count in this process: starting another takes longer than that."""

    def run_here(count: Any, *arguments: Any, timeout_s: float) -> Outcome[Any]:
        return Outcome("ok", count(*arguments), "", datetime.now(UTC), 0.0)

    monkeypatch.setattr("bench.suites.forecast.run_isolated", run_here)


def price_list(folder: Path, prices: Mapping[str, float]) -> str:
    rows = "".join(f"- {{provider: P, gpu: {gpu}, price_per_hour: {price}}}\n" for gpu, price in prices.items())
    (folder / "prices.yaml").write_text(f"date: 2026-09-20\ncurrency: USD\nsource: made up\nprices:\n{rows}")
    return str(folder / "prices.yaml")


@pytest.mark.usefixtures("here")
def test_a_forecast_has_intervals_and_says_what_was_never_measured(tmp_path: Path) -> None:
    prices = price_list(tmp_path, {"rtx_3060_laptop_6g": 0.1, "rtx_3090_24g": 0.16, "mi300x_192g": 1.0})
    arguments = ["-c", "anet_features", "--batch", "1", "--prices", prices, "--kwh-price", "0.3", "--carbon", "380"]
    arguments += ["--store", str(tmp_path / "predicted"), "--set", "data.root=/nowhere"]
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.stderr
    *records, refused = [Record.model_validate(tree) for tree in json.loads(result.stdout)]
    for record in records:
        assert record.status == "predicted"
        for name in ("step_s", "schedule_s", "videos_per_s"):
            metric = record.metrics[name]
            assert metric.value is not None
            assert metric.low is not None
            assert metric.high is not None
            assert metric.low < metric.value < metric.high
        assert "fp32: all measurements are in half precision" in str(record.findings["never_measured"])
    assert str(records[0].findings["gpu_never_measured"]) == "rtx_3060_laptop_6g in inference and training"
    assert "gpu_never_measured" not in records[1].findings
    step, schedule = (records[0].metrics[name] for name in ("step_s", "schedule_s"))
    assert schedule.value == pytest.approx((step.value or 0) * 9971 * load_config("anet_features").train.epochs)
    # What it costs is forecast with the time.
    rent, schedule = records[1].metrics["schedule_rent_money"], records[1].metrics["schedule_s"]
    assert rent.value == pytest.approx(0.16 * (schedule.value or 0) / 3600)
    assert rent.low is not None
    assert rent.unit == "USD"
    assert str(rent.method).startswith("forecast time at 0.16 USD an hour")
    assert {"schedule_energy_j", "schedule_power_money", "schedule_carbon_g"} <= set(records[1].metrics)
    assert refused.status == "skipped"
    assert refused.failure is not None
    assert "no factors for GPUs of AMD, of which none was measured" in refused.failure.message
    assert len(ResultStore(tmp_path / "predicted").records()) == 3


def test_the_error_table_is_printed() -> None:
    result = run("--check")
    assert result.exit_code == 0
    for words in ("rtx_pro_6000_blackwell_max_q_96g", "windowed transformer", "training channels last", "kept apart"):
        assert words in result.stdout
    assert len(run("--check", "--format", "csv").stdout.splitlines()) > 30


def test_factors_are_fitted_by_the_command(tmp_path: Path, table: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert run("--fit", str(table), "-o", str(path)).exit_code == 0
    assert isinstance(load_factors(path), Factors)
    checked = run("--check", "--factors", str(path))
    assert checked.stdout == run("--check", "--fit", str(table)).stdout


def test_mistakes_are_one_line(tmp_path: Path, table: Path) -> None:
    (tmp_path / "bad.yaml").write_text("sauce: x")
    for arguments, exit_code, words in (
        (["--factors", str(tmp_path / "none.yaml")], 2, "cannot be read"),
        (["--factors", str(tmp_path / "bad.yaml")], 2, "sauce: unknown key; did you mean source"),
        (["--hardware", "rtx_9999"], 2, "rtx_9999"),
        (["--hardware", ","], 2, "empty"),
        (["--fit", str(tmp_path / "none.csv")], 2, "cannot be read"),
        (["--fit", str(table), "--factors", str(tmp_path / "bad.yaml")], 2, "give one of them"),
        (["--check", "--apart"], 2, "--apart: goes with"),
        (["--check", "--format", "json"], 2, "--check: has the forms"),
    ):
        result = run(*arguments)
        assert result.exit_code == exit_code, arguments
        assert words in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("here")
def test_the_cheapest_gpus_that_fit(tmp_path: Path) -> None:
    prices = price_list(tmp_path, {"l4_24g": 0.5, "rtx_4090_24g": 0.4, "mi300x_192g": 0.1, "h100_sxm_80g": 9.0})
    plan = ["plan", "--cheapest", "--prices", prices, "-c", "quickstart", "--videos", "60"]
    result = CliRunner().invoke(main, plan)
    assert result.exit_code == 0, result.stderr
    listed = [line.split()[0] for line in result.stdout.splitlines()[1:4]]
    assert set(listed) == {"rtx_4090_24g", "l4_24g", "h100_sxm_80g"}
    assert "no factors for GPUs of AMD" in result.stdout
    assert "prices of 2026-09-20" in result.stdout
    assert "forecast" in result.stdout
    for arguments, words in (
        (["plan", "--cheapest"], "--cheapest: takes its GPUs from --prices FILE"),
        (["plan", "--want", "--prices", prices], "go with --cheapest"),
        ([*plan, "--batch", "1,2"], "takes one setting"),
        (["forecast", "--price", "1/h", "--hardware", "t4_16g,l4_24g"], "--price: is of one GPU"),
    ):
        refused = CliRunner().invoke(main, arguments)
        assert refused.exit_code == 2
        assert words in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
