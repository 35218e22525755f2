"""How far a sweep is: a live table where stderr is a terminal, otherwise a line for every cell."""

import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench.records.record import Record
from bench.report.terminal.sweep import headline
from bench.sweep.cells import SweepCell

SHOWN_DONE = 6
"""Finished cells that the live table keeps in view."""


class Display:
    """Tells, on stderr, which cells run and how they ended. A context manager."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        """Show nothing yet; ``total`` is the number of cells to run."""
        self._total = total
        self._console = console or Console(stderr=True, highlight=False)
        self._begun_s = time.monotonic()
        self._running: dict[str, tuple[SweepCell, float]] = {}
        self._done: list[Text] = []
        self._statuses: Counter[str] = Counter()
        self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        """Start the live table, on a terminal."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the live table."""
        self._live.stop()

    def begin(self, cell: SweepCell) -> None:
        """See bench.sweep.run.CellListener."""
        self._running[cell.cell_id] = (cell, time.monotonic())

    def end(self, cell: SweepCell, record: Record) -> None:
        """See bench.sweep.run.CellListener."""
        self._running.pop(cell.cell_id, None)
        self._statuses[record.status] += 1
        colour = "green" if record.succeeded else "yellow" if record.status in ("oom", "skipped") else "red"
        line = Text(f"[{self._statuses.total()}/{self._total}] ", overflow="ellipsis", no_wrap=True)
        line.append(record.status, style=colour)
        line.append(f"  {cell.label}  {headline(record)}  ({duration(record.duration_s)})")
        if self._console.is_terminal:
            self._done.append(line)
        else:
            self._console.print(line.plain, soft_wrap=True, markup=False)

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for cell, since in list(self._running.values()):
            table.add_row("running", cell.label, duration(now - since))
        counts = ", ".join(f"{count} {status}" for status, count in sorted(self._statuses.items())) or "none yet"
        elapsed = now - self._begun_s
        foot = f"{self._statuses.total()} of {self._total} cells done ({counts}), {duration(elapsed)} so far"
        if 0 < self._statuses.total() < self._total:
            left = elapsed / self._statuses.total() * (self._total - self._statuses.total())
            foot += f", about {duration(left)} left"
        return Group(*self._done[-SHOWN_DONE:], table, Text(foot))


def duration(seconds: float) -> str:
    """Return a time as "4 s", "3 min 20 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
