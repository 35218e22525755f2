"""CVAT: "CVAT for video 1.1" and "CVAT for images 1.1" (XML).

There are no stretches of time in it: a ``track`` lasts from a box that is not outside to the next that is, or to the
track's last box; tags of images last as long as they are on neighbouring frames. The frame rate is not in the file.
Frames count from 0.

Read in cvat-ai/cvat (commit 18638ce), ``site/content/en/docs/manual/advanced/xml_format.md``: after a track's last
visible shape an outside one is written, unless the task ends there.
"""

from itertools import pairwise

from etad.data.annotation_formats.interval import seconds
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.data.annotation_formats.xml_tree import Element
from etad.errors import DataError

_SHAPES = ("box", "polygon", "polyline", "points", "cuboid", "mask", "ellipse", "skeleton")


def recognises(source: Source) -> bool:
    root = source.xml
    if root is None or root.tag != "annotations":
        return False
    return any(child.tag in ("track", "image") or (child.tag == "meta" and child.children) for child in root.children)


def read(source: Source, reading: Reading) -> None:
    root = source.xml
    if root is None or not recognises(source):
        raise DataError(f"{source.path}: no tracks or images of CVAT in it; export as CVAT for video 1.1")
    task = root.first("meta", "task") or root.first("meta", "job") or root.first("meta", "project")
    names = [element.text.strip() for element in (root.all("source"))]
    name = next((name for name in names if name), None) or (_text(task, "name") if task else "") or source.stem
    video_id = reading.video(name, str(source.path))
    tracks = [child for child in root.children if child.tag == "track"]
    images = [child for child in root.children if child.tag == "image"]
    if tracks or any(True for image in images for _ in image.all("tag")):
        fps = reading.fps_of(video_id, str(source.path))
        size = seconds(_text(task, "size")) if task else None
        reading.video(video_id, str(source.path), size / fps if size else None, fps, is_id=True)
        for track in tracks:
            _track(track, video_id, fps, source, reading)
        _tags(images, video_id, fps, source, reading)
    shapes = sum(shape.tag in _SHAPES for image in images for shape in image.children)
    if shapes:
        place = source.place(images[0].line)
        reading.faults.add("shapes of single images last no time: left out", place, "use tracks or tags", shapes)


def _text(element: Element, tag: str) -> str:
    found = element.first(tag)
    return found.text.strip() if found is not None else ""


def _track(track: Element, video_id: str, fps: float, source: Source, reading: Reading) -> None:
    label, place = track.get("label"), f"{source.place(track.line)}, track {track.get('id')}"
    shapes = []
    for shape in track.children:
        if shape.tag in _SHAPES:
            frame = seconds(shape.get("frame"))
            if frame is None:
                reading.faults.add("shapes have no frame: left out", source.place(shape.line))
            else:
                shapes.append((frame, shape.get("outside") == "1"))
    shapes.sort()
    began: float | None = None
    for frame, outside in shapes:
        if began is None and not outside:
            began = frame
        elif began is not None and outside:
            reading.add(video_id, began / fps, frame / fps, label, place)
            began = None
    if began is not None:
        reading.add(video_id, began / fps, (shapes[-1][0] + 1) / fps, label, place)
    if not shapes:
        reading.faults.add("tracks hold no shape: left out", place)


def _tags(images: list[Element], video_id: str, fps: float, source: Source, reading: Reading) -> None:
    frames: dict[str, dict[int, int]] = {}
    for image in images:
        number = seconds(image.get("id"))
        for tag in image.children:
            if tag.tag == "tag" and number is not None:
                frames.setdefault(tag.get("label"), {})[int(number)] = tag.line
    for label, lines in frames.items():
        numbers = sorted(lines)
        breaks = [0, *(place for place, (a, b) in enumerate(pairwise(numbers), 1) if b - a > 1), len(numbers)]
        for first, end in pairwise(breaks):
            place = source.place(lines[numbers[first]])
            reading.add(video_id, numbers[first] / fps, (numbers[end - 1] + 1) / fps, label, place)
