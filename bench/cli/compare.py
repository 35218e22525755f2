"""``etad-bench compare``: whether one set of results is better than another."""

from pathlib import Path

import click

from bench.cli.options import emit, output_option
from bench.report.terminal.compare import FORMS, Form
from etad.files import write_text


@click.command()
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("head", type=click.Path(path_type=Path))
@click.option(
    "--gates",
    "gates_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML of thresholds, before the shipped ones (configs/gates/default.yaml).",
)
@click.option("--across-devices", is_flag=True, help="Pair cells of different devices, or numbers of threads, too.")
@click.option("--ignore", multiple=True, metavar="KEY", help="Setting that may differ, e.g. step.snippet_ratio.")
@click.option("--strict", is_flag=True, help="What is missing or inconclusive fails, too.")
@click.option("--all", "everything", is_flag=True, help="Also list what is unchanged.")
@click.option(
    "--format", "form", type=click.Choice(FORMS), default="table", show_default=True, help="Form of the output."
)
@output_option
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="JUnit XML file besides.")
def compare(
    base: Path,
    head: Path,
    gates_file: Path | None,
    across_devices: bool,
    ignore: tuple[str, ...],
    strict: bool,
    everything: bool,
    form: Form,
    output: Path | None,
    junit: Path | None,
) -> None:
    """Compare the records in HEAD with those in BASE, metric by metric; both are folders or files.

    Exact metrics (predicted bytes, FLOPs, counts) compare by equality; times need a significant change of a minimum
    size. Exit code 0: nothing got worse. 1: something did. 4: not comparable, or there is no BASE. 5: HEAD is empty.
    """
    from bench.compare.compare import compare_records, load_base
    from bench.compare.thresholds import load_gates
    from bench.records.store import load_records
    from bench.report.terminal.compare import format_compared
    from bench.report.terminal.compare import junit as junit_xml

    compared = compare_records(load_base(base), load_records(head), load_gates(gates_file), across_devices, ignore)
    text = format_compared(compared, form, everything)
    emit(text, output)
    if junit is not None:
        write_text(junit, junit_xml(compared, strict) + "\n")
    raise SystemExit(compared.exit_code(strict))
