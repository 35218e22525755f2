"""``etad-bench report``: results as one page that a person wants to read."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from bench.cli.options import cost_options, known_profiles, note, output_option
from bench.machine.prices import read_rates
from etad import __version__
from etad.errors import ConfigError
from etad.files import write_text


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option
@click.option("--format", "form", type=click.Choice(["html", "md"]), help="Default: md for a FILE.md, otherwise html.")
@cost_options
def report(
    results: tuple[Path, ...],
    output: Path | None,
    form: Literal["html", "md"] | None,
    price: str | None,
    prices: str | None,
    kwh_price: float | None,
    carbon: float | None,
) -> None:
    """Write a report of RESULTS: folders of records, or record files.

    The HTML is one file without a need for the network. A browser prints it as PDF.
    """
    # pandas and torch are slow to import, and --help does not need them.
    from bench.published.figures import load_published
    from bench.report.page.assemble import build_report
    from bench.report.page.collect import collect
    from bench.report.page.html import to_html
    from bench.report.page.markdown import to_markdown

    if form is None and output is not None and output.suffix not in (".html", ".htm", ".md"):
        raise ConfigError(f"--output {output}: write it as .html or .md, or say --format; a browser prints it as PDF")
    rates = read_rates(price, prices, kwh_price, carbon)
    collected = collect(results)
    for problem in collected.problems:
        note(problem)
    made = f"made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by etad-bench {__version__}"
    document = build_report(collected, results, load_published(), known_profiles(with_memory=True), made, rates)
    markdown = form == "md" or (form is None and output is not None and output.suffix == ".md")
    text = to_markdown(document) if markdown else to_html(document)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)
        count = len(collected.entries)
        note(f"{count} record{'s' if count != 1 else ''}, written to {output}")
