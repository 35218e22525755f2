"""A tiny file of our own making for every format, in the form that the tool writes, and what it holds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

Found = tuple[str, float, float, str]
"""Video, start and end in seconds, class."""


@dataclass(frozen=True)
class Example:
    """A file: its format, name, content, what it holds, and the frame rate that has to be given."""

    format: str
    name: str
    content: str | bytes
    found: tuple[Found, ...]
    fps: float | None = None
    options: Mapping[str, object] = field(default_factory=dict)


def boris_project() -> str:
    state = {"type": "State event", "code": "groom"}
    point = {"type": "Point event", "code": "sneeze"}
    events = [[2.0, "mouse", "groom", "left", ""], [3.0, "", "sneeze", "", ""], [4.5, "mouse", "groom", "left", ""]]
    return json.dumps(
        {
            "project_format_version": "7.0",
            "subjects_conf": {},
            "behaviors_conf": {"0": state, "1": point},
            "observations": {
                "obs 1": {
                    "file": {"1": ["/lab/cage.avi"], "2": []},
                    "type": "MEDIA",
                    "time offset": 0.0,
                    "events": events,
                    "media_info": {"length": {"/lab/cage.avi": 60.0}, "fps": {"/lab/cage.avi": 25.0}},
                }
            },
        }
    )


BORIS_TABULAR = """\
Observation id,obs 1,,,,,,,
,,,,,,,,
Media file(s),,,,,,,,
Player #1,/lab/cage.avi,,,,,,,
Time offset (s),0.0,,,,,,,
,,,,,,,,
Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status
2.000,/lab/cage.avi,60.000,25.0,mouse,groom,,,START
4.500,/lab/cage.avi,60.000,25.0,mouse,groom,,,STOP
"""
BORIS_AGGREGATED = (
    "Observation id\tObservation date\tMedia file\tTotal length\tFPS\tSubject\tBehavior\tModifiers\tBehavior type\t"
    "Start (s)\tStop (s)\tDuration (s)\n"
    "obs 1\t2026-01-01\t/lab/cage.avi\t60.000\t25.0\tNo focal subject\tgroom\t\tSTATE\t2.000\t4.500\t2.500\n"
    "obs 1\t2026-01-01\t/lab/cage.avi\t60.000\t25.0\tNo focal subject\tsneeze\t\tPOINT\t3.000\t3.000\tNA\n"
)
ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="file:///lab/cage%201.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="500"/></HEADER>
<TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="4000"/></TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="lt" TIER_ID="action" PARTICIPANT="anna">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>walk</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
<ANNOTATION_VALUE>run &amp; jump</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER LINGUISTIC_TYPE_REF="sym" PARENT_REF="action" TIER_ID="how">
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1">
<ANNOTATION_VALUE>slowly</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER>
</ANNOTATION_DOCUMENT>
"""
VIA_PROJECT = json.dumps(
    {
        "project": {"pid": "p"},
        "config": {},
        "attribute": {"1": {"aname": "act", "type": 4, "options": {"0": "walk", "1": "no"}}},
        "file": {"1": {"fid": "1", "fname": "cage.mp4", "type": 4, "loc": 1, "src": ""}},
        "view": {"1": {"fid_list": ["1"]}},
        "metadata": {
            "1_a": {"vid": "1", "flg": 0, "z": [1.5, 2.25], "xy": [], "av": {"1": "0"}},
            "1_b": {"vid": "1", "flg": 0, "z": [3.0, 4.0], "xy": [], "av": {"1": "1"}},
            "1_c": {"vid": "1", "flg": 0, "z": [3.0], "xy": [2, 1, 1, 5, 5], "av": {}},
        },
    }
)
VIA_CSV = """\
# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata
"1_a","[""cage.mp4""]",0,"[1.5,2.25]","[]","{""act"":""walk""}"
"""
VIA_CSV_TWO = """\
# CSV_HEADER = metadata_id,file_list,temporal_segment_start,temporal_segment_end,metadata
"1_a","[\\"cage.mp4\\"]",1.5,2.25,"{\\"act\\":\\"walk\\"}"
"""


