"""The files beside the code say the same as the code: version, date, and every path and name that recipes mention."""

import re

import pytest
import yaml

from etad import __version__
from tests.paths import ROOT

PATH = re.compile(r"(?:\.github|\.ci|bench|configs|docs|etad|examples|profiles|results|tests)/[\w./-]*\w/?")
NAME = re.compile(r"\w*[a-z]_\w+|_\w+|[A-Z][a-z]+[A-Z]\w+|[A-Z][A-Z0-9_]{4,}")


def test_citation_and_changelog_are_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    headings = re.findall(r"^## \[(.+?)\](?: - (.+))?$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] == ("Unreleased", "")
    assert headings[1] == (__version__, str(citation["date-released"]))


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "SECURITY.md", ".github/PULL_REQUEST_TEMPLATE.md"])
def test_what_is_mentioned_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    mentioned = re.findall(r"`([^`\n]+)`", text)
    paths = {path for words in mentioned for path in PATH.findall(words) if "NAME" not in path}
    missing = sorted(path for path in paths if not (ROOT / path).exists())
    assert not missing, f"{document} mentions {missing}"
    folders = ("etad", "bench", "tests")
    source = "\n".join(path.read_text(encoding="utf-8") for name in folders for path in (ROOT / name).rglob("*.py"))
    # Words that are a name of Python as a whole: `EncoderName`, `_cut_resnet`, `CHANNELS`.
    names = {words for words in mentioned if NAME.fullmatch(words)}
    unknown = sorted(name for name in names if not re.search(rf"\b{re.escape(name)}\b", source))
    assert not unknown, f"{document} mentions {unknown}"
    for name, path in re.findall(r"`(\w+)` in\s+`([\w/]+\.py)`", text):
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8")), f"{document}: no {name} in {path}"
