"""``etad-bench published``: what others reported, next to which our own results stand."""

from pathlib import Path
from typing import Literal

import click

from bench.cli.options import emit
from bench.published.figures import DATASETS, Dataset, load_published
from bench.report.terminal.published import format_figures


@click.command()
@click.option("--dataset", type=click.Choice(DATASETS), help="Only the figures on this data set.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "md"]),
    default="table",
    show_default=True,
    help="Form of the output.",
)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="File instead of stdout.")
def published(dataset: Dataset | None, form: Literal["table", "json", "csv", "md"], output: Path | None) -> None:
    """Print published accuracy and cost of ETAD and comparable methods, each with its source.

    Marks: READ in the authors' own text or repository; READ-ABS in the abstract; READ-3P in another paper's table;
    USERLOG in a log that a user pasted; 2ND second hand.
    """
    text = format_figures(load_published(dataset), form)
    emit(text, output)
