"""A report as Markdown: the same words and tables; for the charts, the tables of their numbers stand in."""

from collections.abc import Iterator

from bench.report.page.document import Block, Charts, Note, Report, Table

MOST_ROWS = 40
"""Of a table; a longer one is for HTML and CSV."""


def to_markdown(report: Report) -> str:
    """Return ``report`` as Markdown, with a newline at its end."""
    lines = [f"# {report.title}", "", _plain(report.subtitle), ""]
    lines += [f"- {_plain(fact)}" for fact in report.summary]
    if report.warnings:
        lines += ["", "**Left out:**", "", *(f"- {_plain(warning)}" for warning in report.warnings)]
    for section in report.sections:
        lines += ["", f"## {section.title}"]
        for block in section.blocks:
            lines += ["", *_block(block)]
        if not section.blocks:
            lines += ["", f"No data. This fills it: `{section.instead}`"]
    return "\n".join(lines).rstrip() + "\n"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Note):
        yield _plain(block.text)
    elif isinstance(block, Charts):
        for chart in block.charts:
            caption = f": {_plain(chart.caption)}" if chart.caption else ""
            yield f"- Chart in HTML: {_plain(chart.title)}{caption}"
    else:
        yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    yield f"**{_plain(table.caption)}**"
    yield ""
    yield _row([column.title for column in table.header])
    yield _row(["---:" if column.form == "number" else "---" for column in table.header])
    shown = table.shown[:MOST_ROWS]
    for row in shown:
        texts = zip(table.header, row, strict=True)
        yield _row(
            [_code(text) if column.form == "code" and text != "-" else _plain(text) for column, (text, _) in texts]
        )
    if len(table.rows) > len(shown):
        yield ""
        yield f"{len(table.rows) - len(shown)} more rows are left out here; the CSV files of the HTML report hold them."


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    for character in ("\\", "`", "*", "<", "#"):
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
