"""The workflow that users copy: its command lines are ones that exist."""

import shlex
from pathlib import Path

import click
import pytest
import yaml

from bench.cli import main
from tests.paths import ROOT

WORKFLOW = ROOT / "docs" / "ci" / "etad-bench.yml"
STEPS = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["compare"]["steps"]
LINES = [
    line[line.index("etad-bench") :].rstrip(")")
    for step in STEPS
    for line in step.get("run", "").splitlines()
    if "etad-bench" in line and "pip install" not in line
]


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_is_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("base", "head"):
        (tmp_path / "records" / side).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    _, name, *arguments = shlex.split(line)
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command is not None
    command.make_context(name, arguments, parent=context)


def test_all_are_looked_at() -> None:
    assert [line.split()[1] for line in LINES] == ["memory", "memory", "check", "compare", "gate"]
