"""Which true actions are annotated twice, as OpenTAD sees it (opentad/evaluations/builder.py, commit 3dd7b03)."""

import numpy as np

from etad.detections.detections import FloatArray, IntArray

TOLERANCE_S = 1e-3
"""Actions of one label whose starts, and whose ends, differ by no more are one action."""


def without_duplicates(video: IntArray, labels: IntArray, segments_s: FloatArray) -> IntArray:
    """Return which true actions stay: of each that is there several times the first, and none without length.

    Args:
        video: the number of each action's video, ``[G]``.
        labels: its class number, ``[G]``.
        segments_s: ``[G, 2]``.

    Returns:
        kept: ascending, ``[n]``.
    """
    lasting = np.flatnonzero(segments_s[:, 1] - segments_s[:, 0] > 0)
    order = lasting[np.lexsort((segments_s[lasting, 0], labels[lasting], video[lasting]))]
    alike = (video[order][1:] == video[order][:-1]) & (labels[order][1:] == labels[order][:-1])
    alike &= np.diff(segments_s[order, 0]) <= TOLERANCE_S
    # Only actions that such a chain of near starts joins can be alike, and few files have a chain.
    chain = np.concatenate([[0], np.cumsum(~alike)]) if len(order) else np.zeros(0, dtype=np.int64)
    lengths = np.bincount(chain)
    stays = np.ones(len(labels), dtype=np.bool_)
    for members in np.split(order[lengths[chain] > 1], np.cumsum(lengths[lengths > 1])[:-1]):
        members.sort()
        kept: list[list[float]] = []
        # Mostly two or three: plain numbers are compared sooner than an array is made.
        for action, (start_s, end_s) in zip(members.tolist(), segments_s[members].tolist(), strict=True):
            if any(abs(start_s - s) <= TOLERANCE_S and abs(end_s - e) <= TOLERANCE_S for s, e in kept):
                stays[action] = False
            else:
                kept.append([start_s, end_s])
    result: IntArray = np.sort(lasting)[stays[np.sort(lasting)]]
    return result
