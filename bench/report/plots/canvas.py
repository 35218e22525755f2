"""Pictures in files: which formats can be drawn, an empty figure, and writing it.

The figures are matplotlib's own, without pyplot: no window, no backend to choose, and nothing to close.
"""

from pathlib import Path

from matplotlib.figure import Figure

from etad.errors import ConfigError
from etad.files import replace_atomically

SUFFIXES = (".png", ".svg", ".pdf")


def check_target(option: str, target: Path) -> None:
    """Refuse a file that could not be drawn, before anything is measured.

    Args:
        option: that names it, for the message: "--plot".
        target: the file.

    Raises:
        ConfigError: its suffix is none that can be drawn.
    """
    if target.suffix not in SUFFIXES:
        raise ConfigError(f"{option} {target}: name a file that ends in {', '.join(SUFFIXES)}")


def empty_figure(width: float, height: float) -> Figure:
    """Return a figure, in inches, whose parts make room for each other."""
    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: Figure, target: Path, dots_per_inch: int = 120) -> None:
    """Write a figure in the format of the file's suffix, atomically."""
    with replace_atomically(target) as temporary:
        figure.savefig(temporary, dpi=dots_per_inch)
