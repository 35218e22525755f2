"""Price lists: read, dated, of one currency, of known GPUs; and what a time costs by them."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.machine.datasheets import load_profile
from bench.machine.prices import EXAMPLE, NO_RATES, Rates, read_prices, read_rates
from bench.records.record import Metric
from bench.report.terminal.forecast import cost_lines
from bench.suites.costs import cost_metrics, measured_costs
from etad.errors import ConfigError
from tests.bench.records.test_record import make_record

LIST: dict[str, Any] = {
    "date": date(2026, 9, 20),
    "currency": "EUR",
    "source": "made up",
    "prices": [
        {"provider": "A", "gpu": "t4_16g", "price_per_hour": 0.2},
        {"provider": "B", "gpu": "t4_16g", "price_per_hour": 0.1},
        {"provider": "A", "gpu": "l4_24g", "price_per_hour": 0.5, "date": date(2026, 8, 1)},
    ],
}


def write(path: Path, tree: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def test_the_shipped_list_is_dated_and_sourced() -> None:
    found = read_prices(EXAMPLE)
    assert found.currency == "USD"
    assert len(found.gpus()) >= 15
    assert "github" in found.source.lower()
    assert "days old; prices change" in found.age(date(2027, 1, 1))


def test_the_lowest_price_counts_and_the_oldest_date(tmp_path: Path) -> None:
    found = read_prices(write(tmp_path / "p.yaml", LIST))
    offer = found.cheapest("t4_16g")
    assert offer is not None
    assert (offer.provider, offer.price_per_hour) == ("B", 0.1)
    assert found.cheapest("a10_24g") is None
    assert found.gpus() == ["t4_16g", "l4_24g"]
    assert found.age(date(2026, 8, 2)) == "prices of 2026-08-01 (1 day old), made up"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"date": None}, "date: must be"),
        ({"date": "soon"}, "date: "),
        ({"date": date(2999, 1, 1)}, "date: 2999-01-01 has not come yet"),
        ({"currency": ""}, "currency"),
        ({"prices": []}, "prices: is empty"),
        (
            {"prices": [{"provider": "A", "gpu": "t4", "price_per_hour": 1}]},
            "no hardware profile t4; did you mean t4_16g",
        ),
        (
            {"prices": [{"provider": "A", "gpu": "t4_16g", "price_per_hour": 0}]},
            "price_per_hour: must be a number above 0",
        ),
        (
            {"prices": [{"provider": "A", "gpu": "t4_16g", "price_per_hour": 1, "currency": "USD"}]},
            "number 1 is in USD and the list in EUR; prices in several currencies do not compare",
        ),
        ({"price": 3}, "price: unknown key; did you mean prices"),
    ],
)
def test_a_bad_list_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "p.yaml", LIST | change)
    with pytest.raises(ConfigError, match=message) as caught:
        read_prices(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_a_list_without_a_date_is_refused(tmp_path: Path) -> None:
    tree = {key: value for key, value in LIST.items() if key != "date"}
    with pytest.raises(ConfigError, match="date: is missing"):
        read_prices(write(tmp_path / "p.yaml", tree))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_prices(str(tmp_path / "nowhere.yaml"))


def test_a_price_on_the_command_line() -> None:
    assert read_rates(None, None, None, None) == NO_RATES
    assert read_rates("1.19/h", None, None, None).price_per_hour == 1.19
    assert read_rates("2 eur / h", None, None, None).currency == "EUR"
    for bad in ("1.19", "/h", "-1/h", "0/h", "1/day", "x/h"):
        with pytest.raises(ConfigError, match="no price of an hour; write it as"):
            read_rates(bad, None, None, None)
    with pytest.raises(ConfigError, match="--price and --prices"):
        read_rates("1/h", EXAMPLE, None, None)


def test_what_a_time_costs_has_its_interval_and_says_whether_it_is_forecast() -> None:
    time = Metric(value=7200.0, low=3600.0, high=10800.0, unit="s")
    rates = Rates(price_per_hour=1.5, currency="EUR", kwh_price=0.3, carbon_g_per_kwh=400.0)
    found = cost_metrics(time, load_profile("a100_sxm_80g"), rates, "forecast")
    rent, energy = found["schedule_rent_money"], found["schedule_energy_j"]
    assert (rent.low, rent.value, rent.high, rent.unit) == (1.5, 3.0, 4.5, "EUR")
    assert energy.value == pytest.approx(400 * 7200)
    assert "upper bound" in str(energy.method)
    assert found["schedule_power_money"].value == pytest.approx(0.8 * 0.3)
    assert found["schedule_carbon_g"].value == pytest.approx(0.8 * 400)
    assert all("forecast" in str(found[name].method) for name in ("schedule_rent_money", "schedule_energy_j"))
    assert cost_metrics(time, load_profile("a100_sxm_80g"), NO_RATES, "forecast") == {}


def test_what_is_not_known_has_a_reason() -> None:
    time = Metric(value=7200.0, unit="s")
    apple = cost_metrics(time, load_profile("apple_m4_max_128g"), Rates(kwh_price=0.3), "forecast")
    assert apple["schedule_energy_j"].value is None
    assert "Apple publishes no power" in str(apple["schedule_energy_j"].reason)
    listed = Rates(prices=read_prices(EXAMPLE), currency="USD")
    unlisted = cost_metrics(time, load_profile("titan_xp_12g"), listed, "forecast")
    assert "no price of titan_xp_12g" in str(unlisted["schedule_rent_money"].reason)


def test_a_measured_training_is_counted_as_measured() -> None:
    trained = make_record(device="nvidia-a100-sxm4-80gb", metrics={"train_s": Metric(value=3600.0, unit="s")})
    costs = measured_costs([trained, trained], Rates(price_per_hour=2.0, currency="EUR", kwh_price=0.5))
    lines = cost_lines(costs)
    assert lines[0] == "rent: 4 EUR (measured time at 2 EUR an hour, the given price)"
    assert lines[1].startswith("energy [kWh]: 0.8 (measured time at the board's 400 W")
    here = make_record(device="cpu-x", metrics={"train_s": Metric(value=3600.0, unit="s")})
    assert "cpu-x: its power is not known" in cost_lines(measured_costs([here], Rates(carbon_g_per_kwh=1.0)))[0]
