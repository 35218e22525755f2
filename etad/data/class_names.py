"""Names of classes that a person may take for one another, or YAML for something else."""

import re
from collections.abc import Iterable, Iterator
from itertools import combinations

_LEAST_LETTERS = 6


def alike(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of names that differ in case, blanks and signs only, in a plural s, or in a single letter.

    Names of fewer than six letters count as alike only if they differ in case, blanks and signs: a letter makes another
    word of a short one.
    """
    listed = sorted(set(names))
    bare = {name: re.sub(r"[\W_]+", "", name.casefold()) for name in listed}
    for one, other in combinations(listed, 2):
        first, second = bare[one], bare[other]
        if first == second:
            # Names without a letter or digit are told apart by nothing else.
            if first:
                yield one, other
        elif min(len(first), len(second)) >= _LEAST_LETTERS and _one_letter_apart(first, second):
            yield one, other


def _one_letter_apart(one: str, other: str) -> bool:
    if any(letter.isdigit() for letter in one + other) or abs(len(one) - len(other)) > 1:
        # jump2 and jump3 are meant to be two.
        return False
    short, long = sorted((one, other), key=len)
    same = 0
    while same < len(short) and short[same] == long[same]:
        same += 1
    if len(short) == len(long):
        return short[same + 1 :] == long[same + 1 :]
    return short[same:] == long[same + 1 :]


def misread_by_yaml(names: Iterable[str]) -> list[str]:
    """Return the names that YAML reads as something else than text where they stand without quotes."""
    import yaml  # slow to import

    found = []
    for name in names:
        try:
            value = yaml.safe_load(name)
        except (yaml.YAMLError, ValueError):
            value = None
        # YAML 1.2 and other readers take 1e5 for a number; PyYAML does not.
        if value != name or re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", name):
            found.append(name)
    return found
