"""``etad-bench config``: what an experiment's settings are, after inheritance and overrides."""

import click
import yaml

from bench.cli.options import seed_option, set_option, with_seed
from etad.config import load_config
from etad.resources import resource_folder


@click.command()
@click.argument("name", required=False)
@set_option
@seed_option
def config(name: str | None, assignments: tuple[str, ...], seed: int | None) -> None:
    """Print config NAME (a file or a shipped one), resolved, as YAML; without NAME, list the shipped ones."""
    if name is None:
        for path in sorted(resource_folder("configs").glob("*.yaml")):
            first = path.read_text(encoding="utf-8").splitlines()[0]
            click.echo(f"{path.stem:20} {first.removeprefix('#').strip()}")
        return
    resolved = load_config(name, with_seed(assignments, seed)).resolved()
    click.echo(yaml.safe_dump(resolved, sort_keys=False, default_flow_style=None, width=100), nl=False)
