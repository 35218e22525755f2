"""``etad-bench baseline``: the deterministic quantities that every commit is compared with."""

from pathlib import Path

import click

from bench.report.terminal.compare import FORMS, Form
from etad.progress import progress

folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results/baselines"),
    show_default=True,
    help="Folder of baselines, one below it for each release of torch.",
)


@click.group()
def baseline() -> None:
    """Keep, or check, predicted bytes, FLOPs, parameters and operator counts of eight fixed cells.

    They are the same on every run, so they are compared by equality, and any difference fails.
    """


@baseline.command()
@folder_option
def save(folder: Path) -> None:
    """Make the baseline of this torch anew; to be committed together with the change that it follows from."""
    from bench.compare.baseline import CELLS, make_baseline, save_baseline

    records = list(progress(make_baseline(), "baseline", total=len(CELLS), unit="cell"))
    for path in save_baseline(folder, records):
        click.echo(path)


@baseline.command()
@folder_option
@click.option(
    "--format", "form", type=click.Choice(FORMS), default="table", show_default=True, help="Form of the output."
)
def check(folder: Path, form: Form) -> None:
    """Compare this code with the committed baseline.

    Exit code 0: equal. 1: something differs, for better or worse. 4: there is no baseline of this torch.
    """
    from bench.compare.baseline import CELLS, check_baseline, make_baseline
    from bench.compare.compare import REGRESSED
    from bench.report.terminal.compare import format_compared

    compared = check_baseline(folder, list(progress(make_baseline(), "baseline", total=len(CELLS), unit="cell")))
    click.echo(format_compared(compared, form))
    if set(compared.count()) != {"unchanged"}:
        raise SystemExit(REGRESSED)
