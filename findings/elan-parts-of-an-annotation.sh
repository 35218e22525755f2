#!/usr/bin/env bash
# Three words that divide a sentence of ELAN each last as long as the whole sentence in pympi and in speach.
# pympi-ling 1.71 and speach 0.1a15.post1, two readers of ELAN's .eaf on the registry.
# One would guess that the words of a tier of type "Symbolic_Subdivision" follow each other, as ELAN draws and exports
# them: equal parts of the sentence that they divide. The file has no times for them, only what they refer to and which
# one comes before. Both readers give each word the sentence's whole time, as they do for a tier of type
# "Symbolic_Association", where that is right.
# Why it matters: three actions of 1 s become three of 3 s that lie over one another, and no warning tells.
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
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="4000"/>
</TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="text" TIER_ID="sentence">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>walk run jump</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
</TIER>
<TIER LINGUISTIC_TYPE_REF="parts" PARENT_REF="sentence" TIER_ID="words">
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a2" ANNOTATION_REF="a1">
<ANNOTATION_VALUE>walk</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1" PREVIOUS_ANNOTATION="a2">
<ANNOTATION_VALUE>run</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a4" ANNOTATION_REF="a1" PREVIOUS_ANNOTATION="a3">
<ANNOTATION_VALUE>jump</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
</TIER>
<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="text" TIME_ALIGNABLE="true"/>
<LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Subdivision" GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="parts"
 TIME_ALIGNABLE="false"/>
<CONSTRAINT DESCRIPTION="" STEREOTYPE="Symbolic_Subdivision"/>
</ANNOTATION_DOCUMENT>
XML
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from pympi.Elan import Eaf
from speach import elan

print("pympi-ling", version("pympi-ling"), "speach", version("speach"))
words = [found[:3] for found in Eaf("a.eaf").get_annotation_data_for_tier("words")]
print("pympi", words)
tier = next(tier for tier in elan.read_eaf("a.eaf") if tier.name == "words")
by_speach = [(str(a.from_ts), str(a.to_ts), a.text) for a in tier]
print("speach", by_speach)
assert by_speach == [("00:00:01.000", "00:00:04.000", word) for word in ("walk", "run", "jump")]
assert words == [(1000, 4000, "walk"), (1000, 4000, "run"), (1000, 4000, "jump")]
PYTHON
