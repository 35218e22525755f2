"""What a field of a typed file wants, in a user's words, and an example: from its type and bounds."""

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin


@dataclass(frozen=True)
class Option:
    """One type that a value may have, with the bounds on it.

    Attributes:
        kind: the type, without ``Annotated``; NoneType for null.
        bounds: "ge", "gt", "le", "lt", "min_length", "pattern" -> value.
    """

    kind: Any
    bounds: Mapping[str, Any]


def options(annotation: Any, constraints: Sequence[Any] = ()) -> Iterator[Option]:
    """Yield the types that an annotation allows.

    Args:
        annotation: a type, as typing writes it.
        constraints: what stands around it: those of a pydantic field, or of ``Annotated``.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from options(arguments[0], (*arguments[1:], *constraints))
    elif origin in (Union, types.UnionType):
        for option in arguments:
            yield from options(option, constraints)
    else:
        yield Option(annotation, dict(_bounds(constraints)))


def below(option: Option, part: int | str) -> Iterator[Option]:
    """Yield what a value may be under a key, or at an index, of a value of the type ``option``."""
    kind = option.kind
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if hasattr(kind, "model_fields"):
        if part in kind.model_fields:
            field = kind.model_fields[part]
            yield from options(field.annotation, field.metadata)
    elif _is(origin, Mapping) and arguments:
        yield from options(arguments[1])
    elif _is(origin, (tuple, list)) and arguments and isinstance(part, int):
        every = arguments[-1] is ... or origin is list
        if every or part < len(arguments):
            yield from options(arguments[0] if every else arguments[part])


def in_words(allowed: Sequence[Option]) -> str:
    """Return what a value may be: "a whole number of 1 or more, or null"."""
    words = list(dict.fromkeys(_word(option) for option in allowed if option.kind is not type(None)))
    if "a number" in words and "a whole number" in words:
        words.remove("a whole number")
    return ", or ".join(words + ["null"] * any(option.kind is type(None) for option in allowed))


def example(allowed: Sequence[Option], default: Any = None) -> str:
    """Return a value that fits, as YAML; empty where the words already list all of them, or there is no telling.

    Args:
        allowed: what a value may be.
        default: the field's own; taken where it says something.
    """
    value = _plain(default)
    if value in (None, [], {}, "") or isinstance(value, Mapping):
        value = next((sample for option in allowed if (sample := _sample(option)) is not None), None)
    listed = all(get_origin(one.kind) is Literal or one.kind in (bool, type(None)) for one in allowed)
    if value is None or listed:
        return ""
    return _yaml(value)


def _bounds(constraints: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for item in constraints:
        # Of Annotated[int, Field(ge=1)], the field holds the bounds.
        for part in getattr(item, "metadata", None) or (item,):
            for name in ("ge", "gt", "le", "lt", "min_length", "pattern"):
                if getattr(part, name, None) is not None:
                    yield name, getattr(part, name)


def _is(kind: Any, of: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, of)


_ONE_AND_MANY: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "trues and falses"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    Path: ("a path", "paths"),
    datetime: ("a date and time with its time zone", "dates and times with their time zone"),
}


def _word(option: Option, many: bool = False) -> str:
    kind, bounds = option.kind, option.bounds
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        *others, last = [repr(value) for value in arguments]
        words = f"{', '.join(others)} or {last}" if others else last
        return f"each {words}" if many else words
    if hasattr(kind, "model_fields") or _is(origin, Mapping):
        return "mappings" if many else "a mapping"
    if _is(origin, (tuple, list)):
        if not arguments:
            return "lists" if many else "a list"
        every = arguments[-1] is ... or origin is list
        inside = " or ".join(dict.fromkeys(_word(one, many=True) for one in options(arguments[0])))
        number = "" if every else f"{len(arguments)} "
        some = " with at least one entry" if bounds.get("min_length") and not many else ""
        return f"{'lists' if many else 'a list'} of {number}{inside}{some}"
    found = next(
        (words for of, words in _ONE_AND_MANY.items() if kind is of or (of is not int and _is(kind, of))), None
    )
    if found is None:
        plain = "a number, text, true, false, null, a list or a mapping"
        # Whatever JSON can hold; the validator's own name for it says nothing.
        return plain if "Json" in str(kind) or kind is Any else str(getattr(kind, "__name__", kind))
    word = found[many]
    if pattern := bounds.get("pattern"):
        return f"{word} of the form {pattern}"
    return " ".join([word, *_range(bounds)])


def _range(bounds: Mapping[str, Any]) -> Iterator[str]:
    low, above, high, under = (bounds.get(name) for name in ("ge", "gt", "le", "lt"))
    if low is not None and high is not None:
        yield f"from {low:g} to {high:.12g}"
    elif low is not None and under is not None:
        yield f"from {low:g} to below {under:g}"
    elif above is not None and (high is not None or under is not None):
        yield f"above {above:g} and " + (f"up to {high:.12g}" if high is not None else f"below {under:g}")
    elif low is not None:
        yield f"of {low:g} or more"
    elif above is not None:
        yield f"above {above:g}"
    elif high is not None or under is not None:
        yield f"of {high:.12g} or less" if high is not None else f"below {under:g}"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value if isinstance(value, bool | int | float | str) else None


def _sample(option: Option) -> Any:
    kind, bounds = option.kind, option.bounds
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        return arguments[0]
    if _is(origin, (tuple, list)) and arguments:
        every = arguments[-1] is ... or origin is list
        one = next((sample for inner in options(arguments[0]) if (sample := _sample(inner)) is not None), None)
        return None if one is None else [one] * (1 if every else len(arguments))
    if kind is int:
        return max(1, bounds.get("ge", 1))
    if kind is float:
        return 0.5
    if kind is bool:
        return True
    if _is(kind, datetime):
        return "2026-01-31T12:00:00Z"
    if kind is Path:
        return "folder/file"
    return "name" if kind is str and "pattern" not in bounds else None


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return (
        str(value).lower() if isinstance(value, bool) else f"{value:.15g}" if isinstance(value, float) else str(value)
    )
