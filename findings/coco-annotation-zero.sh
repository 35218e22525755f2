#!/usr/bin/env bash
# In pycocotools the annotation with id 0 can never be found: three perfect detections of three get an AP of 0.44.
# pycocotools 2.0.11, with temporal segments written as boxes [start, 0, length, 1], a common way to a mAP over tIoU.
# One would guess that ids are names, and that numbering from 0 is as good as from 1. The evaluation keeps the id of the
# matched annotation in an array in which 0 means "unmatched". So the detection that matches annotation 0 counts as a
# false positive, and here it is the one with the highest score, so that even recall 1/3 is reached at a bad precision.
# No warning; with ids from 1 the AP is 1.0. One annotation in a whole data set is hit, so with many it only shaves off
# a little.
# Why it matters: converters from interval tables number rows from 0, and a mAP that is slightly too low never looks
# wrong.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11
"$folder/venv/bin/python" -W error - <<'PYTHON'
import contextlib
import io
from importlib.metadata import version

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

print("pycocotools", version("pycocotools"))


def average_precision(first_id):
    boxes = [[10 * n, 0, 5, 1] for n in range(3)]
    common = {"image_id": 1, "category_id": 1}
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 1, "width": 100, "height": 1}],
        "categories": [{"id": 1, "name": "jump"}],
        "annotations": [
            {"id": first_id + n, "bbox": box, "area": 5, "iscrowd": 0, **common} for n, box in enumerate(boxes)
        ],
    }
    truth.createIndex()
    found = truth.loadRes([{"bbox": box, "score": 0.9 - 0.1 * n, **common} for n, box in enumerate(boxes)])
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


silence = io.StringIO()
with contextlib.redirect_stdout(silence):
    from_zero, from_one = average_precision(0), average_precision(1)
print(f"the same perfect detections: ids from 0 give AP {from_zero:.4f}, ids from 1 give AP {from_one:.4f}")
assert from_one == 1.0
assert 0.44 < from_zero < 0.45
PYTHON
