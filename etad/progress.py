"""Progress bars: on stderr, and only for what takes more than two seconds."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(
    items: Iterable[Item], what: str, total: int, unit: str, done: int = 0, shown: bool = True
) -> "tqdm[Item]":
    """Wrap ``items`` in a bar.

    Args:
        items: what is iterated.
        what: the bar's title.
        total: number of items, those done earlier included.
        unit: what an item is, singular.
        done: items done earlier, by a run that this one goes on from.
        shown: False for the silent processes of a distributed run.
    """
    # Without a terminal, every update is a line of a log.
    interval = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(
        items,
        desc=what,
        total=total,
        unit=unit,
        initial=done,
        delay=2,
        mininterval=interval,
        disable=not shown,
        file=sys.stderr,
    )
