"""Ego4D moment queries (``moments_train.json``): clips of videos, labelled by several annotators.

The clips are the videos of the benchmark; times count from the clip's beginning. ``primary`` marks the labels that the
benchmark uses (110 classes).

Read in converters of others for ActionFormer: ``videos[].clips[].annotations[].labels[]``, ``split`` of the video, and
the clip's length from ``video_start_sec`` and ``video_end_sec``.
"""

from etad.data.annotation_formats.interval import seconds
from etad.data.annotation_formats.json_values import listing, mapping, text
from etad.data.annotation_formats.reading import Reading
from etad.data.annotation_formats.source import Source
from etad.errors import DataError


def recognises(source: Source) -> bool:
    tree = source.json
    videos = tree.get("videos") if isinstance(tree, dict) else None
    return isinstance(videos, list) and any(isinstance(video, dict) and "clips" in video for video in videos[:50])


def read(source: Source, reading: Reading) -> None:
    if not recognises(source):
        raise DataError(f"{source.path}: no videos with clips; expected Ego4D's moments_*.json")
    for number, video in enumerate(source.json["videos"], 1):
        entry = mapping(video)
        place = f"{source.path}, video {text(entry.get('video_uid')) or number}"
        subset = text(entry.get("split")) or None
        for clip in map(mapping, listing(entry.get("clips"))):
            name = text(clip.get("clip_uid"))
            if not name:
                reading.faults.add("clips have no clip_uid: left out", place)
                continue
            begin, end = seconds(clip.get("video_start_sec")), seconds(clip.get("video_end_sec"))
            where = f"{place}, clip {name}"
            length_s = end - begin if begin is not None and end is not None else None
            video_id = reading.video(name, where, length_s, subset=subset, is_id=True)
            for annotation in map(mapping, listing(clip.get("annotations"))):
                for label in map(mapping, listing(annotation.get("labels"))):
                    if reading.options.primary_only and not label.get("primary"):
                        reading.faults.add("labels are not primary: left out (--primary-only)", where)
                        continue
                    reading.add(
                        video_id,
                        seconds(label.get("start_time")),
                        seconds(label.get("end_time")),
                        label.get("label"),
                        where,
                        tier=text(annotation.get("annotator_uid")),
                    )
