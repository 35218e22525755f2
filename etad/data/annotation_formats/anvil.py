"""Anvil (XML, often UTF-16): tracks of elements with times and attributes.

Only tracks whose elements carry times of their own are read; those of the types singleton, span and subdivision point
at elements of another track.

The form is ``body/track@name/el@start,@end/attribute@name``, as the manual (anvil-software.org) and the Anvil
reader of SPPAS (``annotationdata/aio/anvil.py``) have it.
"""

from etad.data.annotation_formats.interval import seconds
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.data.annotation_formats.via import chosen_field
from etad.errors import DataError


def recognises(source: Source) -> bool:
    root = source.xml
    return root is not None and root.tag == "annotation" and root.first("body") is not None


def read(source: Source, reading: Reading) -> None:
    root = source.xml
    if root is None or not recognises(source):
        raise DataError(f"{source.path}: no annotation with a body; is it an Anvil file?")
    videos = [video.get("src") for video in root.all("video") if video.get("src")]
    video_id = reading.video(videos[0] if videos else source.stem, source.place(root.line), is_id=not videos)
    found = []
    for track in root.all("track"):
        for element in track.children:
            if element.tag != "el":
                continue
            place = f"{source.place(element.line)}, track {track.get('name')}"
            values = {one.get("name"): one.text.strip() for one in element.children if one.tag == "attribute"}
            if track.get("ref"):
                reading.faults.add("elements refer to another track for their time: left out", place)
            elif element.get("time"):
                reading.faults.add("elements are points in time, without length: left out", place)
            else:
                found.append((seconds(element.get("start")), seconds(element.get("end")), values, track, place))
    name = chosen_field([values for _, _, values, _, _ in found], reading, str(source.path), "attribute")
    for start_s, end_s, values, track, place in found:
        if not values.get(name):
            reading.faults.add("elements have no attribute: named after their track", place)
        reading.add(video_id, start_s, end_s, values.get(name) or track.get("name"), place, tier=track.get("name"))
