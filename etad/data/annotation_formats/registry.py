"""The formats by name, and which of them a file is in: told by what it holds, not by what it is called."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from etad.data.annotation_formats import (
    activitynet,
    anvil,
    bento,
    boris,
    charades,
    cvat,
    ego4d,
    elan,
    epic,
    frames,
    intervals,
    label_studio,
    thumos,
    via,
    vidat,
)
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.errors import DataError, one_line


@dataclass(frozen=True)
class Format:
    """A format: its name on the command line, what it is, how it is told and how it is read."""

    name: str
    title: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source, Reading], None]


def _format(name: str, title: str, module: ModuleType) -> Format:
    return Format(name, title, module.recognises, module.read)


FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        # From what cannot be mistaken to what nearly anything could be.
        _format("elan", "ELAN .eaf", elan),
        _format("anvil", "Anvil XML", anvil),
        _format("cvat", "CVAT for video, or images, 1.1", cvat),
        _format("boris", "BORIS projects, tabular and aggregated events, events of a sheet", boris),
        _format("vidat", "Vidat JSON", vidat),
        _format("via", "VGG Image Annotator 3, project or CSV", via),
        _format("ego4d", "Ego4D moment queries", ego4d),
        _format("activitynet", "ActivityNet JSON", activitynet),
        _format("label-studio", "Label Studio JSON or JSON-MIN", label_studio),
        _format("bento", "Bento .annot", bento),
        _format("epic", "EPIC-KITCHENS-100 CSV", epic),
        _format("charades", "Charades CSV", charades),
        _format("intervals", "a table, or JSON list, of intervals", intervals),
        _format("thumos", "THUMOS-14, a text file a class", thumos),
        _format("frames", "a label a frame: MS-TCN, Breakfast, DeepEthogram, Solomon, FERAL", frames),
        # Told apart from the above by their names only: their form is the same.
        _format("multithumos", "MultiTHUMOS, as thumos", thumos),
        _format("hacs", "HACS Segments, as activitynet", activitynet),
        _format("fineaction", "FineAction, as activitynet", activitynet),
    )
}
"""Every format that can be read, by name, in the order in which a file is tried."""


_ROW_BY_ROW = ("intervals", "thumos", "multithumos", "frames")
"""Formats whose files are read although some rows are not in their form; the rows are counted."""


def read_as(found: Format, source: Source, reading: Reading) -> None:
    """Read a file in a format that was found, or named.

    Raises:
        DataError: it is in another format, or cannot be read.
    """
    if found.name not in _ROW_BY_ROW and not found.recognises(source):
        other = next((one.name for one in FORMATS.values() if one.recognises(source)), None)
        hint = f"it looks like {other}: give --from {other}" if other else "export it from the tool once more"
        raise DataError(f"{source.path}: is no file of {found.name} ({found.title}); {hint}")
    found.read(source, reading)
    for key in source.repeated:
        reading.faults.add("keys are given more than once: the last entry counts", f"{source.path}, {one_line(key)!r}")


def format_of(source: Source) -> Format:
    """Return the format that a file is in.

    Raises:
        DataError: it is in none that is known, or is damaged.
    """
    for found in FORMATS.values():
        if found.recognises(source):
            return found
    raise DataError(
        f"{source.path}: its format is not known; give --from NAME ({', '.join(FORMATS)}), "
        "or write a table with the columns video_id, start_s, end_s, label"
    )


def formats_of(sources: Sequence[Source]) -> Format:
    """Return the one format that all files are in.

    Raises:
        DataError: they are in several, or one is in none.
    """
    first: dict[str, Path] = {}
    for source in sources:
        first.setdefault(format_of(source).name, source.path)
    if len(first) > 1:
        listed = ", ".join(f"{path} is {name}" for name, path in first.items())
        raise DataError(f"the files are in several formats ({listed}); import each format on its own")
    return FORMATS[next(iter(first))]
