"""Every reader, every kind of damage: the right result, or one line that names the file."""

import pytest

from tests.damage.mutators import MUTATORS
from tests.damage.readers import READERS, Reader
from tests.damage.trials import PLACES, trials


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_damaged_file_is_one_line(reader: Reader) -> None:
    found = list(trials([0], [reader]))
    assert [str(fault) for fault in found if fault is not None] == []
    assert len(found) > 60


def test_there_are_many_kinds_of_damage() -> None:
    assert len(MUTATORS) + len(PLACES) > 80
