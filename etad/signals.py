"""How processes end: SIGTERM as Ctrl-C does, and a child with its parent."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM: what cluster schedulers and containers send before they kill."""


def terminate_as_interrupt() -> None:
    """From now on SIGTERM interrupts the main thread as Ctrl-C does: what is done is kept, the rest is tidied up."""
    # Whoever started us may have asked for it to be ignored, as nohup does for SIGHUP.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise)


def end_with_parent() -> None:
    """In a child of multiprocessing: end when the parent is gone, even killed, instead of working on for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        _end_after(lambda: wait([parent.sentinel]))


def end_with_pipe(handle: int) -> None:
    """End when the other end of a pipe is closed, which the system does for a process that is gone."""
    _end_after(lambda: os.read(handle, 1))


def _end_after(event: Callable[[], object]) -> None:
    def watch() -> None:
        event()
        # No clean-up: it may wait for the parent. Half-written files are removed by the next who writes there.
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()


def _raise(_number: int, _frame: FrameType | None) -> None:
    # Once: a second SIGTERM during the tidying up kills.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated
