"""Damaging the file of every reader in every way, and judging what the user gets."""

import random
import resource
import tempfile
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etad.errors import UserError
from tests.damage.mutators import MUTATORS
from tests.damage.readers import READERS, Reader

ALLOWANCE_BYTES = 3 * 2**30
"""A file of a few kilobytes may take no more memory than this, whatever its header claims."""


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


PLACES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": _loop,
}
"""What may stand at a path instead of a file."""


@dataclass(frozen=True)
class Fault:
    """Something that no user should get."""

    reader: str
    damage: str
    seed: int
    what: str

    def __str__(self) -> str:
        return f"{self.reader}, {self.damage}, seed {self.seed}: {self.what}"


def trials(seeds: Sequence[int], readers: Sequence[Reader] = READERS) -> Iterator[Fault | None]:
    """Read damaged files, and yield for each trial what was wrong; None where nothing was.

    Kinds of damage that draw nothing at random make the same file for every seed; they are tried with the first.
    """
    with tempfile.TemporaryDirectory() as temporary, _little_memory(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, reader in enumerate(readers):
            folder = Path(temporary, str(number))
            folder.mkdir()
            reader.write(folder / reader.name)
            content = (folder / reader.name).read_bytes()
            for place, make in PLACES.items():
                yield _try(reader, place, 0, make, Path(temporary, f"{number} {place}"))
            for damage in MUTATORS:
                seen: set[bytes] = set()
                for seed in seeds:
                    # Its own generator: a trial can be repeated alone.
                    rng = random.Random(zlib.crc32(f"{seed} {damage} {reader.name}".encode()))
                    damaged = MUTATORS[damage](content, rng)
                    if damaged not in seen:
                        seen.add(damaged)
                        where = Path(temporary, f"{number} {damage} {seed}")
                        yield _try(reader, damage, seed, lambda path, damaged=damaged: path.write_bytes(damaged), where)


def summary(found: Sequence[Fault | None]) -> str:
    """Return how many trials there were, and the faults by reader and damage, most frequent first."""
    faults = [fault for fault in found if fault is not None]
    lines = [f"{len(found)} damaged files, {len(faults)} faults"]
    by_reader = Counter((fault.reader, fault.what.split(":")[0]) for fault in faults)
    return "\n".join([*lines, *(f"{count:5} {name}: {what}" for (name, what), count in by_reader.most_common())])


def _try(reader: Reader, damage: str, seed: int, make: Callable[[Path], object], folder: Path) -> Fault | None:
    folder.mkdir()
    path = folder / reader.name
    make(path)
    try:
        reader.read(path)
    except UserError as error:
        what = _complaint(str(error), path)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"[:400]
    else:
        return None
    if what and damage == "unharmed":
        raise AssertionError(f"{reader.name} cannot be read at all: {what}")
    return Fault(reader.name, damage, seed, what) if what else None


def _complaint(message: str, path: Path) -> str:
    if path.name not in message and path.stem not in message:
        return f"names no file: {message}"
    if "\n" in message:
        return f"several lines: {message}"
    if not message.isprintable():
        return f"control characters: {message!r}"
    return f"too long: {message}" if len(message) > 1500 else ""


@contextmanager
def _little_memory() -> Iterator[None]:
    """Limit this process's memory to a little more than it has now, so that a huge allocation fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ALLOWANCE_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
