"""Bento (.annot) of Caltech's behaviour annotator: channels, classes, and rows of start, stop and duration.

Rows with whole numbers count frames from 1, others are seconds. The MATLAB version counts the last frame in, the Python
version does not; the column Duration tells which, so the end is start + duration.

Read in Bento's ``saveAnnot.m`` (Kennedy, 2019), in the reader and writer of the Python Bento (``_read_bento``,
``write_caltech``), and in MARS's ``dump_labels_bento``, which writes frames.
"""

from etad.data.annotation_formats.interval import seconds
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.errors import DataError


def recognises(source: Source) -> bool:
    return not (source.is_json or source.is_xml) and source.lines[0][1].lower().startswith("bento annotation file")


def read(source: Source, reading: Reading) -> None:
    if not recognises(source):
        raise DataError(f"{source.path}: does not begin with Bento annotation file")
    facts: dict[str, str] = {}
    channel = label = previous = ""
    rows = []
    for number, line in source.lines[1:]:
        key, colon, value = line.partition(":")
        if line.endswith("---") and not line.startswith(">"):
            channel, label = line.rstrip("-").strip(), ""
        elif line.startswith(">"):
            label = line[1:].strip()
        elif channel and label and (line[0].isdigit() or line[0] in ".-"):
            rows.append((number, channel, label, line.split()))
        elif colon and not channel:
            facts[key.strip().lower()] = value.strip()
            previous = key.strip().lower()
        elif previous == "movie file(s)" and not facts[previous] and not channel:
            # Some writers put the name on a line of its own.
            facts[previous] = line
    movies = facts.get("movie file(s)", "")
    name = movies.split()[0] if movies else source.stem
    place = str(source.path)
    video_id = reading.video(name, place, fps=seconds(facts.get("annotation framerate")), is_id=not movies)
    stop = seconds(facts.get("annotation stop frame"))
    rate = reading.videos[video_id].fps
    if stop and rate:
        reading.video(video_id, place, duration_s=stop / rate, is_id=True)
    for number, tier, name, cells in rows:
        _row(cells, video_id, name, tier, source.place(number), reading)


def _row(cells: list[str], video_id: str, label: str, tier: str, place: str, reading: Reading) -> None:
    numbers = [seconds(cell) for cell in cells[:3]]
    start, stop = numbers[0], numbers[1] if len(numbers) > 1 else None
    length = numbers[2] if len(numbers) > 2 else None
    if start is None or stop is None:
        reading.add(video_id, None, None, label, place)
        return
    in_frames = all("." not in cell and "e" not in cell.lower() for cell in cells[:3])
    end = start + length if length is not None and stop >= start else stop + (in_frames and stop >= start)
    if in_frames:
        fps = reading.fps_of(video_id, place)
        reading.add(video_id, (start - 1) / fps, (end - 1) / fps, label, place, tier=tier)
    else:
        reading.add(video_id, start, end, label, place, tier=tier)
