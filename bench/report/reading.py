"""What reports read out of a record: settings, what fits, what holds the memory, the main metric."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from bench.cells import KNOBS
from bench.records.record import Metric, Metrics, Record
from etad.config import EfficiencyConfig
from etad.variants import VARIANTS

Setting = str | int | float | bool | None

MAIN_METRICS = (
    "average_mAP",
    "step_s",
    "reserved_peak_bytes",
    "allocated_peak_bytes",
    "requested_peak_bytes",
    "energy_per_video_j",
)
"""Which metric stands for a record where one has to; otherwise its first one."""


INTENSITY, SPEED = "arithmetic_intensity_flops_per_byte", "achieved_flops_per_s"
"""Metrics of a step in the roofline."""


def setting(record: Record, option: str) -> str:
    """Return the value of a knob."""
    if option == "variant":
        return variant_of(record.config)
    value: object = record.config
    for key in KNOBS[option].split("."):
        assert isinstance(value, dict)
        value = value[key]
    return str(value)


def fits(record: Record) -> str | None:
    """Return yes, no or uncertain; None where no GPU was named."""
    metric = record.metrics.get("fits")
    if metric is None:
        return None
    return "uncertain" if metric.value is None else "yes" if metric.value else "no"


def held(record: Record, what: str) -> list[tuple[str, Metric]]:
    """Return what is alive at the peak by name, largest first: of a category, a module or a tensor."""
    prefix = f"held.{what}."
    return [
        (name.removeprefix(prefix).removesuffix("_bytes"), metric)
        for name, metric in record.metrics.items()
        if name.startswith(prefix) and metric.value is not None
    ]


def held_sizes(record: Record, what: str) -> list[tuple[str, float]]:
    """Return the same as sizes in bytes, without what is empty."""
    sizes = [(name.replace("_", " "), float(metric.value or 0)) for name, metric in held(record, what)]
    return sorted((pair for pair in sizes if pair[1] > 0), key=lambda pair: -pair[1])


def value_in(record: Record, name: str) -> float | None:
    """Return the value of a metric; None where it is missing or not known."""
    metric = record.metrics.get(name)
    return None if metric is None or metric.value is None else float(metric.value)


def main_metric(record: Record) -> tuple[str | None, Metric | None]:
    """Return name and value of the metric that stands for a record; None for both if it has none."""
    known = {name: metric for name, metric in record.metrics.items() if metric.value is not None}
    name = next((name for name in MAIN_METRICS if name in known), next(iter(known), None))
    return name, None if name is None else known[name]


def done_flops(metrics: Metrics) -> float:
    """Return all arithmetic that was counted, and is done, of a step or of a phase."""
    values = [
        metrics[name].value or 0
        for name in ("torch_counter_flops", "torch_counter_excess_flops", "lstm_formula_flops")
        if name in metrics
    ]
    return values[0] - values[1] + values[2] if len(values) == 3 else sum(values)


def roofline_points(record: Record) -> Iterator[tuple[str, float, float]]:
    """Yield name, arithmetic intensity in FLOP/byte and speed in FLOP/s of the step and of each phase that computes."""
    intensity, speed = (value_in(record, name) for name in (INTENSITY, SPEED))
    if intensity and speed:
        yield "step", intensity, speed
    for name, metrics in record.phases.items():
        if "time_s" in metrics and "moved_bytes" in metrics:
            time_s, moved, flops = metrics["time_s"].value, metrics["moved_bytes"].value, done_flops(metrics)
            if time_s and moved and flops:
                yield name, flops / moved, flops / time_s


def highest_roof(records: Sequence[Record]) -> tuple[float, float] | None:
    """Return the peak in FLOP/s and the bandwidth in bytes/s of the records' device; None where they are not known.

    What was probed differs from run to run. None of it can be above the device's own, so the highest counts.
    """
    peaks = [peak for record in records if (peak := value_in(record, "peak_flops_per_s"))]
    bandwidths = [rate for record in records if (rate := value_in(record, "memory_bandwidth_bytes_per_s"))]
    return (max(peaks), max(bandwidths)) if peaks and bandwidths else None


def point(record: Record, name: str) -> Metric | None:
    """Return a metric without its interval; None where the record has none."""
    metric = record.metrics.get(name)
    return None if metric is None else metric.model_copy(update={"low": None, "high": None})


def experiment(record: Record) -> str:
    """Return the name of the record's experiment."""
    return str(record.config.get("name", "unnamed"))


def task_name(record: Record) -> str:
    """Return what was run: "training step", "inference", ..."""
    if record.suite == "accuracy":
        return "training run"
    task = str(record.measurement.get("task", "train"))
    return {"train": "training step", "infer": "inference"}.get(task, task)


def variant_of(config: Mapping[str, JsonValue]) -> str:
    """Return the name of the efficiency settings, or what differs from the published ones."""
    chosen = config.get("efficiency")
    published = EfficiencyConfig().model_dump(mode="json")
    # Records from before there was a choice are of the published form.
    settings = published | chosen if isinstance(chosen, dict) else published
    for name, variant in VARIANTS.items():
        if settings == variant.model_dump(mode="json"):
            return name
    return ", ".join(f"{key}={show(value)}" for key, value in settings.items() if value != published.get(key))


def show(value: Setting) -> str:
    """Return a setting's value: "0.3", "yes", "-"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else str(value)
