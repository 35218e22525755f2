"""The tutorials do what they say: their commands run, in order and in one folder, and print what the page shows.

How a page is written so that this test can follow it:

- each line of a block ```` ```bash ```` is a command, and each is run, by the command line in this process;
- ``<!-- not run here: REASON -->`` above a block leaves it out, and there may be only a few of these;
- a block ```` ```yaml title="NAME" ```` is a file that the reader saves;
- a block ```` ```text ```` is what the commands above it print, up to numbers; ``...`` stands for lines left out.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import main

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
TUTORIALS = ("quickstart.md", "my_videos.md", "will_it_fit.md")
BLOCK = re.compile(
    r"(?:^<!-- not run here: (?P<why_not>.+?) -->\n)?"
    r"^```(?P<language>\w+)(?: title=\"(?P<title>.+?)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MOST_NOT_RUN = 3


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the name of the file it is, why it cannot run here, and its text."""

    language: str
    title: str | None
    why_not: str | None
    text: str


def blocks(page: str) -> Iterator[Block]:
    for match in BLOCK.finditer((FOLDER / page).read_text(encoding="utf-8")):
        yield Block(match["language"], match["title"], match["why_not"], match["text"])


def without_numbers(text: str) -> list[str]:
    """Return the lines of a text with numbers and intervals as one sign, and one space for many."""
    return [" ".join(re.sub(r"\d+(\.\d+)?(\.\.\d+(\.\d+)?)?", "#", line).split()) for line in text.splitlines()]


def test_the_commands_of_the_tutorials_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for page in TUTORIALS:
        printed = ""
        for block in blocks(page):
            if block.title is not None:
                Path(block.title).write_text(block.text, encoding="utf-8")
            elif block.language == "bash" and block.why_not is None:
                printed = ""
                for line in block.text.splitlines():
                    program, *arguments = shlex.split(line, comments=True)
                    assert program == "etad-bench", f"{page}: {line}: cannot be run here; say so above the block"
                    result = CliRunner().invoke(main, arguments)
                    assert result.exit_code == 0, f"{page}: {line}\n{result.output}"
                    printed += result.stdout
            elif block.language == "text":
                there = without_numbers(printed)
                for line in without_numbers(block.text):
                    assert line in ("", "...") or line in there, f"{page}: not printed: {line}\n{printed}"


def test_few_blocks_cannot_run() -> None:
    left_out = [block for page in TUTORIALS for block in blocks(page) if block.why_not is not None]
    assert len(left_out) <= MOST_NOT_RUN


def test_every_block_is_seen() -> None:
    for page in TUTORIALS:
        fences = (FOLDER / page).read_text(encoding="utf-8").count("\n```")
        assert fences == 2 * len(list(blocks(page))), f"{page}: a block that the test does not understand"
