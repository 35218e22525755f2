"""The floors of the two packages: what may import what, and where private names of torch may stand.

Read from the source alone; nothing is imported. An import inside a function, or for type checking only, counts like any
other. Names that are only known when the code runs are out of reach: ``getattr(torch, "_name")``, a module loaded by
its name, and private attributes of objects whose type is not written there, such as ``tensor._use_count()``.
"""

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name

import pytest

from tests.paths import ROOT

FLOORS = {
    "etad": (
        "wanted",
        "errors phases",
        "classes digests files first_failure host_memory notes progress resources seeding segments signals",
        "torch_files torch_internals",
        "distributed loss_curves",
        "config",
        "variants precision",
        "data sampling offload",
        "inputs",
        "models detections",
        "losses evaluation",
        "encoding",
        "step divergence",
        "infer train",
        "runs",
    ),
    "bench": (
        "units",
        "timing_statistics cells batches machine torch_internals",
        "records",
        "predict published",
        "measure compare",
        "suites",
        "forms sweep",
        "report",
        "cli",
    ),
}
"""Rooms (packages and single modules) from the ground up: each imports from the floors below its own, bench also from
etad. Within a room everybody may import everybody, as long as it makes no circle."""

PRIVATE = re.compile(r"(torch\.(?!ops\.)|torchvision\.)(\w+\.)*_(?!_)\w*")
"""Operators (``torch.ops``) are torch's data, not names of its Python code."""
MAY_BE_PRIVATE = ("bench.torch_internals.", "etad.torch_internals.")

Sources = Mapping[str, str]
"""Source code by the module's name."""

parsed = functools.cache(ast.parse)