def label_studio(minimal: bool) -> str:
    region = {"ranges": [{"start": 11, "end": 20}], "timelinelabels": ["walk"]}
    if minimal:
        return json.dumps([{"video": "/data/upload/1/cage.mp4", "id": 1, "videoLabels": [region]}])
    result = [{"id": "r", "type": "timelinelabels", "from_name": "l", "to_name": "video", "value": region}]
    return json.dumps(
        [{"id": 1, "data": {"video": "/data/local-files/?d=lab/cage.mp4"}, "annotations": [{"result": result}]}]
    )


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>task</name><size>50</size></task><source>cage.mp4</source></meta>
<track id="0" label="walk" source="manual">
<box frame="10" outside="0" occluded="0" keyframe="1" xtl="1" ytl="1" xbr="2" ybr="2" z_order="0"></box>
<box frame="20" outside="1" occluded="0" keyframe="1" xtl="1" ytl="1" xbr="2" ybr="2" z_order="0"></box>
<box frame="30" outside="0" occluded="0" keyframe="1" xtl="1" ytl="1" xbr="2" ybr="2" z_order="0"></box>
<box frame="49" outside="0" occluded="0" keyframe="0" xtl="1" ytl="1" xbr="2" ybr="2" z_order="0"></box>
</track></annotations>
"""
CVAT_TAGS = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>cage</name></task></meta>
<image id="3" name="frame_000003" width="4" height="4"><tag label="walk" source="manual"></tag></image>
<image id="4" name="frame_000004" width="4" height="4"><tag label="walk" source="manual"></tag></image>
<image id="7" name="frame_000007" width="4" height="4"><tag label="walk" source="manual"></tag></image>
</annotations>
"""
VIDAT = json.dumps(
    {
        "version": "2.1.0",
        "annotation": {
            "video": {"src": "video/cage.mp4", "fps": 10, "frames": 130, "duration": 13.0},
            "actionAnnotationList": [{"start": 1, "end": 2.5, "action": 1, "object": 0}],
        },
        "config": {"actionLabelData": [{"id": 0, "name": "default"}, {"id": 1, "name": "walk"}]},
    }
)
BENTO = """\
Bento annotation file
Movie file(s):  /lab/cage.mp4

Stimulus name:\x20
Annotation start frame: 1
Annotation stop frame: 300
Annotation framerate: 30.000000

List of channels:
Ch1

List of annotations:
walk

Ch1----------
>walk
Start\t Stop\t Duration\x20
1.5\t2.5\t1.03333333333

"""
BENTO_FRAMES = BENTO.replace("1.5\t2.5\t1.03333333333", "31\t60\t30")
ANVIL = """<?xml version="1.0" encoding="UTF-16"?>
<annotation><head><specification src="spec.xml"/><video src="cage.avi"/></head><body>
<track name="hand" type="primary">
<el index="0" start="1.5" end="2.25"><attribute name="kind">wave</attribute></el></track>
<track name="phase" type="span" ref="hand"><el index="0" start="0" end="0"/></track>
</body></annotation>
"""
FERAL = json.dumps(
    {
        "class_names": {"0": "rest", "1": "walk"},
        "is_multilabel": False,
        "labels": {"cage.mp4": [0] * 5 + [1] * 10},
        "splits": {"train": ["cage.mp4"]},
    }
)
EGO4D = json.dumps(
    {
        "version": "1",
        "videos": [
            {
                "video_uid": "v",
                "split": "val",
                "clips": [
                    {
                        "clip_uid": "clip-1",
                        "video_start_sec": 100.0,
                        "video_end_sec": 580.0,
                        "annotations": [
                            {
                                "annotator_uid": "x",
                                "labels": [
                                    {"start_time": 1.5, "end_time": 2.25, "label": "walk", "primary": True},
                                    {"start_time": 3.0, "end_time": 4.0, "label": "rest", "primary": False},
                                ],
                            }
                        ],
                    }
                ],
            }
        ],
    }
)
EPIC = """\
narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,\
narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes
P01_102_0,P01,P01_102,00:00:01.100,00:00:00.54,00:01:02.23,27,111,take knife,take,0,knife,4,"['knife']","[4]"
"""
CHARADES = """\
id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length
46GP8,HR43,Kitchen,6,7,Yes,"A person, cooking.",food,x,c092 11.90 21.20;c147 0.00 12.60,24.83
"""
ACTIVITYNET = json.dumps(
    {
        "database": {
            "-5ecT": {
                "subset": "validation",
                "duration": 30.0,
                "fps": 25,
                "annotations": [{"segment": [1.5, "2.25"], "label": "walk"}],
            },
            "12345": {"subset": "training", "duration": 10.0, "annotations": []},
        }
    }
)
REST_AND_WALK = (("cage", 0.0, 0.5, "SIL"), ("cage", 0.5, 1.5, "walk"))
WITH_MODIFIERS = (("cage", 2.0, 4.5, "groom|left"),)
WALK = (("cage", 1.5, 2.25, "walk"),)
GROOM = (("cage", 2.0, 4.5, "groom"),)

