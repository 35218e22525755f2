"""``etad-bench merge``: the records of several machines in one folder."""

from pathlib import Path
from typing import Literal

import click


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--into", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to gather the records in."
)
@click.option(
    "--conflicts",
    type=click.Choice(["error", "newest"]),
    default="error",
    show_default=True,
    help="A cell with different results in two folders: refuse, or keep what started last.",
)
def merge(sources: tuple[Path, ...], into: Path, conflicts: Literal["error", "newest"]) -> None:
    """Gather folders of records; nothing is written unless everything can be.

    Records lie by device, so those of several machines do not meet.
    """
    from bench.records.gathering import merge as merge_folders

    merged = merge_folders(sources, into, conflicts)
    for what in ("copied", "identical", "replaced", "kept"):
        click.echo(f"{what:9}  {len(getattr(merged, what))}")
