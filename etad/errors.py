"""Errors that a user can correct: one line that names what is wrong and what to do."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from etad.wanted import Option, below, example, in_words, options

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


class DivergedError(UserError):
    """A training whose losses, gradients or proposals are no longer finite."""

    exit_code = 3


class PeerError(UserError):
    """Another process of a distributed run failed, and has said why: this one ends without a word."""

    exit_code = 3


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

    Misspelt keys come first, since a misspelt key is often missing as well. What a value may be is told from the types
    of ``model``, never in the validator's words.

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
        around: what may hold the last key.
        allowed: what the value there may be.
        default: of the field there; None where there is none.
        union: how many of the keys lead to a value that may be of several types; None: there is no such value.
    """

    key: tuple[str, ...]
    around: tuple[Option, ...]
    allowed: tuple[Option, ...]
    default: Any
    union: int | None


def _place(location: Sequence[int | str], model: "type[BaseModel]") -> _Place:
    key: tuple[str, ...] = ()
    union: int | None = None
    default: Any = None
    around: tuple[Option, ...] = ()
    present: tuple[Option, ...] = tuple(options(model))
    for part in location:
        if part == "[key]":
            # The error is of the key itself, which is there already.
            present = tuple(kind for option in around for kind in options(get_args(option.kind)[0]))
            continue
        found = tuple(kind for option in present for kind in below(option, part))
        alone = sum(option.kind is not type(None) for option in present) == 1
        if found or (alone and any(hasattr(option.kind, "model_fields") for option in present)):
            fields = [option.kind.model_fields.get(part) for option in present if hasattr(option.kind, "model_fields")]
            default = next((field.default for field in fields if field and not field.is_required()), None)
            key, around, present = (*key, str(part)), present, found
        elif not alone and union is None:
            # Not a key: the validator's name of one of the types.
            union = len(key)
    return _Place(key, around, present, default, union)


def _line(group: "Sequence[tuple[_Place, ErrorDetails]]") -> str:
    # Of a value that may be of several types, the one that was meant is the one whose errors are about what it holds.
    place, item = max(group, key=lambda entry: len(entry[0].key))
    if len(group) > 1 and len(place.key) == place.union:
        # None of them: what is wrong is the value as a whole.
        problem = _unfit(place, item["input"])
    else:
        problem = _problem(place, item)
    key = ".".join(place.key)
    return f"{key}: {problem}" if key else problem


def _problem(place: _Place, item: "ErrorDetails") -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        valid = [name for option in place.around for name in getattr(option.kind, "model_fields", ())]
        return f"unknown key; {nearest(place.key[-1], valid, 'valid keys here: ' + ', '.join(valid))}"
    if kind == "missing":
        return "is missing"
    if kind == "too_short" and context.get("min_length") == 1:
        return "is empty; give at least one value"
    if kind in ("value_error", "assertion_error"):
        # Of a check of our own.
        return one_line(str(context.get("error") or item["msg"]))
    return _unfit(place, item["input"])


def _unfit(place: _Place, value: object) -> str:
    words = in_words(place.allowed)
    shown = example(place.allowed, place.default)
    names = [name for option in place.allowed if get_origin(option.kind) is Literal for name in get_args(option.kind)]
    near = nearest(value, map(str, names), "") if isinstance(value, str) and value else ""
    hint = f"; {near}" if near else f"; for example {shown}" if shown else ""
    return f"must be {words}, not {_shown(value)}{hint}"


def _shown(value: object, most: int = 60) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, date):
        return str(value)
    if isinstance(value, Mapping) and not value:
        return "{}"
    try:
        # Not the whole of it: a value may hold itself, or be larger than memory once it is written out.
        text = _SHORT.repr(value)
    except ValueError:  # of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[:most]}..."


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 200


def one_line(text: str, most: int = 1000) -> str:
    """Return ``text`` as a single line, without control characters, and cut where it goes on for ever."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= most else f"{line[:most]}..."
