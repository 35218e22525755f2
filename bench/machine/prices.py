"""What an hour on a GPU costs: price lists of those who rent them out, dated and with sources."""

import datetime
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import pydantic
from pydantic import Field, model_validator

from bench.machine.datasheets import find_profiles
from etad.errors import ConfigError, explained, nearest
from etad.files import read_yaml
from etad.resources import resource_folder

EXAMPLE = "example"
"""Name of the shipped list."""
OLD_DAYS = 30
"""An older list is told to be one."""

Amount = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Price(pydantic.BaseModel):
    """One offer."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    provider: str
    """Who rents it out, and in which kind of offer."""
    gpu: str
    """Name of the hardware profile."""
    price_per_hour: Amount
    """Of one GPU for an hour, in the list's currency."""
    currency: str | None = None
    """If it is said, it has to be the list's: prices in several currencies do not compare."""
    date: datetime.date | None = None
    """When the price was read, if not with the list."""
    source: str | None = None
    """Where it was read, if not where the list says."""


class PriceList(pydantic.BaseModel):
    """A price file."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    date: datetime.date
    """When the prices were read, ISO 8601."""
    currency: Annotated[str, Field(min_length=1)]
    """Of all prices: USD, EUR, ..."""
    source: str
    """Where they were read."""
    prices: Annotated[tuple[Price, ...], Field(min_length=1)]
    """The offers."""

    @model_validator(mode="after")
    def _one_currency(self) -> Self:
        for number, price in enumerate(self.prices, 1):
            if price.currency is not None and price.currency != self.currency:
                raise ValueError(
                    f"prices: number {number} is in {price.currency} and the list in {self.currency}; "
                    "prices in several currencies do not compare, so make a file for each"
                )
        return self

    def cheapest(self, gpu: str) -> Price | None:
        """Return the lowest price of a GPU; None: there is none."""
        offers = [price for price in self.prices if price.gpu == gpu]
        return min(offers, key=lambda offer: offer.price_per_hour, default=None)

    def gpus(self) -> list[str]:
        """Return the GPUs that have a price, in the order of the list."""
        return list(dict.fromkeys(price.gpu for price in self.prices))

    def age(self, today: datetime.date) -> str:
        """Return how old the prices are, in words; the oldest counts."""
        oldest = min([self.date, *(price.date for price in self.prices if price.date is not None)])
        days = (today - oldest).days
        warning = "; prices change, look again" if days > OLD_DAYS else ""
        return f"prices of {oldest} ({days} day{'' if days == 1 else 's'} old{warning}), {self.source}"


@dataclass(frozen=True)
class Rates:
    """What a time on a GPU is to be counted in; None: not asked for.

    Attributes:
        prices: a list.
        price_per_hour: of whatever GPU is meant.
        currency: of all money; empty where none was named.
        kwh_price: of a kilowatt hour.
        carbon_g_per_kwh: grams of CO2 of a kilowatt hour.
    """

    prices: PriceList | None = None
    price_per_hour: float | None = None
    currency: str = ""
    kwh_price: float | None = None
    carbon_g_per_kwh: float | None = None

    def rent(self, gpu: str) -> tuple[float, str] | None:
        """Return the price of an hour on a GPU and who asks it; None: not known."""
        if self.price_per_hour is not None:
            return self.price_per_hour, "the given price"
        offer = None if self.prices is None else self.prices.cheapest(gpu)
        return None if offer is None else (offer.price_per_hour, offer.provider)


NO_RATES = Rates()
"""Nothing was asked for."""


def read_prices(name: str) -> PriceList:
    """Read a price file; "example" is the shipped one.

    Raises:
        ConfigError: unreadable, no date, mixed currencies, a GPU without a profile; one line.
    """
    path = resource_folder("profiles") / "prices" / "example.yaml" if name == EXAMPLE else Path(name)
    try:
        found = PriceList.model_validate(read_yaml(path))
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {explained(error, PriceList)[0]}") from None
    known = [profile.name for profile in find_profiles()[0]]
    for number, price in enumerate(found.prices, 1):
        if price.gpu not in known:
            hint = nearest(price.gpu, known, "etad-bench profiles lists them")
            raise ConfigError(f"{path}: prices: number {number}: no hardware profile {price.gpu}; {hint}")
    if found.date > datetime.date.today():
        raise ConfigError(f"{path}: date: {found.date} has not come yet")
    return found


def read_rates(price: str | None, prices: str | None, kwh_price: float | None, carbon: float | None) -> Rates:
    """Return what the options ``--price``, ``--prices``, ``--kwh-price`` and ``--carbon`` mean.

    Raises:
        ConfigError: ``--price`` is none, or both a price and a list are given.
    """
    if price is not None and prices is not None:
        raise ConfigError("--price and --prices: give one of them")
    if prices is not None:
        found = read_prices(prices)
        return Rates(prices=found, currency=found.currency, kwh_price=kwh_price, carbon_g_per_kwh=carbon)
    amount, currency = (None, "") if price is None else _price(price)
    return Rates(price_per_hour=amount, currency=currency, kwh_price=kwh_price, carbon_g_per_kwh=carbon)


def _price(text: str) -> tuple[float, str]:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]{3})?\s*/\s*h\s*", text)
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"--price {text}: no price of an hour; write it as 1.19/h or 1.19EUR/h")
    return float(match[1]), (match[2] or "").upper()
