#!/usr/bin/env bash
# boris-clip pairs BORIS events without their modifier: two overlapping bouts of 10 s become two of 5 s, apart.
# boris-clip 0.2.0, which cuts the bouts of a BORIS project out of its videos.
# One would guess that a reader of a .boris project gives the bouts that BORIS shows. A project stores no bouts, only
# moments: a state event's first one starts it and the next one with the same subject, behaviour and modifier stops it.
# Here "groom, left" lasts from 0 to 10 s and "groom, right" from 5 to 15 s. Without the modifier the start of the
# second looks like the end of the first: 0 to 5 s and 10 to 15 s, and the 5 s in which both go on are nobody's. In a
# file without overlap the same reader is right.
# Why it matters: the number of bouts is right and every duration is plausible, so that nothing shows.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check boris-clip==0.2.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version
from pathlib import Path

from boris_clip.parse import parse_boris_file

print("boris-clip", version("boris-clip"))


def bouts(events):
    """The bouts that are read from a project of one observation; events are (time, modifier)."""
    project = {
        "behaviors_conf": {"0": {"type": "State event", "code": "groom", "modifiers": ""}},
        "observations": {
            "one": {
                "file": {"1": ["a.mp4"]},
                "media_info": {"length": {"a.mp4": 60.0}, "fps": {"a.mp4": 25.0}},
                "events": [[time, "mouse", "groom", modifier, ""] for time, modifier in events],
            }
        },
    }
    Path("a.boris").write_text(json.dumps(project))
    return [(bout.start, bout.stop) for bout in parse_boris_file("a.boris")[0].bouts]


overlapping = bouts([(0.0, "left"), (5.0, "right"), (10.0, "left"), (15.0, "right")])
apart = bouts([(0.0, "left"), (4.0, "left"), (5.0, "right"), (15.0, "right")])
print("left 0 to 10, right 5 to 15:", overlapping)
print("left 0 to 4, right 5 to 15:", apart)
assert overlapping == [(0.0, 5.0), (10.0, 15.0)]
assert apart == [(0.0, 4.0), (5.0, 15.0)]
PYTHON
