"""Errors that a user can correct: one line that names what is wrong and what to do."""

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    # pydantic is slow to import, and only an error needs it.
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails


class UserError(Exception):
    """A mistake in what the user gave (file, key, value). The command line prints it as one line, without a traceback.

    Attributes:
        exit_code: process exit code; 2 is usage or config.
    """

    exit_code = 2


class ConfigError(UserError):
    """A configuration file or ``--set`` assignment that does not fit the schema.

    Attributes:
        problems: what is wrong, a line for each key, without the file's name; empty where there is only the message.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class DataError(UserError):
    """An input file (annotation, feature, video, score file, checkpoint) that cannot be used."""


class NothingToDoError(UserError):
    """A selection that is empty: no video in the subset, no file in the folder."""

    exit_code = 5


class DeviceError(UserError):
    """The device asked for is not there."""

    exit_code = 6


NEAR = 0.5
"""How alike, from 0 to 1, two words have to be for one to be taken for a slip of the other (difflib's ratio)."""


def nearest(word: str, valid: Iterable[str], otherwise: str | None = None) -> str:
    """Return a hint for a name that does not exist: "did you mean chunk?".

    Args:
        word: what was written.
        valid: the names that exist.
        otherwise: the hint where none of them is near. None: all of them.
    """
    import difflib

    names = list(valid)
    near = difflib.get_close_matches(word, names, n=1, cutoff=NEAR)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(names) or 'none'}" if otherwise is None else otherwise


def explained(error: "ValidationError", model: "type[BaseModel]") -> list[str]:
    """Return what keeps a mapping from being a ``model``, one line for each key: the key and what is wrong with it.

    Misspelt keys come first, since a misspelt key is often missing as well. Of a value that may be of several types,
    one line tells what it may be.

    Args:
        error: of ``model.model_validate``.
        model: what was validated; the valid keys are looked up in it.
    """
    by_place: dict[tuple[object, ...], list[tuple[_Place, ErrorDetails]]] = {}
    for number, item in enumerate(error.errors(include_url=False)):
        place = _place(item["loc"], model)
        # What is said of the types of a union belongs together.
        group = ("union", *place.key[: place.union]) if place.union is not None else ("single", number)
        by_place.setdefault(group, []).append((place, item))
    groups = sorted(by_place.values(), key=lambda group: group[0][1]["type"] != "extra_forbidden")
    return [_line(group) for group in groups]


@dataclass(frozen=True)
class _Place:
    """Where in a model an error is.

    Attributes:
        key: the keys and indices that lead there, without what a validator adds to them.
        around: the types that may hold the last key.
        union: how many of the keys lead to a value that may be of several types; None: there is no such value.
        types: those types.
    """

    key: tuple[str, ...]
    around: tuple[Any, ...]
    union: int | None
    types: tuple[Any, ...]


def _place(location: Sequence[int | str], model: "type[BaseModel]") -> _Place:
    key: tuple[str, ...] = ()
    union, several, around = None, (), ()
    present: tuple[Any, ...] = (model,)
    for part in location:
        if part == "[key]":
            # The error is of the key itself, which is there already.
            continue
        below = tuple(kind for option in present for kind in _below(option, part))
        if below or (len(present) == 1 and hasattr(present[0], "model_fields")):
            key, around, present = (*key, str(part)), present, below
        elif len(present) > 1 and union is None:
            # Not a key: the validator's name of one of the types.
            union, several = len(key), present
    return _Place(key, around, union, several)


def _line(group: "Sequence[tuple[_Place, ErrorDetails]]") -> str:
    if len(group) > 1:
        deepest = max(len(place.key) for place, _ in group)
        first, item = group[0]
        # The type that was meant is the one whose errors are about what the value holds.
        meant = [
            (place, item)
            for place, item in group
            if len(place.key) == deepest and (deepest > (first.union or 0) or not _is_of_type(item))
        ]
        if not meant:
            return f"{'.'.join(first.key)}: must be {_in_words(first.types)}, not {_shown(item['input'])}"
        group = meant
    place, item = group[0]
    key = ".".join(place.key)
    return f"{key}: {_problem(place, item)}" if key else _problem(place, item)


def _is_of_type(item: "ErrorDetails") -> bool:
    return item["type"].endswith(("_type", "_parsing"))


_NEEDED = {
    "model": "a mapping",
    "dict": "a mapping",
    "tuple": "a list",
    "list": "a list",
    "string": "text",
    "path": "a path",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}
"""From the first word of a type error to what the user has to write."""


def _problem(place: _Place, item: "ErrorDetails") -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        valid = [name for option in place.around for name in getattr(option, "model_fields", ())]
        return f"unknown key; {nearest(place.key[-1], valid, 'valid keys here: ' + ', '.join(valid))}"
    if kind == "missing":
        return "is missing"
    if kind == "too_short" and context.get("min_length") == 1:
        return "is empty; give at least one value"
    needed = _NEEDED.get(kind.partition("_")[0])
    if needed is not None and (_is_of_type(item) or kind == "int_from_float"):
        return f"must be {needed}, not {_shown(item['input'])}"
    message = item["msg"].removeprefix("Value error, ")
    return f"must be {message.removeprefix('Input should be ')}" if message.startswith("Input should be ") else message


def _below(kind: Any, part: int | str) -> Iterator[Any]:
    """Yield the types that a value may have under a key, or at an index, of a value of type ``kind``."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if hasattr(kind, "model_fields"):
        if part in kind.model_fields:
            yield from _options(kind.model_fields[part].annotation)
    elif isinstance(origin, type) and issubclass(origin, Mapping) and arguments:
        yield from _options(arguments[1])
    elif isinstance(origin, type) and issubclass(origin, (tuple, list)) and arguments and isinstance(part, int):
        yield from _options(arguments[0] if arguments[-1] is ... or origin is list else arguments[part])


def _options(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation allows, null left out."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _options(arguments[0])
    elif origin in (Union, types.UnionType):
        for option in arguments:
            yield from _options(option)
    elif annotation is not type(None):
        yield annotation


def _in_words(options: Sequence[Any]) -> str:
    words = list(dict.fromkeys(map(_word, options)))
    if "a number" in words and "a whole number" in words:
        words.remove("a whole number")
    return " or ".join(words)


def _word(kind: Any) -> str:
    origin = get_origin(kind) or kind
    if origin is Literal:
        return " or ".join(repr(value) for value in get_args(kind))
    if hasattr(kind, "model_fields") or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return "a mapping"
    named = {int: "int", float: "float", bool: "bool", str: "string", tuple: "tuple", list: "list", Path: "path"}
    return _NEEDED[named[origin]] if origin in named else str(getattr(origin, "__name__", origin))


def _shown(value: object, most: int = 60) -> str:
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
