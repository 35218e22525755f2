"""What a command imports. torch takes seconds to load, pandas, scipy and matplotlib a part of one; time is not tested.

All commands run in one fresh interpreter, those that need least first, since what is loaded stays loaded.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.cli import COMMANDS
from tests.paths import ROOT

MEASURED = ROOT / "results" / "measured"
BASELINES = ROOT / "results" / "baselines"

RUNNER = """
import contextlib, io, json, sys
def run(arguments):
    from bench.cli import main
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = main(arguments, standalone_mode=False)
        except SystemExit as end:
            code = end.code
    return {"code": code or 0, "printed": out.getvalue(), "noted": err.getvalue()}
print(json.dumps([run(arguments) | {"modules": sorted(sys.modules)} for arguments in json.loads(sys.argv[1])]))
"""

HELP = [[], *([name] for name in COMMANDS), ["baseline", "save"], ["baseline", "check"]]
HELP += [["annotations", name] for name in ("import", "check", "stats", "export")]
SETTINGS = [["published"], ["profiles"], ["profiles", "a30_24g"], ["config"], ["config", "quickstart"], ["env"]]

OF_RECORDS = ("merge", "migrate", "check", "report", "compare")


def of_records(folder: Path) -> Iterator[list[object]]:
    yield ["merge", MEASURED, BASELINES, "--into", folder / "records"]
    yield ["migrate", folder / "records"]
    yield ["check", folder / "records"]
    yield ["report", MEASURED, BASELINES, "-o", folder / "page.html"]
    yield ["report", MEASURED, BASELINES, "-o", folder / "page.md"]
    yield ["compare", BASELINES, BASELINES]
    yield ["compare", MEASURED, folder / "records", "--junit", folder / "junit.xml"]


Ran = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """What became of each command line, in the order in which they ran."""
    folder = tmp_path_factory.mktemp("startup")
    table: list[object] = ["export", MEASURED, "--to", "csv", "-o", folder / "table.csv"]
    lines = [[*line, "--help"] for line in HELP] + SETTINGS + [*of_records(folder), table, ["env", "--torch"]]
    words = [[str(word) for word in line] for line in lines]
    command = [sys.executable, "-c", RUNNER, json.dumps(words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    names = [" ".join(line).replace(f"{folder}/", "").replace(f"{ROOT}/", "") for line in words]
    return dict(zip(names, json.loads(done.stdout), strict=True))


def loaded(ran: Ran, line: str) -> set[str]:
    """Return which of the slow libraries were there after a command."""
    return {"torch", "torchvision", "pandas", "scipy", "matplotlib"}.intersection(ran[line]["modules"])


def test_every_command_did_what_it_was_asked(ran: Ran) -> None:
    for line, result in ran.items():
        assert result["code"] == 0, f"{line}: {result['noted']}"
    assert " records: 0 problems" in ran["check records"]["noted"]


def test_the_list_of_commands_needs_no_library_but_click(ran: Ran) -> None:
    assert not {"numpy", "pydantic", "yaml"}.intersection(ran["--help"]["modules"])


def test_help_and_settings_need_no_slow_library(ran: Ran) -> None:
    for line in ([*words, "--help"] for words in HELP):
        assert loaded(ran, " ".join(line)) == set(), line
    for line in SETTINGS:
        assert loaded(ran, " ".join(line)) == set(), line


def test_records_are_gathered_checked_reported_and_compared_without_torch_or_pandas(ran: Ran) -> None:
    lines = [line for line in ran if "--help" not in line and line.split()[0] in OF_RECORDS]
    assert len(lines) >= len(OF_RECORDS)
    for line in lines:
        # scipy has the rank test by which two sets of times are compared.
        assert loaded(ran, line) <= ({"scipy"} if line.startswith("compare results/measured") else set()), line


def test_a_table_of_records_needs_pandas_but_no_torch(ran: Ran) -> None:
    assert loaded(ran, "export results/measured --to csv -o table.csv") == {"pandas", "scipy"}


def test_what_asks_torch_loads_it(ran: Ran) -> None:
    assert "torch" in loaded(ran, "env --torch")
