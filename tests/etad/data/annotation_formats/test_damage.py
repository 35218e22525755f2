"""Files that are damaged, hostile or of no known format: one line each that names the file, and never a traceback."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etad.data.annotation_formats.reading import ReadOptions
from etad.data.annotation_formats.registry import FORMATS
from etad.data.annotation_formats.xml_tree import parse_xml
from etad.errors import DataError
from tests.etad.data.annotation_formats.files import EXAMPLES, Example
from tests.etad.data.annotation_formats.reads import read, written

BOMB = """<?xml version="1.0"?>
<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;&x;&x;">]>
<ANNOTATION_DOCUMENT>&y;</ANNOTATION_DOCUMENT>"""
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotations>&x;</annotations>'


@pytest.mark.parametrize("content", [BOMB, OUTSIDE])
def test_xml_with_entities_is_refused(content: str, tmp_path: Path) -> None:
    path = written(tmp_path, content, "a.eaf")
    with pytest.raises(DataError, match=r"a\.eaf, line \d: declares XML entities"):
        read(path)


def test_xml_knows_its_lines_and_its_encoding() -> None:
    text = '<?xml version="1.0" encoding="iso-8859-1"?>\n<a>\n<b name="é">ü&amp;</b></a>'
    root = parse_xml(text.encode("latin-1"), "a.xml")
    (child,) = root.children
    assert (child.line, child.get("name"), child.text) == (3, "é", "ü&")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04....", "a zip or Excel file; save the table as CSV"),
        (b"\x80\x04pickle", "a Python pickle"),
        (b"\x1f\x8b\x08broken", "not valid gzip, or cut off"),
        (b'{"database": {', "not valid JSON, or cut off, at line 1"),
        (b"<a><b></a>", "not valid XML, or cut off"),
        (b"video,start,end,label\ncage,1,2,\xe9t\xe9\n", "line 2: not a text file in UTF-8 or UTF-16"),
        (b"to whom it may concern\nthis is a letter\n", "its format is not known; give --from NAME"),
        (b'{"some": "json"}', "its format is not known"),
        (b"<html><body/></html>", "its format is not known"),
        (b'video,start,end,label\n"' + b"x" * 200_000 + b'",1,2,walk\n', "line 2: not a table"),
    ],
)
def test_a_file_that_cannot_be_used(content: bytes, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, content, "a.csv")
    with pytest.raises(DataError) as error:
        read(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(example=st.sampled_from(EXAMPLES), data=st.data())
def test_a_cut_or_changed_file_ends_in_one_line(example: Example, data: st.DataObject, tmp_path: Path) -> None:
    content = example.content.encode() if isinstance(example.content, str) else example.content
    at = data.draw(st.integers(1, len(content)))
    changed = content[:at] if data.draw(st.booleans()) else content[: at - 1] + b"0" + content[at:]
    path = written(tmp_path, changed, example.name)
    try:
        read(path, ReadOptions(fps=10), data.draw(st.sampled_from([None, example.format])))
    except DataError as error:
        message = str(error)
    else:
        message = str(path)
    assert str(path) in message
    assert "\n" not in message


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def paths(tree: object, here: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [here, *(found for key, value in inside for found in paths(value, (*here, key)))]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    example=st.sampled_from([one for one in EXAMPLES if one.name.endswith((".json", ".boris"))]),
    data=st.data(),
    junk=JUNK,
)
def test_json_with_something_else_in_a_place_ends_in_one_line(
    example: Example, data: st.DataObject, junk: object, tmp_path: Path
) -> None:
    tree = json.loads(example.content)
    where = data.draw(st.sampled_from([path for path in paths(tree) if path]))
    inside = tree
    for key in where[:-1]:
        inside = inside[key]
    inside[where[-1]] = junk
    path = written(tmp_path, json.dumps(tree), example.name)
    try:
        read(path, ReadOptions(fps=10))
    except DataError as error:
        message = str(error)
    else:
        message = str(path)
    assert str(path) in message
    assert "\n" not in message


def test_every_format_is_in_the_examples() -> None:
    assert {one.format for one in EXAMPLES} | {"multithumos", "hacs", "fineaction"} == set(FORMATS)
