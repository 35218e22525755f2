#!/usr/bin/env bash
# sed_eval takes an end that is 49 s late on an action of 100 s, and refuses a start that is 0.3 s late.
# sed_eval 0.2.1 with dcase_util 0.2.20, event-based metrics with their usual values (collar 200 ms, half of the
# length).
# One would guess that an event-based score treats the two boundaries alike, or weighs both by the length of the event,
# as temporal IoU does. The start must lie within the collar, however long the event is; the end may be off by the
# collar or by half of the event's length, whichever is more. So (0, 149) against (0, 100), IoU 0.67, is right, and
# (0.3, 100), IoU 0.997, is both a false positive and a miss.
# Why it matters: F values of this tool, quoted for actions in videos too, are about starts. For long actions it hides
# bad ends and punishes starts below an annotator's own accuracy.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sed_eval==0.2.1 dcase_util==0.2.20 setuptools==75.8.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import sed_eval
from dcase_util.containers import MetaDataContainer

print("sed_eval", version("sed_eval"), "dcase_util", version("dcase_util"))


def events(start, end):
    return MetaDataContainer([{"event_label": "jump", "onset": start, "offset": end, "filename": "v"}])


def f_measure(found):
    metrics = sed_eval.sound_event.EventBasedMetrics(
        event_label_list=["jump"], t_collar=0.2, percentage_of_length=0.5
    )
    metrics.evaluate(reference_event_list=events(0.0, 100.0), estimated_event_list=events(*found))
    return metrics.results_overall_metrics()["f_measure"]["f_measure"]


for found, expected in (((0.0, 100.0), 1.0), ((0.0, 149.0), 1.0), ((0.0, 51.0), 1.0), ((0.3, 100.0), 0.0)):
    overlap = (min(found[1], 100.0) - max(found[0], 0.0)) / (max(found[1], 100.0) - min(found[0], 0.0))
    value = f_measure(found)
    print(f"action (0, 100), detection {found}: IoU {overlap:.3f}, F {value:.1f}")
    assert value == expected
PYTHON
