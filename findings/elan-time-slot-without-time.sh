#!/usr/bin/env bash
# An ELAN boundary that was never given a time is None in pympi, and makes an action of minus one second in speach.
# pympi-ling 1.71 and speach 0.1a15.post1, two readers of ELAN's .eaf on the registry.
# One would guess that a reader of annotations gives intervals, or an error. An .eaf may have a TIME_SLOT without
# TIME_VALUE: ELAN writes it between the parts of a subdivided annotation, and the format allows it. pympi gives (1000,
# None) and (None, 4000), and its questions by time (`get_annotation_data_at_time`) then fail for the whole tier; speach
# gives the slot's name "ts2" where a time belongs, durations of -1.0 s and 4.0 s, and no warning. Elsewhere such a slot
# is placed evenly between its neighbours, which would be 2.5 s.
# Why it matters: means and totals of durations come out plausible, and wrong.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pympi-ling==1.71 speach==0.1a15.post1
cd "$folder"
cat > a.eaf <<'XML'
<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>
<TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/>
<TIME_SLOT TIME_SLOT_ID="ts2"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="4000"/>
</TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="action">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>walk</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
<ANNOTATION_VALUE>run</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
</TIER>
<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
XML
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from pympi.Elan import Eaf
from speach import elan

print("pympi-ling", version("pympi-ling"), "speach", version("speach"))
document = Eaf("a.eaf")
by_pympi = document.get_annotation_data_for_tier("action")
print("pympi", by_pympi)
assert by_pympi == [(1000, None, "walk"), (None, 4000, "run")]
try:
    document.get_annotation_data_at_time("action", 1500)
except TypeError as error:
    print("pympi, what is there at 1.5 s:", error)
else:
    raise AssertionError("pympi answers a question by time")

by_speach = [(str(a.from_ts), str(a.to_ts), a.text, a.duration) for tier in elan.read_eaf("a.eaf") for a in tier]
print("speach", by_speach)
assert by_speach == [("00:00:01.000", "ts2", "walk", -1.0), ("ts2", "00:00:04.000", "run", 4.0)]
PYTHON
