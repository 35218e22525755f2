"""Where the files that travel with the package lie: in the wheel, or in the source tree."""

from pathlib import Path


def resource_folder(name: str) -> Path:
    """Return the folder ``name`` ("configs", ...) of the installed package or of the source checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_resources" / name
    return installed if installed.is_dir() else package.parent / name
