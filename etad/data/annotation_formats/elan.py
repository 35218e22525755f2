"""ELAN (.eaf), read and written.

Times are slots in milliseconds, and a slot may have none: between the parts of a subdivided annotation. Such a boundary
is placed evenly between its neighbours of the same tier, as ELAN draws it. Annotations of symbolic tiers have no slots;
they take the time of the annotation that they refer to, or an equal part of it where several in a row divide it.
``TIME_ORIGIN`` is the part of the medium that lies before the document's time 0.

Read in the schema EAF 3.0 (mpi.nl/tools/elan/EAFv3.0.xsd) and in files of dopefishh/pympi (commit 36d1426).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from etad.data.annotation_formats.interval import Interval, VideoFacts, seconds
from etad.data.annotation_formats.lanes import with_lanes
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.data.annotation_formats.xml_tree import Element
from etad.errors import DataError

Span = tuple[float | None, float | None]


def recognises(source: Source) -> bool:
    return source.xml is not None and source.xml.tag == "ANNOTATION_DOCUMENT"


def read(source: Source, reading: Reading) -> None:
    root = source.xml
    if root is None or root.tag != "ANNOTATION_DOCUMENT":
        raise DataError(f"{source.path}: no ANNOTATION_DOCUMENT; is it an ELAN file (.eaf)?")
    name, origin_s = _medium(root, source, reading)
    video_id = reading.video(name, source.place(root.line), is_id=name == source.stem)
    slots = {slot.get("TIME_SLOT_ID"): seconds(slot.get("TIME_VALUE") or None) for slot in root.all("TIME_SLOT")}
    tiers = [_Tier.of(tier) for tier in root.children if tier.tag == "TIER"]
    spans: dict[str, Span] = {}
    for tier in tiers:
        spans |= _aligned(tier, slots, source, reading)
    _resolve(tiers, spans)
    for tier in tiers:
        for annotation in tier.annotations:
            place = f"{source.place(annotation.line)}, tier {tier.name}"
            start_ms, end_ms = spans.get(annotation.get("ANNOTATION_ID"), (None, None))
            value = annotation.first("ANNOTATION_VALUE")
            label = value.text.strip() if value is not None else ""
            if not label:
                reading.faults.add("annotations have no text: named after their tier", place)
            start_s = None if start_ms is None else start_ms / 1000 + origin_s
            end_s = None if end_ms is None else end_ms / 1000 + origin_s
            reading.add(video_id, start_s, end_s, label or tier.name, place, subject=tier.participant, tier=tier.name)


@dataclass(frozen=True)
class _Tier:
    name: str
    participant: str
    annotations: tuple[Element, ...]

    @classmethod
    def of(cls, tier: Element) -> "_Tier":
        found = [child for holder in tier.children if holder.tag == "ANNOTATION" for child in holder.children]
        return cls(tier.get("TIER_ID"), tier.get("PARTICIPANT"), tuple(found))


def _medium(root: Element, source: Source, reading: Reading) -> tuple[str, float]:
    """Return the first video of the document, else its first medium, else the file's own name; and its origin."""
    media = list(root.all("MEDIA_DESCRIPTOR"))
    media.sort(key=lambda medium: not medium.get("MIME_TYPE").startswith("video"))
    if len(media) > 1:
        reading.faults.add("files name several media; the first video counts", source.place(media[0].line))
    name = media[0].get("MEDIA_URL") or media[0].get("RELATIVE_MEDIA_URL") if media else ""
    return name or source.stem, (seconds(media[0].get("TIME_ORIGIN") or 0) or 0.0) / 1000 if media else 0.0


