"""What BORIS takes in: a project with an observation for each video, and events of one video for a sheet.

BORIS 9.12.3 (``boris/import_observations.py``, commit 73bdf077) imports observations from a project, and events into
an open observation from a sheet (.xlsx, .ods) with the columns below; it takes no CSV.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etad.data.annotation_formats.interval import Interval, VideoFacts
from etad.data.annotation_formats.lanes import with_lanes

EVENT_COLUMNS = ("time", "subject", "code", "modifier", "comment")


def write_project(intervals: Iterable[Interval], videos: Mapping[str, VideoFacts]) -> dict[str, Any]:
    """Return a BORIS project (format 7.0) with an observation for each video, ready for JSON.

    States of one subject and behaviour cannot overlap in BORIS. Where they do, the later one gets a subject of its own:
    its subject with a number.

    Args:
        intervals: what was seen.
        videos: id -> facts, of every video.
    """
    intervals = list(intervals)
    labels = sorted({interval.label for interval in intervals})
    lanes = {video_id: with_lanes(i for i in intervals if i.video_id == video_id) for video_id in videos}
    subjects = sorted({subject for found in lanes.values() for subject, _ in found if subject})
    return {
        "time_format": "hh:mm:ss",
        "project_date": "1970-01-01T00:00:00",
        "project_name": "etad-bench",
        "project_description": "",
        "project_format_version": "7.0",
        "subjects_conf": {
            str(number): {"key": "", "name": subject, "description": ""} for number, subject in enumerate(subjects)
        },
        "behaviors_conf": {
            str(number): {
                "type": "State event",
                "key": "",
                "code": label,
                "description": "",
                "category": "",
                "modifiers": "",
                "excluded": "",
                "coding map": "",
            }
            for number, label in enumerate(labels)
        },
        "observations": {video_id: _written(facts, lanes[video_id]) for video_id, facts in videos.items()},
        "behavioral_categories": [],
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }


def _written(facts: VideoFacts, found: Sequence[tuple[str, Interval]]) -> dict[str, Any]:
    file = facts.file or facts.id
    return {
        "file": {"1": [file], **{str(player): [] for player in range(2, 9)}},
        "type": "MEDIA",
        "date": "1970-01-01T00:00:00",
        "description": "",
        "time offset": 0.0,
        "events": [
            [time_s, subject, interval.label, "", comment(interval)] for time_s, subject, interval in _moments(found)
        ],
        "observation time interval": [0, 0],
        "independent_variables": {},
        "visualize_spectrogram": False,
        "visualize_waveform": False,
        "close_behaviors_between_videos": False,
        "media_info": {
            "length": {file: facts.duration_s or 0.0},
            "fps": {file: facts.fps or 0.0},
            "hasVideo": {file: True},
            "hasAudio": {file: False},
            "offset": {"1": 0.0},
        },
    }


def write_events(intervals: Iterable[Interval]) -> str:
    """Return the events of one video as CSV with the columns of a sheet that BORIS imports into an observation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(EVENT_COLUMNS)
    for time_s, subject, interval in _moments(with_lanes(intervals)):
        writer.writerow([f"{time_s:.3f}", subject, interval.label, "", comment(interval)])
    return text.getvalue()


def comment(interval: Interval) -> str:
    """Return what goes into the comment of an event: the score of a detection."""
    return "" if interval.score is None else f"score {interval.score:.4g}"


def _moments(found: Sequence[tuple[str, Interval]]) -> list[tuple[float, str, Interval]]:
    """Return begin and end of every interval by time; a state ends before the same one begins again."""
    keyed = []
    for number, (subject, interval) in enumerate(found):
        start, end = round(1000 * interval.start_s) / 1000, round(1000 * interval.end_s) / 1000
        keyed.append(((start, 2 * number + 1), (start, subject, interval)))
        keyed.append(((end, 2 * number + 2), (end, subject, interval)))
    return [moment for _, moment in sorted(keyed, key=lambda item: item[0])]
