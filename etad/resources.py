"""Where the files that travel with the package lie: in the wheel, or in the source tree."""

from pathlib import Path

IN_CHECKOUT = {"published": "results/published"}
"""Where a folder lies in the source tree, if not at its top."""


def resource_folder(name: str) -> Path:
    """Return the folder ``name`` ("configs", "profiles", "published") of the installed package or of the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_resources" / name
    if installed.is_dir():
        return installed
    return package.parent / IN_CHECKOUT.get(name, name)
