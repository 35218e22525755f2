"""What the site's pages are made of besides their own text: tables from the models, and files from outside this folder.

mkdocs calls ``on_files``, ``on_page_markdown`` and ``on_page_content``. A page asks for generated text with a comment:

    <!-- keys: etad.config:Config -->   the keys of a pydantic model, and of the sections below it
    <!-- options -->                    fails the build if an option of a command has no help; prints nothing
    <!-- findings -->                   the index of the folder findings/, from the comment at the top of each script

A relative link to a file outside ``docs/`` resolves in the repository; on the site the file is copied along, to the
same place below the root, and the link follows.
"""

import importlib
import json
import os
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import pydantic
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic.fields import FieldInfo

from etad.config import LARGEST

Model = type[pydantic.BaseModel]

PROJECT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?P<start>!?\[[^\]]*\]\()(?P<target>\.\.?/[^)#\s]+)(?P<anchor>#[^)\s]*)?(?P<end>\))")
CITATION = re.compile(r"(?<!>)\b(?:(?:docs/)?specification(?:\.md)?,|etad-spec) (sections?) (\d)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PLAIN = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    pydantic.AwareDatetime: "date and time",
}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside ``docs/`` that pages link to."""
    wanted = {path for page in files.documentation_pages() for path, _ in _outside(page)}
    wanted |= {script.path for script in findings()}
    for path in sorted(wanted):
        name = path.relative_to(PROJECT).as_posix()
        # A Markdown file would become a page, and its links would have to be followed as well.
        site_name = f"{name}.txt" if path.suffix == ".md" else name
        files.append(File.generated(config, site_name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what the page's comments ask for, and turn links out of ``docs/`` into links of the site."""
    where = page.file.src_uri
    try:
        markdown = re.sub(
            r"<!-- keys: (\S+):(\S+) -->", lambda match: keys_page(model_of(match[1], match[2])), markdown
        )
        if "<!-- options -->" in markdown:
            check_options()
            without_sentinels()
        markdown = markdown.replace("<!-- findings -->", findings_index(where))
    except ValueError as error:
        raise PluginError(f"{where}: {error}") from None
    for path, target in _outside(page.file, markdown):
        name = path.relative_to(PROJECT).as_posix() + (".txt" if path.suffix == ".md" else "")
        site_target = os.path.relpath(name, PurePosixPath(where).parent)
        markdown = markdown.replace(f"]({target}", f"]({site_target}")
    return markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link the citations of the specification, and drop the roles of Sphinx from docstrings."""
    html = re.sub(r":(?:func|class|data|meth|mod):(?=<code>)", "", html)
    # mkdocs-click 0.9 says so of options that have no default.
    html = html.replace("<td>_required</td>", "<td>required</td>").replace("<td>None</td>", "<td></td>")
    specification = files.get_file_from_path("specification.md")
    if specification is None or page.file == specification:
        return html
    target = specification.url_relative_to(page.file)
    return re.sub(
        CITATION,
        lambda match: f'<a href="{target}#section-{match[2]}">specification, {match[1]} {match[2]}</a>',
        html,
    )


def _outside(page: File, markdown: str | None = None) -> Iterator[tuple[Path, str]]:
    """Yield the files outside ``docs/`` that a page links to, with the links' targets as they are written."""
    folder = Path(page.abs_src_path or "").parent
    for match in LINK.finditer(CODE.sub("", page.content_string if markdown is None else markdown)):
        path = Path(os.path.normpath(folder / match["target"]))
        if path.is_file() and path.is_relative_to(PROJECT) and not path.is_relative_to(PROJECT / "docs"):
            yield path, match["target"]


# Keys of models


@dataclass(frozen=True)
class Key:
    """One key of a model: its dotted path, what it may be, its default as YAML, and what it means."""

    path: str
    kind: str
    default: str
    meaning: str


def model_of(module: str, name: str) -> Model:
    """Return a model by its module and name."""
    model: Model = getattr(importlib.import_module(module), name)
    return model


def keys(
    model: type[pydantic.BaseModel], prefix: str = ""
) -> Iterator[tuple[str, type[pydantic.BaseModel], list[Key]]]:
    """Yield a model and the models of its keys, depth first: dotted path, model, keys.

    Raises:
        ValueError: a key does not say what it means.
    """
    rows, below = [], []
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        if not field.description:
            raise ValueError(f"{model.__module__}.{model.__name__}: the key {name} does not say what it means")
        section, in_mapping = _section(field.annotation), _in_mapping(field.annotation)
        if section is not None:
            below.append((path, section))
        elif in_mapping is not None:
            below.append((f"{path}.NAME", in_mapping))
        rows.append(Key(path, _kind(field), _default(field, section is not None), _line(field.description)))
    yield prefix.removesuffix("."), model, rows
    for path, section in below:
        yield from keys(section, f"{path}.")


def keys_page(model: Model) -> str:
    """Return the keys of a model as Markdown: a table each for it and for the sections below it."""
    parts = []
    for path, section, rows in keys(model):
        if path:
            parts.append(f"### `{path}` {{ #{path} }}")
        if path or model.__doc__:
            parts.append(_line(section.__doc__ or ""))
        lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
        lines += [f"| `{row.path}` | {row.kind} | {row.default} | {row.meaning} |" for row in rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(docstring: str) -> str:
    text = " ".join(docstring.split()).replace("``", "`").replace("|", "\\|")
    return re.sub(r":(?:func|class|data|meth|mod):(?=`)", "", text)


def _section(annotation: Any) -> Model | None:
    options = [annotation, *(get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ())]
    found = [option for option in options if isinstance(option, type) and issubclass(option, pydantic.BaseModel)]
    return found[0] if found else None


def _in_mapping(annotation: Any) -> Model | None:
    """Return the model of a mapping's values, if they have one."""
    arguments = get_args(annotation)
    return _section(arguments[1]) if get_origin(annotation) is dict else None


def _default(field: FieldInfo, is_section: bool) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if is_section:
        return "see there"
    if isinstance(value, Path):
        value = str(value)
    text = json.dumps(list(value) if isinstance(value, tuple) else value)
    return f"`{text}`"


def _kind(field: FieldInfo) -> str:
    return _described(field.annotation, field.metadata)


def _described(annotation: Any, metadata: Any = ()) -> str:
    """Return what a value may be, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _described(arguments[0], arguments[1:])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if part is type(None) else _described(part, metadata) for part in arguments)
    if origin is tuple:
        return f"list of {_described(arguments[0])}"
    if origin is dict:
        value = _section(arguments[1])
        return f"mapping to {value.__name__.lower() if value else _described(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return "section"
    words = PLAIN.get(
        annotation, "any value" if "Json" in str(annotation) else getattr(annotation, "__name__", "value")
    )
    return " ".join([words, *_bounds(metadata)])


def _bounds(metadata: Any) -> Iterator[str]:
    found: dict[str, Any] = {}
    for item in metadata:
        for part in item.metadata if isinstance(item, FieldInfo) else (item,):
            found |= {name: getattr(part, name) for name in BOUNDS if getattr(part, name, None) is not None}
    # That a size is none beyond every machine needs no word.
    words = [f"{BOUNDS[name]} {value:g}" for name, value in found.items() if value != LARGEST]
    if words:
        yield ", ".join(words)


# Options of commands


def options(context: click.Context | None = None) -> Iterator[tuple[str, click.Option]]:
    """Yield every option of every command, with the words of its command."""
    if context is None:
        from bench.cli import main

        context = click.Context(main, info_name="etad-bench", **main.context_settings)
    command = context.command
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option):
            yield context.command_path, parameter
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from options(click.Context(child, parent=context, info_name=name))


def check_options() -> None:
    """Find options without help.

    Raises:
        ValueError: there is one.
    """
    for command, option in options():
        if not option.help:
            raise ValueError(f"{command}: the option {option.opts[0]} has no help")


def without_sentinels() -> None:
    """Set options without a default to None: mkdocs-click 0.9 would print the sign that click has for it."""
    for _, option in options():
        if "UNSET" in repr(option.default):
            option.default = None


# Findings


@dataclass(frozen=True)
class Finding:
    """A script of ``findings/``: its file, the first line of its comment, and the rest of it."""

    path: Path
    title: str
    text: str


def findings(folder: Path = PROJECT / "findings") -> list[Finding]:
    """Return the scripts of a folder, by name; none where there is no folder.

    Raises:
        ValueError: a script does not begin with a comment that says what it shows.
    """
    found = []
    for path in sorted(folder.glob("*.sh")):
        comment = []
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("#!"):
                continue
            if not line.startswith("#"):
                break
            comment.append(line.removeprefix("#").strip())
        if len(comment) < 2:
            raise ValueError(f"{path.name}: begin it with a comment: a line for a title, then what it shows")
        found.append(Finding(path, comment[0].rstrip("."), " ".join(comment[1:])))
    return found


def findings_index(page: str, folder: Path = PROJECT / "findings") -> str:
    """Return a heading, a text and a link for each script, as Markdown of the page at ``page`` in ``docs/``."""
    scripts = findings(folder)
    if not scripts:
        return "There are no findings yet: the folder `findings/` is absent or empty."
    parts = []
    for script in scripts:
        link = os.path.relpath(script.path, PROJECT / "docs" / PurePosixPath(page).parent)
        parts += [f"## {_escaped(script.title)}", _escaped(script.text), f"[`findings/{script.path.name}`]({link})"]
    return "\n\n".join(parts)


def _escaped(text: str) -> str:
    """Return plain text as Markdown; what stands between backticks stays code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a lone backtick
        parts = ["\\`".join(parts)]
    parts[::2] = [re.sub(r"(?<!\\)([*_\[\]#])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)
