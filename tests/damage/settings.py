"""Odd values for every key of a typed file, and the words that a validator would use about them."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from etad.config import Config, parse_config, read_config, with_assignments
from etad.errors import ConfigError
from etad.wanted import Option, below, options

TYPED = (
    *(
        "1" * 40,
        "-" + "1" * 40,
        "1" * 5000,
        "0x" + "f" * 50,
        "1:60",
        "1e400",
        ".nan",
        ".inf",
        "-.inf",
        "-1",
        "0",
        "1.5",
    ),
    *("2001-99-99", "2001-01-01", "2001-01-01 99:99:99", "null", "~", "", "true", "'yes'", "x" * 2000),
    *("[]", "{}", "[1, x]", "[null]", "{a: {b: 1}}", "a: b", "- x", "[[[[[1]]]]]", "[" * 1000, "[1, 2", "{a: 1"),
    *("{id}.npz", "{id}", "'unterminated", '"unterminated', "%", "@x", "`x", "|", "?", "3 # c", "<<: 1", "..", "\t"),
    *("!!python/object:os.system x", "!!python/name:os.system", "!!binary xx", "!!int x", "!!float x", "!!timestamp x"),
    *("!!set {a}", "!!omap [a: 1]", "&a [*a]", "*a", "a\0b", "\x07", "\ud800"),
)
"""What somebody may type behind ``--set key=``."""

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**40, 1.5, float("nan"), float("inf"), "x", "", "a\0b", b"x", "x" * 10_000),
    *([], [None], [[[]]], ["x", 1], {}, {"a": {"b": 1}}, {1: 2}, {None: None}, {"x"}),
)
"""The same, as values."""

OF_THE_VALIDATOR = re.compile(
    r"Input should|String should|Value error|lax-or|json-or|union\[|function-|literal\[|nullable|is-instance"
    r"|valid (string|integer|number|boolean|tuple|list|dictionary|datetime|JSON)|greater than|less than"
    r"|finite number|Extra inputs|Field required|validation error|pydantic|at least \d+ item|tuple\[|_type\b"
)


def complaint_about(message: str) -> str:
    """Return what is wrong with a message for a user; empty where nothing is."""
    if (found := OF_THE_VALIDATOR.search(message)) is not None:
        return f"the validator's words ({found.group()}): {message}"
    if not message.isprintable():
        return f"more than one line: {message!r}"
    return "" if len(message) < 600 else f"too long: {message}"


def typed_faults(take: slice = slice(None)) -> Iterator[str]:
    """Type the odd values for every key of an experiment, and yield what no user should see.

    Args:
        take: which of the values, a different part for each key.
    """
    tree = read_config("anet_e2e")
    for number, way in enumerate(keys(Config)):
        for typed in (*TYPED[number % 7 :], *TYPED[: number % 7])[take]:
            try:
                parse_config(with_assignments(tree, [f"{'.'.join(way)}={typed}"]), "anet_e2e")
            except ConfigError as error:
                if complaint := complaint_about(str(error)):
                    yield complaint


def keys(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the way to every key of a model and of what lies below it; mappings and lists are gone into as well."""
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        yield from _inside(tuple(options(field.annotation, field.metadata)), (*prefix, name), depth=0)


def _inside(allowed: tuple[Option, ...], way: tuple[str, ...], depth: int) -> Iterator[tuple[str, ...]]:
    for option in allowed:
        if hasattr(option.kind, "model_fields"):
            yield from keys(option.kind, way)
        elif depth < 2 and (entries := tuple(below(option, "key"))):
            yield from _inside(entries, (*way, "key"), depth + 1)


def tree_of(way: tuple[str, ...], value: Any) -> Any:
    """Return the mapping that holds ``value`` under the keys of ``way``."""
    for name in reversed(way):
        value = {name: value}
    return value
