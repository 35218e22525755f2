"""WebVTT: actions as chapters, for players that show them (w3.org/TR/webvtt1). Written only."""

from collections.abc import Iterable

from etad.data.annotation_formats.interval import Interval


def write(intervals: Iterable[Interval]) -> str:
    """Return the actions of one video as cues, sorted by time; the text is the class, the subject and the score."""
    cues = ["WEBVTT"]
    for number, interval in enumerate(sorted(intervals, key=lambda one: (one.start_s, one.end_s)), 1):
        # A cue has to last; times are in ms.
        start = max(round(1000 * interval.start_s), 0)
        end = max(round(1000 * interval.end_s), start + 1)
        subject = f" ({interval.subject})" if interval.subject else ""
        score = "" if interval.score is None else f" {interval.score:.2f}"
        text = _escaped(f"{interval.label}{subject}{score}")
        cues.append(f"{number}\n{_clock(start)} --> {_clock(end)}\n{text}")
    return "\n\n".join(cues) + "\n"


def _clock(time_ms: int) -> str:
    minutes, rest = divmod(time_ms, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"


def _escaped(text: str) -> str:
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())
