"""Dividing videos into those to train on and those to test on."""

import random
from collections.abc import Collection, Mapping

from etad.errors import NothingToDoError

TRAINING, VALIDATION = "training", "validation"
_DRAWS = 200


def split_videos(classes_of: Mapping[str, Collection[str]], fraction: float, seed: int) -> dict[str, str]:
    """Return the subset of each video, the same for the same ids, fraction and seed.

    Of 200 random divisions the first is taken that leaves the fewest classes without a video in one of the two parts;
    a class that occurs in one video only has to lack somewhere, and does not count.

    Args:
        classes_of: video id -> the classes that occur in it.
        fraction: of the videos to train on.
        seed: of the draws.

    Raises:
        NothingToDoError: one of the parts would be empty.
    """
    ids = sorted(classes_of)
    training = round(fraction * len(ids))
    if not 0 < training < len(ids):
        empty = TRAINING if training == 0 else VALIDATION
        raise NothingToDoError(
            f"--split {fraction:g} of {len(ids)} videos leaves {empty} empty; "
            + ("choose another fraction" if len(ids) > 1 else "there must be two videos at least")
        )
    videos = {label: 0 for labels in classes_of.values() for label in labels}
    for labels in classes_of.values():
        for label in set(labels):
            videos[label] += 1
    divisible = {label for label, count in videos.items() if count > 1}
    generator = random.Random(seed)
    best: set[str] = set()
    fewest = len(divisible) + 1
    for _ in range(_DRAWS):
        chosen = set(generator.sample(ids, training))
        parts = [{label for one in part for label in classes_of[one]} for part in (chosen, set(ids) - chosen)]
        lacking = sum(label not in part for part in parts for label in divisible)
        if lacking < fewest:
            best, fewest = chosen, lacking
        if fewest == 0:
            break
    return {video_id: TRAINING if video_id in best else VALIDATION for video_id in ids}
