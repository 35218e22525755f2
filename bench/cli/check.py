"""``etad-bench check``: whether a folder of records can be relied on."""

import json
from collections import Counter
from pathlib import Path

import click

from bench.cli import FAILED
from bench.cli.options import note
from etad.progress import progress


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--strict", is_flag=True, help="Notes fail, too.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a record instead.")
def check(paths: tuple[Path, ...], strict: bool, schema: bool) -> None:
    """Check the records in files and folders, and list everything that is wrong.

    Looked at: the schema, physical sense, where it comes from (environment, commit, command; predicted says so), and
    whether each file lies where its content belongs. Exit code 3: there are problems. 5: there are no records.
    """
    from bench.records.audit import check_files
    from bench.records.files import json_schema
    from bench.records.store import record_files

    if schema:
        click.echo(json.dumps(json_schema(), indent=1))
        return
    if not paths:
        raise click.UsageError("name a folder of records, e.g. etad-bench check results/")
    files = [file for path in paths for file in record_files(path)]
    found: Counter[str] = Counter()
    for findings in progress(check_files(files), "check", total=len(files), unit="record"):
        for finding in findings:
            click.echo(f"{finding.path}: {finding.severity}: {finding.message}")
            found[finding.severity] += 1
    note(f"{len(files)} records: {found['problem']} problems, {found['note']} notes")
    if found["problem"] or (strict and found["note"]):
        raise SystemExit(FAILED)
