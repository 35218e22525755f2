"""Whatever is typed for a key: it is taken, or one line says what the key wants."""

from typing import Any

import pydantic
import pytest

from bench.compare.thresholds import _File as Thresholds
from bench.machine.datasheets import HardwareProfile
from bench.published.figures import Figure
from bench.records.record import Record
from bench.suites.suite import SUITES
from bench.sweep.file import SweepFile
from etad.config import Config, load_config
from etad.errors import ConfigError, explained
from tests.damage.settings import VALUES, complaint_about, keys, tree_of, typed_faults

FILES = (Config, HardwareProfile, SweepFile, Record, Figure, Thresholds, *(suite.options for suite in SUITES.values()))


def test_what_is_typed_for_a_key_is_taken_or_one_line_says_why_not() -> None:
    assert list(typed_faults(slice(0, None, 7))) == []


@pytest.mark.parametrize("model", FILES, ids=lambda model: model.__module__)
def test_no_word_of_the_validator_reaches_the_user(model: type[pydantic.BaseModel]) -> None:
    seen = 0
    for way in keys(model):
        for value in VALUES:
            try:
                model.model_validate(tree_of(way, value))
            except pydantic.ValidationError as error:
                lines = explained(error, model)
                seen += len(lines)
                assert [complaint for line in lines if (complaint := complaint_about(line))] == []
    assert seen > 50


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("data.pattern={id}.npz", "{id}.npz"),
        ("data.pattern={id}", "{id}"),
        ("data.test_subsets=validation", ("validation",)),
        ("data.test_subsets=2016", ("2016",)),
        ("data.test_subsets=[a, b]", ("a", "b")),
        ("evaluate.tiou=0.5", (0.5,)),
        ("data.classes_file=x", None),
        ("name=2016", "2016"),
        ("name='2016'", "2016"),
    ],
)
def test_values_work_as_typed(assignment: str, value: Any) -> None:
    section, _, key = assignment.partition("=")[0].rpartition(".")
    if value is None:
        with pytest.raises(ConfigError, match="unknown key"):
            load_config("anet_features", [assignment])
        return
    config = load_config("anet_features", [assignment])
    assert getattr(getattr(config, section) if section else config, key) == value


def test_a_message_tells_what_is_wanted_and_an_example() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("anet_features", ["data.blocked=null"])
    assert str(caught.value) == (
        "anet_features: data.blocked: must be a list of texts, or a path, not null; for example [name]"
    )
