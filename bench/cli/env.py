"""``etad-bench env``: what this machine and this process look like, ready to paste into an issue."""

import click

from bench.machine.environment import collect_environment, collect_without_torch, format_environment


@click.command()
@click.option("--torch", "ask_torch", is_flag=True, help="Also load torch, and ask it for CUDA, cuDNN, flags, threads.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text; with --torch as in every record.")
def env(ask_torch: bool, as_json: bool) -> None:
    """Print host, CPU, memory, GPUs, torch, settings, code version and packages.

    An issue about a result needs --torch, which takes some seconds: whether torch can use the GPU, and its flags.
    """
    found = collect_environment() if ask_torch else collect_without_torch()
    click.echo(found.model_dump_json(indent=1) if as_json else format_environment(found))
