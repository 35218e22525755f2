"""A report as data: sections of paragraphs, tables and charts. The writers of HTML and Markdown know nothing else."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup

Value = str | int | float | None
Form = Literal["text", "mark", "number", "code"]

KIND_SIGNS = {"measured": "●", "predicted": "◇", "published": "△"}
"""A kind is told by its word and by this shape, which charts draw, too; never by colour alone."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: what a person reads.
        key: header in CSV; ends in the unit of the raw values.
        form: text, a word with its shape, numbers (to the right) or something to copy.
        show: a raw value as text; None is shown as "-" without asking.
        place: on the page, in the CSV file, or in both.
    """

    title: str
    key: str
    form: Form = "text"
    show: Callable[[Value], str] = str
    place: Literal["both", "page", "csv"] = "both"

    def text(self, value: Value) -> str:
        """Return a raw value as a person reads it."""
        return "-" if value is None else self.show(value)


@dataclass(frozen=True)
class Table:
    """Rows of raw values.

    Attributes:
        ident: unique in the report; names the CSV file.
        caption: what the rows are.
        most: so many rows are shown; CSV holds all.
        folded: behind a title to click.
    """

    ident: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    most: int = 60
    folded: bool = False

    @property
    def header(self) -> list[Column]:
        """The columns that are shown."""
        return [column for column in self.columns if column.place != "csv"]

    @property
    def shown(self) -> list[list[tuple[str, Value]]]:
        """Text and raw value of every cell that is shown."""
        return [
            [
                (column.text(value), value)
                for column, value in zip(self.columns, row, strict=True)
                if column.place != "csv"
            ]
            for row in self.rows[: self.most]
        ]

    @property
    def hidden(self) -> int:
        """How many rows are not shown."""
        return max(0, len(self.rows) - self.most)

    def to_csv(self) -> str:
        """Return all rows with their raw values."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        saved = [number for number, column in enumerate(self.columns) if column.place != "page"]
        writer.writerow(self.columns[number].key for number in saved)
        writer.writerows([row[number] for number in saved] for row in self.rows)
        return text.getvalue()


@dataclass(frozen=True)
class Chart:
    """A drawing; whatever it shows is in a table of its section, too.

    Attributes:
        title: what it is of.
        svg: the drawing, safe to embed.
        caption: how to read it.
        kinds: of the results in it, for the key.
    """

    title: str
    svg: Markup
    caption: str = ""
    kinds: Sequence[str] = ()


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Charts:
    """Charts side by side."""

    charts: Sequence[Chart]


Block = Note | Charts | Table


@dataclass(frozen=True)
class Section:
    """A chapter.

    Attributes:
        ident: its anchor.
        blocks: none where there is no data; ``instead`` is said then.
        instead: which command would fill the section.
    """

    ident: str
    title: str
    blocks: Sequence[Block] = ()
    instead: str = ""


@dataclass(frozen=True)
class Report:
    """The whole.

    Attributes:
        summary: the few facts a reader wants, in plain words.
        warnings: what was left out.
    """

    title: str
    subtitle: str
    summary: Sequence[str]
    warnings: Sequence[str] = ()
    sections: Sequence[Section] = field(default=())


def kind_text(kind: Value) -> str:
    """Return a kind with its shape: "◇ predicted"."""
    return f"{KIND_SIGNS.get(str(kind), '')} {kind}".strip()
