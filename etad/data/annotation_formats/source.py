"""An annotation file as text, rows, JSON or XML, whatever it is; each is made when it is first asked for."""

import csv
import functools
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etad.data.annotation_formats.xml_tree import Element, parse_xml
from etad.errors import DataError, one_line
from etad.files import parse_json

_BINARY = {
    b"PK\x03\x04": "a zip or Excel file; save the table as CSV, or unpack it",
    b"\x80\x04": "a Python pickle, which can run code when it is read; use the CSV or JSON of the same data",
    b"\x80\x05": "a Python pickle, which can run code when it is read; use the CSV or JSON of the same data",
    b"\x89HDF": "an HDF5 file, which holds no annotations that can be read here",
    b"SQLite": "an SQLite data base; export the annotations from the tool",
}


@dataclass(frozen=True)
class Row:
    """A row of a table: its line in the file, and its cells by the lower-case names of the header."""

    line: int
    cells: Mapping[str, str]

    def get(self, *names: str) -> str:
        """Return the first of the named cells that is there and not empty, without blanks around it; else ""."""
        return next((self.cells[name].strip() for name in names if self.cells.get(name, "").strip()), "")


class Source:
    """One annotation file.

    Attributes:
        path: the file.
        content: its bytes, unpacked.
        repeated: keys that one JSON object gives more than once, known once :attr:`json` was asked for.

    Raises:
        DataError: on construction, when the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repeated: list[str] = []
        try:
            content = path.read_bytes()
            self.content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: not valid gzip, or cut off ({one_line(str(error))})") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
        if not self.content.strip():
            raise DataError(f"{path}: is empty; export the annotations once more")
        for start, what in _BINARY.items():
            if self.content.startswith(start):
                raise DataError(f"{path}: is {what}")

    def place(self, line: int) -> str:
        return f"{self.path}, line {line}"

    @property
    def stem(self) -> str:
        """The file's name without its ending, and without .gz."""
        name = self.path.name.removesuffix(".gz")
        return name.rpartition(".")[0] or name

    @functools.cached_property
    def text(self) -> str:
        """The text, by its byte order mark or as UTF-8.

        Raises:
            DataError: it is neither.
        """
        if self.content.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding = "utf-16"
        elif self.content[1:2] == b"\0" or self.content[:1] == b"\0":
            encoding = "utf-16-le" if self.content[1:2] == b"\0" else "utf-16-be"
        else:
            encoding = "utf-8-sig"
        try:
            return self.content.decode(encoding)
        except UnicodeDecodeError as error:
            line = self.content[: error.start].count(b"\n") + 1
            raise DataError(f"{self.path}, line {line}: not a text file in UTF-8 or UTF-16; save it as UTF-8") from None

    @property
    def _start(self) -> str:
        return self.content[:64].lstrip(b"\xef\xbb\xbf\xff\xfe").replace(b"\0", b"").lstrip()[:1].decode("latin-1")

    @property
    def is_json(self) -> bool:
        return self._start in "{["

    @property
    def is_xml(self) -> bool:
        return self._start == "<"

    @functools.cached_property
    def json(self) -> Any:
        """The JSON value; None where the file does not begin like JSON.

        Raises:
            DataError: it begins like JSON, and is not, or is not usable.
        """
        if not self.is_json:
            return None
        return parse_json(self.path, self.text, self._object)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            self.repeated += [key for key, count in counts.items() if count > 1]
        return result

    @functools.cached_property
    def xml(self) -> Element | None:
        """The root of the XML tree; None where the file does not begin like XML.

        Raises:
            DataError: as :func:`parse_xml`.
        """
        return parse_xml(self.content, str(self.path)) if self.is_xml else None

    @functools.cached_property
    def lines(self) -> list[tuple[int, str]]:
        """The lines that hold something, stripped, with their numbers from 1."""
        numbered = enumerate(self.text.splitlines(), 1)
        return [(number, line.strip()) for number, line in numbered if line.strip()]

    @functools.cached_property
    def delimiter(self) -> str:
        """What parts the cells of a table: a tab, a semicolon or a comma, whichever the first rows have most of."""
        beginning = [line for _, line in self.lines[:30] if not line.startswith("#")]
        counts = {mark: sum(line.count(mark) for line in beginning) for mark in "\t;,"}
        return max(counts, key=lambda mark: counts[mark])

    @functools.cached_property
    def cells(self) -> list[tuple[int, list[str]]]:
        """Every row as a list of cells, with the line it begins on; empty for JSON and XML.

        Raises:
            DataError: it is no table that the standard library's csv can read.
        """
        if self.is_json or self.is_xml:
            return []
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.delimiter)
        rows, before = [], 0
        try:
            for row in reader:
                rows.append((before + 1, row))
                before = reader.line_num
        except csv.Error as error:
            raise DataError(f"{self.path}, line {reader.line_num}: not a table ({one_line(str(error))})") from None
        return rows

    def header(self, *needed: Iterable[str]) -> int | None:
        """Return the index in ``cells`` of the first row that has, of each group of names, at least one; or None.

        Names are compared in lower case. Only the first 200 rows are looked at.
        """
        for index, (_, row) in enumerate(self.cells[:200]):
            names = {cell.strip().lower() for cell in row}
            if all(not names.isdisjoint(group) for group in needed):
                return index
        return None

    def table(self, header: int) -> Iterator[Row]:
        """Yield the rows below a header; empty rows and comments are passed over.

        A comment begins with ``#`` and has not as many cells as the header: an id may begin with ``#``, too.
        """
        names = [cell.strip().lstrip("#").strip().lower() for cell in self.cells[header][1]]
        for line, row in self.cells[header + 1 :]:
            is_comment = bool(row) and row[0].lstrip().startswith("#") and len(row) != len(names)
            if any(cell.strip() for cell in row) and not is_comment:
                yield Row(line, dict(zip(names, row, strict=False)))
