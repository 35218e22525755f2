"""Which files are videos, and which file belongs to a video id."""

from pathlib import Path

from etad.errors import DataError, NothingToDoError

SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg"),
    *(".flv", ".wmv", ".ts", ".3gp", ".ogv"),
)
"""File name endings that count as video; upper case counts too."""


def find_video(folder: Path, pattern: str, video_id: str) -> Path | None:
    """Return the file of video ``video_id``, or None.

    The exact name comes first; then the same name with any of ``SUFFIXES``; then both with the prefix ``v_`` of
    ActivityNet's files added or left out.

    Args:
        folder: where to look, not below.
        pattern: file name with ``{id}`` in the place of the id, e.g. ``"v_{id}.mp4"``.
        video_id: id in the annotation file.
    """
    name = pattern.replace("{id}", video_id)
    exact = folder / name
    if exact.is_file():
        return exact
    stem = exact.stem if exact.suffix.lower() in SUFFIXES else exact.name
    other = stem.removeprefix("v_") if stem.startswith("v_") else f"v_{stem}"
    for candidate in (stem, other):
        for suffix in (exact.suffix, *SUFFIXES):
            for ending in (suffix, suffix.upper()):
                path = exact.with_name(candidate + ending)
                if path.is_file():
                    return path
    return None


def list_videos(path: Path) -> list[Path]:
    """Return the video files directly in folder ``path``, sorted by name; or the file ``path`` alone.

    Hidden files are left out: unfinished outputs are named so.

    Raises:
        NothingToDoError: the folder holds no video.
        DataError: there is no such file or folder.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found = sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    )
    if not found:
        raise NothingToDoError(f"{path}: holds no video file ({' '.join(SUFFIXES)})")
    return found
