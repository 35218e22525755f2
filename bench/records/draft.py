"""A record before its result is known: what every record of a cell has, whatever came of the cell."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import JsonValue

from bench.cells import Cell
from bench.machine.environment import Environment
from bench.machine.processes import Outcome
from bench.records.record import Failure, Finding, Kind, Metrics, Record, Status, cell_id
from etad.config import Config


@dataclass(frozen=True)
class Asked:
    """What, besides the config, makes a cell: the fields of its record that are known before it runs.

    Attributes:
        suite: "memory", "throughput", ...
        kind: "measured" or "predicted".
        measurement: options that belong to the cell's id.
        device: slug of the folder its record lies in.
    """

    suite: str
    kind: Kind
    measurement: dict[str, JsonValue]
    device: str

    def cell_id(self, config: Config) -> str:
        """Return the id of the cell of an experiment."""
        return cell_id(self.suite, self.kind, config.resolved(), self.measurement)

    def on(self, device: str) -> "Asked":
        """Return the same, of the device that a measurement turned out to be on."""
        return replace(self, device=device)


@dataclass(frozen=True)
class Draft:
    """The fields of a record that do not depend on the result; see :func:`draft`."""

    facts: Mapping[str, Any]
    warnings: tuple[str, ...]

    def done(
        self,
        metrics: Metrics,
        *,
        phases: Mapping[str, Metrics] | None = None,
        findings: Mapping[str, Finding] | None = None,
        failure: Failure | None = None,
        warnings: Iterable[str] = (),
    ) -> Record:
        """Return the record of a cell with a result.

        Args:
            metrics, phases, findings: the result.
            failure: why it does not fit the device's memory (status "oom"); None: it does.
            warnings: about the result; those about the cell follow.
        """
        status: Status = "oom" if failure else "predicted" if self.facts["kind"] == "predicted" else "ok"
        return Record(
            status=status,
            metrics=metrics,
            phases=dict(phases or {}),
            findings=dict(findings or {}),
            failure=failure,
            warnings=(*warnings, *self.warnings),
            **self.facts,
        )

    def failed(self, status: Status, message: str) -> Record:
        """Return the record of a cell without a result, with the reason in one line."""
        return Record(status=status, failure=Failure(message=message), warnings=self.warnings, **self.facts)


def draft(cell: Cell, outcome: Outcome[Any], asked: Asked, environment: Environment) -> Draft:
    """Return what the record of a cell has, whatever came of it.

    Args:
        cell: config, command and warnings.
        outcome: when the cell began and how long it took.
        asked: suite, kind, measurement and device.
        environment: of the machine that it ran on.
    """
    return Draft(
        facts={
            "kind": asked.kind,
            "suite": asked.suite,
            "device": asked.device,
            "config": cell.config.resolved(),
            "measurement": asked.measurement,
            "environment": environment.model_dump(mode="json"),
            "command": cell.command,
            "started_at": outcome.started_at,
            "duration_s": outcome.duration_s,
        },
        warnings=cell.warnings,
    )
