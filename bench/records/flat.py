"""Nested settings as one mapping, by dotted keys: "data.frames.crop"."""

from collections.abc import Mapping
from typing import Any


def flat(prefix: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings as one, by dotted keys that begin with ``prefix`` if it is not empty."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}.{name}" if prefix else name
        found |= flat(key, value) if isinstance(value, Mapping) else {key: value}
    return found


def flat_cells(prefix: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return :func:`flat` for a table: a list becomes its text, by which rows can be grouped."""
    return {
        key: ", ".join(map(str, value)) if isinstance(value, list) else value
        for key, value in flat(prefix, tree).items()
    }


def dig(tree: object, path: str) -> object:
    """Return what lies at a dotted path; None where nothing does."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
