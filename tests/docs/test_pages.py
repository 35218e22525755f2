"""What the documentation promises as a whole: no broken link, nothing undocumented, a README that is short."""

import importlib
import re
from pathlib import Path

import pytest

from bench.cli import FAILED, INTERRUPTED, main
from etad.errors import ConfigError, DataError, DeviceError, NothingToDoError

mkdocs = pytest.importorskip("mkdocs", reason="the group docs is not installed")
from docs import hooks  # noqa: E402  (needs mkdocs)

PROJECT = Path(__file__).parents[2]
README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MODELS = re.findall(
    r"<!-- keys: (\S+):(\S+) -->",
    "".join(page.read_text(encoding="utf-8") for page in PAGES),
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for match in LINK.finditer(CODE.sub("", page.read_text(encoding="utf-8"))):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("https://", "http://")):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{match['target']}: there is no such file"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{match['target']}: there is no such heading"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page: those given with a heading, those of headings' texts, those of generated keys."""
    text = page.read_text(encoding="utf-8")
    found = set(re.findall(r"\{ #(\S+) \}", text))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        found.add(re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()))
    for module, name in re.findall(r"<!-- keys: (\S+):(\S+) -->", text):
        found |= {path for path, _, _ in hooks.keys(hooks.model_of(module, name))}
    return found


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 110


def test_every_option_has_help() -> None:
    hooks.check_options()
    assert len(list(hooks.options())) > 100


@pytest.mark.parametrize(("module", "name"), MODELS, ids=[name for _, name in MODELS])
def test_every_key_says_what_it_means(module: str, name: str) -> None:
    for _, _, rows in hooks.keys(hooks.model_of(module, name)):
        assert all(row.meaning for row in rows)


def test_the_experiment_is_documented() -> None:
    assert ("etad.config", "Config") in MODELS


def test_a_key_without_meaning_is_refused() -> None:
    import pydantic

    class Undocumented(pydantic.BaseModel):
        number: int = 1

    with pytest.raises(ValueError, match="the key number does not say what it means"):
        hooks.keys_page(Undocumented)


def test_a_key_shows_its_values_and_default() -> None:
    text = hooks.keys_page(hooks.model_of("etad.config", "StepConfig"))
    assert "| `snippet_ratio` | number at least 0, at most 1 | `0.3` |" in text
    assert '`sequential` or `joint` or `checkpointed` or `frozen` | `"sequential"` |' in text


def test_the_exit_codes_are_those_of_the_code() -> None:
    page = (PROJECT / "docs" / "reference" / "exit_codes.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert main.help is not None
    assert listed == {int(code) for code in re.findall(r"\b(\d+) [a-z]", main.help)}
    errors = {kind.exit_code for kind in (ConfigError, DataError, DeviceError, NothingToDoError)}
    assert errors | {FAILED, INTERRUPTED} <= listed


def test_findings_are_listed_by_what_their_scripts_say(tmp_path: Path) -> None:
    assert "There are no findings yet" in hooks.findings_index("findings.md", tmp_path / "absent")
    (tmp_path / "clock.sh").write_text(
        "#!/usr/bin/env bash\n# A clock that <stops>.\n# library 1.2: it\n# stops.\nset -e\n# not this\n"
    )
    index = hooks.findings_index("findings.md", tmp_path)
    assert "## A clock that &lt;stops>" in index
    assert "library 1.2: it stops." in index
    assert "not this" not in index
    (tmp_path / "mute.sh").write_text("echo\n")
    with pytest.raises(ValueError, match=r"mute\.sh: begin it with a comment"):
        hooks.findings_index("findings.md", tmp_path)


def test_the_specification_has_the_sections_that_the_code_cites() -> None:
    sections = set(re.findall(r"^## (\d)\. ", (PROJECT / "docs" / "specification.md").read_text("utf-8"), re.MULTILINE))
    cited = set()
    for path in [*(PROJECT / "etad").rglob("*.py"), *(PROJECT / "bench").rglob("*.py")]:
        for numbers in re.findall(
            r"(?:etad-spec|specification(?:\.md)?,) sections? ([\d, and]+)", path.read_text("utf-8")
        ):
            cited |= set(re.findall(r"\d", numbers))
    assert cited
    assert cited <= sections


def test_every_name_of_the_python_reference_exists() -> None:
    text = (PROJECT / "docs" / "reference" / "python.md").read_text("utf-8")
    blocks = re.findall(r"^::: ([\w.]+)\n(?: +options:\n +members: \[([^\]]*)\])?", text, re.MULTILINE)
    assert blocks
    for module, members in blocks:
        found = importlib.import_module(module)
        missing = [name for name in re.findall(r"\w+", members) if not hasattr(found, name)]
        assert not missing, f"{module} has no {missing}"
