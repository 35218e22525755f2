"""The names of the classes: those that weights were trained for against those that the data has.

Class numbers mean nothing without their names, and the names are the training's: a checkpoint keeps them. Data that
was labelled otherwise since, or another data set, would have detections under wrong names.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from etad.errors import DataError

NAMES_SHOWN = 3


def check_classes(trained: Sequence[str], annotated: Sequence[str], weights: Path, annotations: Path) -> None:
    """Refuse data whose classes are not those that weights were trained for; their order does not matter.

    Args:
        trained: what the weights were trained for.
        annotated: what the data's training subsets have; empty where it has none, and nothing is compared.
        weights: the file of weights.
        annotations: the file of annotations.

    Raises:
        DataError: they differ; the message names what either side alone has.
    """
    if annotated and (difference := classes_differ(trained, annotated)):
        raise DataError(
            f"{weights}: was trained for other classes than {annotations} has ({difference}); give the annotations it "
            "was trained with, or list its classes in data.classes"
        )


def classes_differ(trained: Collection[str], annotated: Collection[str]) -> str:
    """Return what tells two sets of class names apart, in words; empty where they are the same."""
    gone = [name for name in trained if name not in set(annotated)]
    new = [name for name in annotated if name not in set(trained)]
    parts = [
        *([f"only the weights know {_listed(gone)}"] if gone else []),
        *([f"only the annotations have {_listed(new)}"] if new else []),
    ]
    hint = [f"renamed since, from {gone[0]} to {new[0]}?"] if len(gone) == len(new) == 1 else []
    if len(gone) == len(new) > 1:
        hint = [f"{len(gone)} renamed since?"]
    return "; ".join([*parts, *hint])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
