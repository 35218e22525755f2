"""A report as one HTML file that needs nothing else: no network, no fonts, no libraries; without JavaScript, too."""

import base64
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.report.document import KIND_SIGNS, Charts, Note, Report, Table


def to_html(report: Report) -> str:
    """Return ``report`` as HTML."""
    return _environment().get_template("report.html.j2").render(report=report, kind_signs=KIND_SIGNS)


@cache
def _environment() -> Environment:
    # Every text comes from files that somebody else may have written, so all of it is escaped.
    environment = Environment(
        loader=PackageLoader("bench.report"),
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
    environment.filters["csv_link"] = _csv_link
    return environment


def _csv_link(table: Table) -> str:
    """Return a link that holds the table as CSV: it can be saved offline and without JavaScript."""
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(table.to_csv().encode()).decode()
