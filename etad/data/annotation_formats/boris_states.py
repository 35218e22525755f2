"""From BORIS's moments to stretches of time: an observation over its media files, and the states that pair up in it."""

from collections.abc import Sequence

from etad.data.annotation_formats.reading import Reading
from etad.errors import DataError

NO_SUBJECT = "No focal subject"


class Observation:
    """An observation: its media files in turn, how long each is, and the moments at which states change."""

    def __init__(
        self,
        reading: Reading,
        place: str,
        name: str,
        media: Sequence[str],
        lengths_s: Sequence[float | None],
        fps: Sequence[float | None],
        offset_s: float,
    ) -> None:
        self._reading, self._place, self.name, self._offset_s = reading, place, name, offset_s
        # Without a media file (a live observation) the observation itself is what a video is named after.
        names = list(media) or [name]
        self._ids = []
        lengths: list[float | None] = []
        for number, file in enumerate(names):
            length_s = lengths_s[number] if number < len(lengths_s) else None
            rate = fps[number] if number < len(fps) else None
            video_id = reading.video(file, place, length_s, rate, is_id=not media)
            self._ids.append(video_id)
            lengths.append(length_s if length_s is not None else reading.duration_of(video_id))
        self._starts_s = [0.0]
        for file, known in zip(names[:-1], lengths[:-1], strict=True):
            if known is None:
                raise DataError(
                    f"{place}: observation {name} runs on over {len(names)} media files, and the length of {file} is "
                    "not known; import the project (.boris) instead of a table, or give --videos FOLDER"
                )
            self._starts_s.append(self._starts_s[-1] + known)

    def add(self, start_s: float, stop_s: float, label: str, place: str, subject: str) -> None:
        """Take a bout by its times in the observation; one that runs on into the next media file is cut in two."""
        start_s, stop_s = start_s - self._offset_s, stop_s - self._offset_s
        subject = "" if subject == NO_SUBJECT else subject
        if stop_s < start_s:
            self._reading.add(self._ids[0], start_s, stop_s, label, place)
            return
        pieces = []
        for number, (video_id, began_s) in enumerate(zip(self._ids, self._starts_s, strict=True)):
            ended_s = self._starts_s[number + 1] if number + 1 < len(self._ids) else float("inf")
            first = began_s if number else float("-inf")
            if start_s < ended_s and (stop_s > first or (stop_s == start_s and start_s >= first)):
                pieces.append((video_id, max(start_s, first) - began_s, min(stop_s, ended_s) - began_s))
        for video_id, from_s, to_s in pieces:
            self._reading.add(video_id, from_s, to_s, label, place, subject=subject, tier=self.name)
        if len(pieces) > 1:
            self._reading.faults.add("actions run on into the next media file: cut in two", place)


class States:
    """Pairs moments to bouts: a state's every other moment ends what the one before began."""

    def __init__(self, reading: Reading, observation: Observation) -> None:
        self._reading, self._observation = reading, observation
        self._open: dict[tuple[str, str, str], tuple[float, str]] = {}

    def moment(self, time_s: float | None, subject: str, code: str, modifier: str, status: str, place: str) -> None:
        """Take a moment.

        Args:
            time_s: in the observation.
            subject, code, modifier: what makes one state.
            status: START, STOP, POINT, or empty where moments merely take turns.
            place: for messages.
        """
        faults, key = self._reading.faults, (subject, code, modifier)
        if time_s is None:
            faults.add("events have no time: left out", place, "correct the row")
        elif status.upper().startswith("POINT"):
            faults.add("point events have no length: left out", place, "code them as state events in BORIS")
        elif status.upper() == "START" and key in self._open:
            before = self._open[key][1]
            faults.add("states START again without a STOP: left out up to there", before, "give them a STOP in BORIS")
            self._open[key] = (time_s, place)
        elif status.upper() == "STOP" and key not in self._open:
            faults.add("states have a STOP and no START: left out", place, "give them a START in BORIS")
        elif key in self._open:
            start_s, began = self._open.pop(key)
            self._observation.add(start_s, time_s, state_label(self._reading, code, modifier, began), began, subject)
        else:
            self._open[key] = (time_s, place)

    def close(self) -> None:
        for _, place in self._open.values():
            self._reading.faults.add("states have a START and no STOP: left out", place, "give them a STOP in BORIS")


def state_label(reading: Reading, code: str, modifier: str, place: str) -> str:
    modifier = "" if modifier == "None" else modifier
    wanted = reading.options.label or "behavior"
    if wanted not in ("behavior", "behavior+modifiers"):
        raise DataError(f"{place}: --label {wanted} is no field of BORIS; there are behavior and behavior+modifiers")
    if not modifier:
        return code
    if wanted == "behavior+modifiers":
        return f"{code}|{modifier}"
    reading.faults.add(
        "actions have modifiers, which their class leaves out",
        place,
        "--label behavior+modifiers makes them part of it",
    )
    return code
