"""XML files as a tree that knows its lines, by the standard library's expat.

expat is kept up with CPython, reads UTF-16 and whatever encoding a file declares, and tells the line of every element,
which ElementTree does not. Annotation tools declare no entities; a file that does is refused at the declaration, before
anything could be expanded or fetched, as defusedxml does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from etad.errors import DataError, one_line


@dataclass
class Element:
    """An element: its tag without namespace prefix, attributes, children, the text directly in it, and its line."""

    tag: str
    attributes: Mapping[str, str]
    line: int
    children: list["Element"] = field(default_factory=list)
    text: str = ""

    def get(self, name: str, otherwise: str = "") -> str:
        return self.attributes.get(name, otherwise)

    def all(self, tag: str) -> Iterator["Element"]:
        """Yield the elements of a tag below this one, at any depth, in the order of the file."""
        waiting = self.children[::-1]
        while waiting:
            element = waiting.pop()
            if element.tag == tag:
                yield element
            waiting += element.children[::-1]

    def first(self, *path: str) -> "Element | None":
        """Return the first element along a path of child tags, or None."""
        here: Element | None = self
        for tag in path:
            here = next((child for child in here.children if child.tag == tag), None) if here else None
        return here


def parse_xml(content: bytes, source: str) -> Element:
    """Return the root of an XML document.

    Raises:
        DataError: it is not XML, is cut off, or declares entities.
    """
    parser = expat.ParserCreate()
    root: list[Element] = []
    inside: list[Element] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag.rpartition(":")[2], attributes, parser.CurrentLineNumber)
        (inside[-1].children if inside else root).append(element)
        inside.append(element)

    def end(_: str) -> None:
        inside.pop()

    def characters(data: str) -> None:
        inside[-1].text += data

    def refuse(*_: object) -> int:
        raise DataError(
            f"{source}, line {parser.CurrentLineNumber}: declares XML entities, which no annotation tool writes; "
            "remove the <!ENTITY ...> if you trust the file"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.EntityDeclHandler = refuse
    parser.UnparsedEntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise DataError(
            f"{source}, line {error.lineno}: not valid XML, or cut off ({expat.ErrorString(error.code)})"
        ) from None
    except (LookupError, ValueError) as error:
        raise DataError(
            f"{source}: its XML encoding cannot be read ({one_line(str(error))}); save it as UTF-8"
        ) from None
    return root[0]