EXAMPLES = (
    Example("boris", "a.boris", boris_project(), GROOM),
    Example("boris", "a.boris", boris_project(), WITH_MODIFIERS, None, {"label": "behavior+modifiers"}),
    Example("boris", "a.csv", BORIS_TABULAR, GROOM),
    Example("boris", "a.tsv", BORIS_AGGREGATED, GROOM),
    Example("boris", "cage.csv", "time,subject,code,modifier,comment\n2.0,m,groom,,\n4.5,m,groom,,\n", GROOM),
    Example(
        "elan",
        "a.eaf",
        ELAN,
        (("cage 1", 1.5, 3.0, "walk"), ("cage 1", 3.0, 4.5, "run & jump"), ("cage 1", 1.5, 3.0, "slowly")),
    ),
    Example("via", "a.json", VIA_PROJECT, (*WALK, ("cage", 3.0, 4.0, "no"))),
    Example("via", "a.csv", VIA_CSV, WALK),
    Example("via", "a.csv", VIA_CSV_TWO, WALK),
    Example("label-studio", "a.json", label_studio(False), (("cage", 1.0, 2.0, "walk"),), 10),
    Example("label-studio", "a.json", label_studio(True), (("cage", 1.0, 2.0, "walk"),), 10),
    Example("label-studio", "a.json", label_studio(True), (("cage", 1.1, 2.1, "walk"),), 10, {"first_frame": 0}),
    Example("cvat", "a.xml", CVAT, (("cage", 1.0, 2.0, "walk"), ("cage", 3.0, 5.0, "walk")), 10),
    Example("cvat", "a.xml", CVAT_TAGS, (("cage", 0.3, 0.5, "walk"), ("cage", 0.7, 0.8, "walk")), 10),
    Example("vidat", "a.json", VIDAT, (("cage", 1.0, 2.5, "walk"),)),
    Example("bento", "a.annot", BENTO, (("cage", 1.5, 2.53333333333, "walk"),)),
    Example("bento", "a.annot", BENTO_FRAMES, (("cage", 1.0, 2.0, "walk"),)),
    Example("anvil", "a.anvil", ANVIL.encode("utf-16"), (("cage", 1.5, 2.25, "wave"),)),
    Example("frames", "a.json", FERAL, (("cage", 0.0, 0.5, "rest"), ("cage", 0.5, 1.5, "walk")), 10),
    Example(
        "frames", "cage.txt", "SIL\n" * 5 + "walk\n" * 10, (("cage", 0.0, 0.5, "SIL"), ("cage", 0.5, 1.5, "walk")), 10
    ),
    Example(
        "frames", "cage.txt", "1-5 SIL  \n6-15 walk  \n", (("cage", 0.0, 0.5, "SIL"), ("cage", 0.5, 1.5, "walk")), 10
    ),
    Example(
        "frames",
        "cage.csv",
        ",background,walk,no\n0,1,0,0\n1,0,1,1\n2,0,1,0\n",
        (("cage", 0.0, 0.1, "background"), ("cage", 0.1, 0.2, "no"), ("cage", 0.1, 0.3, "walk")),
        10,
    ),
    Example("frames", "cage.csv", "Time;Behaviour\n0.0;\n0.5;walk\n1.0;walk\n1.5;\n", (("cage", 0.5, 1.5, "walk"),)),
    Example("intervals", "cage.csv", "labelId,timestamp,endTimestamp\n# by hand\nwalk,1.5,2.25\n", WALK),
    Example("intervals", "a.csv", "Video;Start (s);Duration (s);Behaviour\ncage.mp4;1,5;0,75;walk\n", WALK),
    Example("intervals", "a.tsv", "file\tstart_ms\tend_ms\tlabel\nC:\\lab\\cage.avi\t1500\t2250\twalk\n", WALK),
    Example("intervals", "a.csv", "video,start_frame,end_frame,class\ncage,15,22.5,walk\n", WALK, 10),
    Example("intervals", "a.csv", "video,start,end,label\ncage,00:01.5,00:00:02.25,walk\n", WALK),
    Example("intervals", "a.csv", "video,start,end,label\ncage,1500,2250,walk\n", WALK, None, {"time_unit": "ms"}),
    Example("intervals", "a.json", '[{"video": "cage.mov", "label": "walk", "start": "00:01.5", "end": 2.25}]', WALK),
    Example(
        "thumos",
        "Diving_val.txt",
        "video_validation_0000051  1.5 2.25\n",
        (("video_validation_0000051", 1.5, 2.25, "Diving"),),
    ),
    Example("activitynet", "a.json", ACTIVITYNET, (("-5ecT", 1.5, 2.25, "walk"),)),
    Example("ego4d", "a.json", EGO4D, (("clip-1", 1.5, 2.25, "walk"), ("clip-1", 3.0, 4.0, "rest"))),
    Example("ego4d", "a.json", EGO4D, (("clip-1", 1.5, 2.25, "walk"),), None, {"primary_only": True}),
    Example("epic", "a.csv", EPIC, (("P01_102", 0.54, 62.23, "0"),)),
    Example("epic", "a.csv", EPIC, (("P01_102", 0.54, 62.23, "0,4"),), None, {"label": "action"}),
    Example("charades", "a.csv", CHARADES, (("46GP8", 11.9, 21.2, "c092"), ("46GP8", 0.0, 12.6, "c147"))),
)
