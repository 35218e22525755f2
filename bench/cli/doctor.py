"""``etad-bench doctor``: what makes this machine unfit to time on, and how to mend it."""

import json
from dataclasses import asdict

import click

from bench.cli.options import note
from bench.machine.environment import collect_environment
from bench.machine.fitness import diagnose, watch
from etad.errors import DeviceError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@click.option("--require-clean", is_flag=True, help="Exit with 6 if anything makes timings mislead.")
def doctor(as_json: bool, require_clean: bool) -> None:
    """Look for a second at what disturbs timing here: other processes, clocks, throttling, threads, flags.

    Each finding is unfit (timings mislead), advice (they can be better) or a note (it changes results).
    """
    findings = diagnose(collect_environment(), watch())
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            click.echo(f"{finding.severity:7} {finding.what}\n        -> {finding.mend}")
        if not findings:
            click.echo("fit: nothing found that disturbs timing")
    unfit = sum(finding.severity == "unfit" for finding in findings)
    if unfit and require_clean:
        raise DeviceError(f"{unfit} findings make timings mislead here; see above, or leave out --require-clean")
    if unfit:
        note("timings taken now mislead; see the findings marked unfit")
