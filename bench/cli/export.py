"""``etad-bench export``: records for other programs."""

from pathlib import Path

import click

from bench.cli.options import note


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--to",
    "form",
    required=True,
    type=click.Choice(["csv", "parquet", "mlflow", "tensorboard"]),
    help="csv, parquet: a table, one row a record. mlflow, tensorboard: a run a record.",
)
@click.option(
    "--output", "-o", required=True, metavar="TARGET", help="File (csv, parquet), folder, or MLflow's tracking URI."
)
def export(paths: tuple[Path, ...], form: str, output: str) -> None:
    """Hand the records in files and folders to other programs.

    What was exported to MLflow before is not exported again.
    """
    from bench.records.export import SINKS
    from bench.records.store import load_records

    records = [record for path in paths for record in load_records(path)]
    count = SINKS[form](records, output)
    note(f"{count} of {len(records)} records written to {output}")
