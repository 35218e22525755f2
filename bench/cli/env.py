"""``etad-bench env``: what this machine and this process look like, ready to paste into an issue."""

import click

from bench.machine.environment import collect_environment, format_environment


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON, as it stands in every record, instead of text.")
def env(as_json: bool) -> None:
    """Print host, CPU, memory, GPUs, torch, flags, settings, code version and packages."""
    found = collect_environment()
    click.echo(found.model_dump_json(indent=1) if as_json else format_environment(found))
