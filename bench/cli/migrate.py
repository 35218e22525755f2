"""``etad-bench migrate``: records of older schema versions in the present one."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def migrate(folder: Path) -> None:
    """Rewrite the records of older schema versions below a folder, and name them by their new ids.

    Other commands read old records as they are; this is for keeping them.
    """
    from bench.records.gathering import migrate as migrate_folder

    for old, new in migrate_folder(folder):
        click.echo(f"{old} -> {new}" if old != new else str(new))