def _aligned(tier: _Tier, slots: Mapping[str, float | None], source: Source, reading: Reading) -> dict[str, Span]:
    """Return the times in ms of a tier's annotations with slots; those without a value lie evenly between others."""
    aligned = [annotation for annotation in tier.annotations if annotation.tag == "ALIGNABLE_ANNOTATION"]
    spans = [
        [slots.get(annotation.get("TIME_SLOT_REF1")), slots.get(annotation.get("TIME_SLOT_REF2"))]
        for annotation in aligned
    ]
    first = 0
    while first < len(spans):
        last = first
        # Up to the annotation whose end is known.
        while last + 1 < len(spans) and spans[last][1] is None and spans[last + 1][0] is None:
            last += 1
        start, end = spans[first][0], spans[last][1]
        if last > first and start is not None and end is not None:
            for number in range(first, last):
                boundary = start + (end - start) * (number + 1 - first) / (last + 1 - first)
                spans[number][1] = spans[number + 1][0] = boundary
                place = f"{source.place(aligned[number].line)}, tier {tier.name}"
                reading.faults.add("boundaries have no time in the file: placed evenly between their neighbours", place)
        first = last + 1
    return {
        annotation.get("ANNOTATION_ID"): (start, end) for annotation, (start, end) in zip(aligned, spans, strict=True)
    }


def _resolve(tiers: Sequence[_Tier], spans: dict[str, Span]) -> None:
    """Give annotations that refer to others their times; several in a row divide the one that they refer to."""
    waiting = [
        (parent, [one.get("ANNOTATION_ID") for one in group])
        for tier in tiers
        for parent, group in _by_parent(tier).items()
    ]
    while waiting:
        left = []
        for parent, ids in waiting:
            start, end = spans.get(parent, (None, None))
            if parent not in spans or start is None or end is None:
                left.append((parent, ids))
                continue
            for number, one in enumerate(ids):
                spans[one] = (
                    start + (end - start) * number / len(ids),
                    start + (end - start) * (number + 1) / len(ids),
                )
        if len(left) == len(waiting):
            # Their parents have no time, or do not exist: they are counted when they are read.
            return
        waiting = left


def _by_parent(tier: _Tier) -> dict[str, list[Element]]:
    groups: dict[str, list[Element]] = {}
    for annotation in tier.annotations:
        if annotation.tag == "REF_ANNOTATION":
            groups.setdefault(annotation.get("ANNOTATION_REF"), []).append(annotation)
    return groups


def write(intervals: Iterable[Interval], facts: VideoFacts) -> str:
    """Return an .eaf document of one video: a tier for each subject and class, numbered where a class overlaps itself.

    ELAN knows no overlap within a tier, and no annotation shorter than a millisecond: a shorter one gets one.
    """
    lanes: dict[tuple[str, str], list[Interval]] = {}
    for lane, interval in with_lanes(intervals):
        lanes.setdefault((lane, interval.label), []).append(interval)
    slots: list[int] = []
    tiers = []
    taken: set[str] = set()
    number = 0
    for (lane, label), found in lanes.items():
        name = f"{label}@{lane}" if lane else label
        while name in taken:
            name += "'"
        taken.add(name)
        parts = []
        for interval in found:
            start = round(1000 * interval.start_s)
            slots += [start, max(round(1000 * interval.end_s), start + 1)]
            number += 1
            parts.append(
                f'        <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" '
                f'TIME_SLOT_REF1="ts{len(slots) - 1}" TIME_SLOT_REF2="ts{len(slots)}">'
                f"<ANNOTATION_VALUE>{escape(label)}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
            )
        participant = f" PARTICIPANT={quoteattr(found[0].subject)}" if found[0].subject else ""
        head = f'    <TIER LINGUISTIC_TYPE_REF="action"{participant} TIER_ID={quoteattr(name)}>'
        tiers.append("\n".join([head, *parts, "    </TIER>"]))
    order = "\n".join(
        f'        <TIME_SLOT TIME_SLOT_ID="ts{index}" TIME_VALUE="{time}"/>' for index, time in enumerate(slots, 1)
    )
    medium = facts.file or facts.id
    if Path(medium).is_absolute():
        medium = Path(medium).as_uri()
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<ANNOTATION_DOCUMENT AUTHOR="etad-bench" DATE="1970-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">',
            '    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">',
            f'        <MEDIA_DESCRIPTOR MEDIA_URL={quoteattr(medium)} MIME_TYPE="video/*"/>',
            "    </HEADER>",
            f"    <TIME_ORDER>\n{order}\n    </TIME_ORDER>",
            *tiers,
            '    <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="action" TIME_ALIGNABLE="true"/>',
            "</ANNOTATION_DOCUMENT>",
            "",
        ]
    )
