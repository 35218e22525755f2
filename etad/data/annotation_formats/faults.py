"""Faults of annotation files, counted by kind: how many, where first, and what to do."""

from dataclasses import dataclass

from etad.errors import one_line


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        what: in the plural, with what was done: "states have a START and no STOP: left out".
        count: how often.
        first: file and row of the first.
        remedy: what the user can do about it; empty where there is nothing to do.
    """

    what: str
    count: int
    first: str
    remedy: str

    def line(self) -> str:
        text = f"{self.count} {self.what} (first: {self.first})" + (f"; {self.remedy}" if self.remedy else "")
        return one_line(text)


class Faults:
    """Counts faults by kind, so that a thousand alike make one line."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, what: str, where: str, remedy: str = "", count: int = 1) -> None:
        """Count a fault; the first ``where`` of its kind is kept."""
        before, first = self._found.get((what, remedy), (0, where))
        self._found[what, remedy] = (before + count, first)

    def all(self) -> tuple[Fault, ...]:
        return tuple(Fault(what, count, first, remedy) for (what, remedy), (count, first) in self._found.items())

    def lines(self) -> list[str]:
        return [fault.line() for fault in self.all()]
