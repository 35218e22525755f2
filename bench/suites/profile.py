"""The record of a profiled cell."""

from typing import Any

from bench.cells import Cell
from bench.machine.environment import collect_environment, device_meant, device_slug
from bench.machine.processes import Outcome
from bench.measure.profiling import METHOD, NO_KERNELS, SUITE, TorchProfile
from bench.records.draft import Asked, draft
from bench.records.record import Metric, Metrics, Record


def profile_record(cell: Cell, outcome: Outcome[TorchProfile], measurement: dict[str, Any]) -> Record:
    """Return the record of a profiled cell, or of how its process failed."""
    environment, found = collect_environment(), outcome.value
    device = device_slug(environment, found.gpu) if found else device_meant(environment, measurement["device"])
    asked = Asked(SUITE, "measured", {"task": cell.task, **measurement}, device)
    begun = draft(cell, outcome, asked, environment)
    if found is None:
        return begun.failed(outcome.status, outcome.message)
    steps = len(found.steps_s)
    metrics: Metrics = {
        "profiled_step_s": Metric(
            value=sum(found.steps_s) / steps, unit="s", samples=found.steps_s, method=f"{METHOD}, which slows it down"
        ),
        "kernel_idle_ratio": Metric(
            value=found.kernel_idle,
            unit="1",
            reason=NO_KERNELS if found.kernel_idle is None else None,
            method=METHOD,
        ),
    }
    for one in found.operators:
        metrics[f"operator.{one.name}.self_time_s"] = Metric(
            value=one.self_time_s / steps, unit="s", method=METHOD, calls=one.calls / steps
        )
    phases: dict[str, Metrics] = {
        name: {"time_s": Metric(value=time_s, unit="s", method=METHOD)} for name, time_s in found.phases_s.items()
    }
    return begun.done(metrics, phases=phases)
