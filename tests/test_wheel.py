"""What users install: the wheel, built from the source distribution, holds what commands need and works by itself."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from etad import __version__
from tests.paths import ROOT

MEMORY_RECORDS = ROOT / "results" / "measured" / "cpu-amd-epyc" / "memory"
SHIPPED = {"configs": "configs", "profiles": "profiles", "results/published": "published"}
"""Folder of the checkout -> folder of the wheel below etad/_resources."""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it as pip would, with nothing else at hand."""
    folder = tmp_path_factory.mktemp("dist")
    # --no-isolation: hatchling is installed with the test tools, so nothing is fetched.
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (source,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return source, wheel


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it, without its dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(distributions[1])], check=True)
    return folder


def files_below(folder: Path) -> set[str]:
    """Return the files below a folder of the checkout, as paths from it, without what running Python leaves there."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_packages_what_they_read_and_nothing_else(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = set(wheel.namelist())
    wanted = {f"{package}/{name}" for package in ("etad", "bench") for name in files_below(ROOT / package)}
    for source, target in SHIPPED.items():
        wanted |= {f"etad/_resources/{target}/{name}" for name in files_below(ROOT / source)}
    information = f"etad_bench-{__version__}.dist-info"
    described = {f"{information}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    assert names == wanted | described | {f"{information}/licenses/LICENSE"}
    assert {"etad/py.typed", "bench/py.typed", "bench/record.schema.json"} <= names


def test_the_source_distribution_can_be_tested(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("tests", "examples", "results/baselines", ".ci"):
        assert {f"{folder}/{name}" for name in files_below(ROOT / folder)} <= names
    assert {"test.sh", "quickstart.sh", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff"} <= names


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """Run the installed command in ``folder``; return what it prints."""
    # Heavy dependencies come from the running environment, which may hold this project, too: so the folder is first.
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, str(installed / "bin" / "etad-bench"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_the_installed_code_that_runs(installed: Path, tmp_path: Path) -> None:
    code = "import bench, etad; print(bench.__file__, etad.__file__, sep='\\n')"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(installed / package / "__init__.py") for package in ("bench", "etad")]


def test_commands_need_no_checkout(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "--version") == f"etad-bench, version {__version__}\n"
    assert "quickstart" in run(installed, tmp_path, "config")
    assert "snippet_ratio: 0.3" in run(installed, tmp_path, "config", "anet_e2e")
    assert "rtx_3060_laptop_6g" in run(installed, tmp_path, "profiles")
    assert "38.73" in run(installed, tmp_path, "published")


def test_records_become_a_page(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "report", str(MEMORY_RECORDS), "--output", "report.html")
    assert "</html>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_memory_is_predicted(installed: Path, tmp_path: Path) -> None:
    settings = ("--config", "quickstart", "--hardware", "rtx_3060_laptop_6g", "--set", "data.length=8")
    assert "predicted for nvidia-geforce-rtx-3060-laptop-gpu" in run(installed, tmp_path, "memory", *settings)
