"""A killed command leaves nothing half-written, and goes on to the same result."""

import pytest

from tests.damage.kills import COMMANDS, Command, kill


@pytest.mark.parametrize("command", COMMANDS[:-1], ids=lambda command: command.name)
def test_a_killed_command_goes_on_to_the_same_result(command: Command) -> None:
    assert list(kill(command, kills=2, seed=0)) == []
