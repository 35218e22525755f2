"""What a record's result was made from: digests of its data, among its findings, and whether they still hold.

They are no part of the cell's id: the cell is what was asked, and another answer to it replaces the first.
"""

from collections.abc import Mapping

from bench.records.record import Finding, Record
from etad.inputs import Inputs, changed

INPUTS = "inputs."
"""How the findings begin that hold a digest: "inputs.annotations", "inputs.features", ..."""


def input_findings(inputs: Mapping[str, str]) -> dict[str, Finding]:
    """Return what an experiment read, from the kind of an input to its digest, as findings."""
    return {f"{INPUTS}{kind}": Finding(verdict=found) for kind, found in inputs.items()}


def inputs_of(record: Record) -> Inputs:
    """Return what a record's result was made from; empty where it does not tell, as those of earlier versions."""
    return {
        name.removeprefix(INPUTS): finding.verdict
        for name, finding in record.findings.items()
        if name.startswith(INPUTS)
    }


def why_stale(record: Record, inputs: Mapping[str, str]) -> str:
    """Return why a record is not the answer for the data that is there now, in words; empty where it is.

    Args:
        record: one without a result does not depend on them.
        inputs: of the data now.
    """
    if not record.succeeded:
        return ""
    made_from = inputs_of(record)
    when = f"{record.started_at:%Y-%m-%d %H:%M} UTC"
    if not made_from:
        return f"its record of {when} does not tell the data it was made from" if inputs else ""
    differing = changed(made_from, inputs)
    return f"{', '.join(differing)} changed since {when}" if differing else ""
