"""Explanations of a mistake: the user's key and words, never a validator's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic
import pytest
from pydantic import Field

from etad.errors import explained, nearest


class Inner(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    size: int = 1
    names: Annotated[tuple[str, ...], Field(min_length=1)] = ("a",)


class Outer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    inner: Inner | None = None
    by_name: Mapping[str, Inner] = {}
    several: Annotated[int, Field(ge=1)] | tuple[int, ...] = 1
    either: int | Annotated[float, Field(allow_inf_nan=False)] = 1
    file: tuple[str, ...] | Path = ()
    needed: str


@pytest.mark.parametrize(
    ("tree", "lines"),
    [
        ({}, ["needed: is missing"]),
        ({"neded": "x"}, ["neded: unknown key; did you mean needed?", "needed: is missing"]),
        ({"inner": {"siz": 2}}, ["inner.siz: unknown key; did you mean size?"]),
        ({"inner": {"zzz": 2}}, ["inner.zzz: unknown key; valid keys here: size, names"]),
        ({"inner": 3}, ["inner: must be a mapping, or null, not 3"]),
        ({"inner": {"names": []}}, ["inner.names: is empty; give at least one value"]),
        ({"by_name": {"x": {"size": None}}}, ["by_name.x.size: must be a whole number, not null; for example 1"]),
        ({"by_name": {3: {}}}, ["by_name.3: must be text, not 3; for example name"]),
        (
            {"several": "x"},
            ["several: must be a whole number of 1 or more, or a list of whole numbers, not 'x'; for example 1"],
        ),
        (
            {"several": 0},
            ["several: must be a whole number of 1 or more, or a list of whole numbers, not 0; for example 1"],
        ),
        ({"several": [1, "x"]}, ["several.1: must be a whole number, not 'x'; for example 1"]),
        (
            {"either": "x", "several": {}},
            [
                "several: must be a whole number of 1 or more, or a list of whole numbers, not {}; for example 1",
                "either: must be a number, not 'x'; for example 1",
            ],
        ),
        ({"either": float("inf")}, ["either: must be a number, not inf; for example 1"]),
        ({"file": 3}, ["file: must be a list of texts, or a path, not 3; for example [name]"]),
    ],
)
def test_a_mistake_is_one_line_with_the_users_key(tree: dict[str, Any], lines: list[str]) -> None:
    given = {"needed": "x"} if tree and "neded" not in tree else {}
    with pytest.raises(pydantic.ValidationError) as caught:
        Outer.model_validate(given | tree)
    assert explained(caught.value, Outer) == lines


def test_a_long_value_is_cut() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Outer.model_validate({"needed": ["x" * 1000]})
    (line,) = explained(caught.value, Outer)
    assert line.startswith("needed: must be text, not ['xxx")
    assert len(line) < 120


def test_the_nearest_name() -> None:
    assert nearest("chnk", ["chunk", "batch"]) == "did you mean chunk?"
    assert nearest("zzz", ["chunk", "batch"]) == "there are: chunk, batch"
    assert nearest("zzz", []) == "there are: none"
    assert nearest("zzz", ["chunk"], "none is near") == "none is near"
