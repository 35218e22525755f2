"""``etad-bench gate``: whether a change makes the project slower or larger."""

import shlex
from pathlib import Path

import click

from bench.cli.options import emit, note, output_option
from bench.report.terminal.compare import FORMS, Form
from etad.files import write_text
from etad.progress import progress


@click.command()
@click.option("--base", required=True, metavar="REV", help="Revision to compare with, e.g. main or HEAD~1.")
@click.option("--head", metavar="REV", help="Revision to judge. Default: the working tree.")
@click.option(
    "--benchmarks",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("tests/benchmarks"),
    show_default=True,
    help="Folder of pytest-benchmark tests; HEAD's are run in both revisions.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True, help="Processes a revision.")
@click.option("--time/--no-time", "timed", default=True, show_default=True, help="Whether to run the benchmarks.")
@click.option(
    "--exact/--no-exact", default=True, show_default=True, help="Whether to compare the deterministic quantities."
)
@click.option(
    "--gates", "gates_file", type=click.Path(path_type=Path, dir_okay=False), help="YAML of thresholds (see compare)."
)
@click.option("--strict", is_flag=True, help="What is missing or inconclusive fails, too.")
@click.option("--all", "everything", is_flag=True, help="Also list what is unchanged.")
@click.option(
    "--format", "form", type=click.Choice(FORMS), default="table", show_default=True, help="Form of the output."
)
@output_option
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="JUnit XML file besides.")
@click.option(
    "--store", type=click.Path(path_type=Path, file_okay=False), help="Folder to keep the records in, base/ and head/."
)
def gate(
    base: str,
    head: str | None,
    benchmarks: Path,
    rounds: int,
    timed: bool,
    exact: bool,
    gates_file: Path | None,
    strict: bool,
    everything: bool,
    form: Form,
    output: Path | None,
    junit: Path | None,
    store: Path | None,
) -> None:
    """Judge a change of this git repository: its speed, by benchmarks in turns with BASE, and what is deterministic.

    Fewer than 5 rounds cannot show a change of time. Exit code 0: nothing got worse. 1: something did. 3: a benchmark
    fails. 4: not comparable. 5: there are no benchmarks.
    """
    from bench.compare.compare import compare_records
    from bench.compare.revisions import Plan, run_gate
    from bench.compare.thresholds import load_gates
    from bench.records.store import ResultStore
    from bench.report.terminal.compare import format_compared
    from bench.report.terminal.compare import junit as junit_xml

    gates = load_gates(gates_file)
    command = shlex.join(["etad-bench", "gate", "--base", base, *(["--head", head] if head else [])])
    plan = Plan(base, head, benchmarks, rounds if timed else 0, exact, command)
    found = run_gate(plan, Path.cwd(), lambda turns: progress(turns, "gate", total=2 * rounds, unit="process"))
    for line in found.notes:
        note(line)
    if store is not None:
        for name, records in (("base", found.base), ("head", found.head)):
            for record in records:
                ResultStore(store / name).write(record)
    compared = compare_records(found.base, found.head, gates)
    text = format_compared(compared, form, everything)
    emit(text, output)
    if junit is not None:
        write_text(junit, junit_xml(compared, strict) + "\n")
    raise SystemExit(compared.exit_code(strict))
