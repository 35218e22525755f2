"""Money, energy and CO2 of a training, from how long it takes: forecast where the time is, measured where that is."""

from collections.abc import Sequence

from bench.machine.datasheets import HardwareProfile, list_profiles
from bench.machine.environment import slug
from bench.machine.prices import Rates
from bench.records.record import Metric, Metrics, Record, value_of
from bench.units import HOUR_S

JOULES_A_KWH = 3.6e6


def cost_metrics(
    schedule: Metric, profile: HardwareProfile | None, rates: Rates, label: str, device: str = ""
) -> Metrics:
    """Return what a training costs, with the interval of its time; empty where nothing was asked for.

    Args:
        schedule: how long it takes.
        profile: the GPU; None: there is none of ``device``.
        rates: the prices.
        label: "forecast" or "measured", of the time.
        device: what it is called where there is no profile.
    """
    found: Metrics = {}
    name = device if profile is None else profile.name
    rent = rates.rent(name)
    if rates.prices is not None or rates.price_per_hour is not None:
        money = rates.currency or "1"
        if rent is None:
            missing = f"the price file has no price of {name}"
            found["schedule_rent_money"] = Metric(value=None, unit=money, reason=missing)
        else:
            how = f"{label} time at {rent[0]:g}{rates.currency and ' ' + rates.currency} an hour, {rent[1]}"
            found["schedule_rent_money"] = _scaled(schedule, rent[0] / HOUR_S, money, how)
    if rates.kwh_price is None and rates.carbon_g_per_kwh is None:
        return found
    if profile is None or profile.power_w is None:
        why = "no hardware profile" if profile is None else profile.unknown["power_w"]
        reason = f"{name}: its power is not known, {why}"
        return found | {"schedule_energy_j": Metric(value=None, unit="J", reason=reason)}
    how = f"{label} time at the board's {profile.power_w:g} W, its limit: an upper bound"
    found["schedule_energy_j"] = _scaled(schedule, profile.power_w, "J", how)
    kwh = profile.power_w / JOULES_A_KWH
    if rates.kwh_price is not None:
        how = f"energy at {rates.kwh_price:g}{rates.currency and ' ' + rates.currency} a kWh; an upper bound"
        found["schedule_power_money"] = _scaled(schedule, kwh * rates.kwh_price, rates.currency or "1", how)
    if rates.carbon_g_per_kwh is not None:
        how = f"energy at {rates.carbon_g_per_kwh:g} g CO2 a kWh; an upper bound"
        found["schedule_carbon_g"] = _scaled(schedule, kwh * rates.carbon_g_per_kwh, "g", how)
    return found


def measured_costs(records: Sequence[Record], rates: Rates) -> Metrics:
    """Return what the trainings of accuracy records cost, all together, from the time they took; empty without prices.

    The GPU is the one whose profile belongs to the records' device; without one, energy is not known.
    """
    times = [value_of(record.metrics, "train_s") for record in records]
    known = [time for time in times if time is not None]
    time = Metric(value=sum(known), unit="s") if known else Metric(value=None, unit="s", reason="nothing was trained")
    devices = sorted({record.device for record in records})
    profile = next((one for one in list_profiles() if [slug(one.device_names[0])] == devices), None)
    return cost_metrics(time, profile, rates, "measured", ", ".join(devices))


def _scaled(time: Metric, factor: float, unit: str, method: str) -> Metric:
    if time.value is None:
        return Metric(value=None, unit=unit, reason=time.reason)
    low, high = (None if bound is None else bound * factor for bound in (time.low, time.high))
    return Metric(value=time.value * factor, low=low, high=high, unit=unit, method=method)
