"""A report as one HTML file that needs nothing else: no network, no fonts, no libraries; without JavaScript, too."""

import base64
import gzip
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.report.page.document import KIND_SIGNS, Charts, Note, Report, Table

MOST_PLAIN_BYTES = 256 * 1024
"""Of a CSV file; a larger one is compressed, so that the page stays small."""


def to_html(report: Report) -> str:
    """Return ``report`` as HTML."""
    return _environment().get_template("report.html.j2").render(report=report, kind_signs=KIND_SIGNS)


@cache
def _environment() -> Environment:
    # Every text comes from files that somebody else may have written, so all of it is escaped.
    environment = Environment(
        loader=PackageLoader("bench.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests |= {
        "note": lambda block: isinstance(block, Note),
        "charts": lambda block: isinstance(block, Charts),
        "table": lambda block: isinstance(block, Table),
    }
    environment.filters["csv_file"] = _csv_file
    return environment


def _csv_file(table: Table) -> dict[str, str]:
    """Return name and content of a link that holds the table as CSV: saved offline and without JavaScript."""
    data, name, kind = table.to_csv().encode(), f"{table.ident}.csv", "text/csv;charset=utf-8"
    if len(data) > MOST_PLAIN_BYTES:
        data, name, kind = gzip.compress(data, mtime=0), f"{name}.gz", "application/gzip"
    return {"name": name, "url": f"data:{kind};base64,{base64.b64encode(data).decode()}"}