def project() -> Sources:
    paths = [path for package in FLOORS for path in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return {name: path.read_text(encoding="utf-8") for name, path in zip(names, paths, strict=True)}


def imported(name: str, sources: Sources) -> Iterator[tuple[str, str, str]]:
    """Yield the dotted path of everything that a module imports, the local name it gets, and what that stands for."""
    for node in ast.walk(parsed(sources[name])):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield (alias.name, alias.asname, alias.name) if alias.asname else (alias.name, top, top)
        elif isinstance(node, ast.ImportFrom):
            package = name if any(other.startswith(f"{name}.") for other in sources) else name.rpartition(".")[0]
            base = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                yield f"{base}.{alias.name}", alias.asname or alias.name, f"{base}.{alias.name}"


def modules_imported(name: str, sources: Sources) -> set[str]:
    found = set()
    for path, _, _ in imported(name, sources):
        while path and path not in sources:  # What is no module is a name in one.
            path = path.rpartition(".")[0]
        found |= {path} - {"", name}
    return found


def floor(module: str) -> tuple[int, str]:
    """Return a module's floor, and its room there; a package's own ``__init__`` lies below its ground."""
    package, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    floors = [number for number, rooms in enumerate(FLOORS[package]) if room in rooms.split()]
    assert floors or not room, f"{module} is on no floor; give it one in {__name__}"
    return (floors[0] if room else -1), room


def wrong_imports(sources: Sources) -> list[str]:
    wrong = []
    for name in sources:
        (own, room), package = floor(name), name.partition(".")[0]
        for other in sorted(modules_imported(name, sources)):
            (theirs, other_room), other_package = floor(other), other.partition(".")[0]
            allowed = package == "bench" if package != other_package else theirs < own or room == other_room
            wrong += [] if allowed else [f"{name} imports {other}"]
    return wrong


def circle(sources: Sources) -> list[str]:
    try:
        TopologicalSorter({name: modules_imported(name, sources) for name in sources}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def dotted(node: ast.expr) -> str:
    """Return an attribute chain as it is written; what is no name in it becomes a question mark."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def private_names(sources: Sources) -> list[str]:
    """Return the private names of torch and torchvision outside the places for them."""
    found = set()
    for name in sources:
        paths = {path for path, _, _ in imported(name, sources)}
        meant = {local: path for _, local, path in imported(name, sources)}
        for node in ast.walk(parsed(sources[name])):
            if isinstance(node, ast.Attribute):
                root, _, rest = dotted(node).partition(".")
                paths.add(f"{meant.get(root, root)}.{rest}")
        if not f"{name}.".startswith(MAY_BE_PRIVATE):
            found |= {f"{name} uses {match[0]}" for match in map(PRIVATE.match, paths) if match}
    return sorted(found)


def undescribed(sources: Sources) -> list[str]:
    """Return the packages whose docstring does not say what they import, or names a room that they do not."""
    packages = {name for name in sources if any(other.startswith(f"{name}.") for other in sources)}
    return sorted(name for name in packages if not _is_described(name, sources))


def _is_described(package: str, sources: Sources) -> bool:
    said = re.search(r"\w.*[.:]\s+Imports (\w[^.]*)", ast.get_docstring(parsed(sources[package])) or "", re.DOTALL)
    if said is None:
        return False
    top, _, own = package.partition(".")
    rooms = {room for floor in FLOORS[top] for room in floor.split()} - {own.partition(".")[0]}
    inside = [name for name in sources if name == package or name.startswith(f"{package}.")]
    used = {path.split(".")[1] for name in inside for path in modules_imported(name, sources) if "." in path}
    return rooms.intersection(re.findall(r"\w+", said[1])) <= used


def test_nobody_imports_from_above_or_from_beside() -> None:
    assert wrong_imports(project()) == []


def test_no_circle() -> None:
    assert circle(project()) == []


def test_private_names_of_torch_stand_in_one_place() -> None:
    assert private_names(project()) == []


def test_every_package_says_what_lives_there_and_what_it_imports() -> None:
    assert undescribed(project()) == []


@pytest.mark.parametrize(
    ("module", "code", "wrong"),
    [
        ("bench.records.x", "import bench.sweep.run", "bench.sweep.run"),
        ("bench.predict.x", "def f():\n    from bench.published import y", "bench.published"),
        ("bench.units", "from bench import cells", "bench.cells"),
        ("etad.errors", "if TYPE_CHECKING:\n    from etad.step import TrainingStep", "etad.step"),
        ("etad.data.x", "from ..sampling import y", "etad.sampling"),
        ("etad.runs", "import bench.units as u", "bench.units"),
        ("bench.cli.x", "import etad.step, bench.report.page, bench.cli.y", None),
        ("etad.data.x", "import etad.data.y; from etad import config, __version__", None),
    ],
)
def test_a_planted_import(module: str, code: str, wrong: str | None) -> None:
    of_bench = ["sweep.run", "published", "cells", "units", "report.page", "cli.y"]
    of_etad = ["step", "sampling", "config", "data.y"]
    empty = dict.fromkeys([f"bench.{name}" for name in of_bench] + [f"etad.{name}" for name in of_etad], "")
    planted = {"bench": "", "etad": "", **empty, module: code}
    assert wrong_imports(planted) == ([] if wrong is None else [f"{module} imports {wrong}"])


def test_a_module_without_a_floor() -> None:
    with pytest.raises(AssertionError, match=r"bench\.attic is on no floor"):
        wrong_imports({"bench": "", "bench.attic": ""})


def test_a_planted_circle() -> None:
    loop = {"etad.data.a": "from etad.data import b", "etad.data.b": "def f():\n    import etad.data.c"}
    assert circle(loop | {"etad.data.c": ""}) == []
    assert set(circle(loop | {"etad.data.c": "from etad.data.a import x"})) == {f"etad.data.{name}" for name in "abc"}


@pytest.mark.parametrize(
    "code",
    [
        "from torch._C import Graph",
        "from torch.utils import _pytree as p",
        "import torch.utils._pytree",
        "import torch\ntorch.cuda._lazy_init()",
        "from torch import nn as n\ndef f(x): return n.modules.batchnorm._BatchNorm(x).weight",
        "import torchvision as tv\ntv.ops._utils.split()",
    ],
)
def test_a_planted_private_name(code: str) -> None:
    (found,) = private_names({"bench.predict.x": code})
    assert found.startswith("bench.predict.x uses torch")
    assert private_names({"bench.torch_internals.x": code, "etad.torch_internals": code}) == []
    assert private_names({"etad.x": "import torch\ntorch.__version__; torch.ops.aten._to_copy; x._use_count()"}) == []


def test_a_planted_package_without_description() -> None:
    assert undescribed({"etad.x": '"""Rooms."""', "etad.x.y": ""}) == ["etad.x"]
    assert undescribed({"etad.x": '"""Rooms. Imports the ground."""', "etad.x.y": ""}) == []
