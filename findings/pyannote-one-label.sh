#!/usr/bin/env bash
# Two actions with the same start and end do not fit into a pyannote Annotation: the second replaces the first.
# pyannote-core 6.1.0, used for timed labels well beyond speech.
# One would guess that `annotation[Segment(0, 1)] = "walk"` adds a label, since two people, or two classes, may share an
# interval. Each pair of segment and track holds one label, and without a track both go to the track "_": "wave"
# replaces "walk" without a word, and a segment one millisecond longer would have kept both. A Timeline is a set, too:
# two equal segments count once.
# Why it matters: data sets with dense labels (an action of each hand, a verb and a noun) have many equal segments, and
# a conversion through this type loses them without a trace.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyannote-core==6.1.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from pyannote.core import Annotation, Segment, Timeline

print("pyannote-core", version("pyannote-core"))


def labels(second_end, track=None):
    annotation = Annotation()
    annotation[Segment(0, 1)] = "walk"
    if track is None:
        annotation[Segment(0, second_end)] = "wave"
    else:
        annotation[Segment(0, second_end), track] = "wave"
    return sorted(label for _, _, label in annotation.itertracks(yield_label=True))


print("equal segments:", labels(1.0), "; one 1 ms longer:", labels(1.001), "; with a track:", labels(1.0, "hand"))
assert labels(1.0) == ["wave"]
assert labels(1.001) == ["walk", "wave"]
assert labels(1.0, "hand") == ["walk", "wave"]
timeline = Timeline([Segment(0, 1), Segment(0, 1)])
print("a Timeline of two equal segments has length", len(timeline))
assert len(timeline) == 1
PYTHON
