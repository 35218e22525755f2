"""The phases of a step, and how others hear of them: a step measures nothing itself."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol


class Phase(StrEnum):
    """The parts of a step, in order."""

    ENCODE = "encode"
    DETECT = "detect"
    UPDATE_DETECTOR = "update_detector"
    BACKPROPAGATE = "backpropagate"
    UPDATE_ENCODER = "update_encoder"


class Listener(Protocol):
    """Is told of every phase of every step."""

    def begin(self, phase: Phase) -> None:
        """The phase is about to begin."""

    def end(self, phase: Phase) -> None:
        """The phase has been issued; on a GPU its kernels may still run."""


@contextmanager
def announced(listeners: Iterable[Listener], phase: Phase) -> Iterator[None]:
    """Tell listeners of a phase around what runs inside."""
    for listener in listeners:
        listener.begin(phase)
    yield
    for listener in listeners:
        listener.end(phase)
