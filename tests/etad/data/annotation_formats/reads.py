"""Reading one file's content, for tests."""

from pathlib import Path

from etad.data.annotation_formats.reading import Reading, ReadOptions
from etad.data.annotation_formats.registry import FORMATS, format_of, read_as
from etad.data.annotation_formats.source import Source


def written(folder: Path, content: str | bytes, name: str = "a.txt") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, options: ReadOptions | None = None, name: str | None = None) -> Reading:
    """Read a file in the format it is in, or in the one named."""
    source, reading = Source(path), Reading(options)
    read_as(FORMATS[name] if name else format_of(source), source, reading)
    return reading
