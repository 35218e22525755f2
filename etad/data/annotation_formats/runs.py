"""Runs of equal frames, for formats that label frames instead of stretches of time."""

from collections.abc import Iterable

from etad.data.annotation_formats.reading import Reading


def read_runs(
    reading: Reading, name: str, frames: Iterable[tuple[str, ...]], place: str, *, is_id: bool, tier: str = ""
) -> None:
    """Take runs of equal labels as intervals.

    Args:
        reading: where they go.
        name: media file or id of the video.
        frames: the labels of each frame; none, one or several.
        place: the file, for messages.
        is_id: ``name`` is an id.
    """
    video_id = reading.video(name, place, is_id=is_id)
    fps = reading.fps_of(video_id, place)
    frames = list(frames)
    reading.video(video_id, place, duration_s=len(frames) / fps, fps=fps, is_id=True)
    began: dict[str, int] = {}
    for number, labels in enumerate([*frames, ()]):
        for label in [label for label in began if label not in labels]:
            first = began.pop(label)
            reading.add(video_id, first / fps, number / fps, label, f"{place}, frame {first}", tier=tier)
        for label in labels:
            began.setdefault(label, number)
