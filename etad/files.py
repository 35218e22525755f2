"""Writing files so that a reader never sees half of one, and reading JSON and YAML, damaged files included."""

import functools
import gzip
import hashlib
import json
import os
import re
import socket
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etad.errors import ConfigError, DataError, one_line

ABANDONED_S = 24 * 3600.0
"""A temporary file of a process that cannot be looked up is abandoned when nothing was written to it for so long."""
DEEPEST = 100
"""How deeply lists and mappings may lie in each other in a file that people write."""
MOST_VALUES = 1_000_000
"""How many values such a file may hold, what its aliases repeat counted in."""

_TEMPORARY = re.compile(r"\.tmp-([0-9a-f]{12})-(\d+)-(\d+)-")
"""Machine, process and its start, of a temporary file's owner."""
_tidied: set[tuple[int, Path]] = set()


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and renamed to ``path``.

    On any exception, ``KeyboardInterrupt`` included, the temporary file is removed and ``path`` is left as it was.
    What a process left behind that was killed is removed by the next one that writes to the folder, see
    :func:`remove_leftovers`. Errors name ``path``.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    here = (os.getpid(), folder.absolute())
    if here not in _tidied:
        _tidied.add(here)
        remove_leftovers(folder)
    try:
        # The suffix stays, because writers such as numpy, av and matplotlib choose the format by it.
        handle, name = tempfile.mkstemp(prefix=_owner(), suffix=path.suffix, dir=folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # A failed write knows its file by the temporary name, or not at all; the user knows the other.
        if isinstance(error, OSError) and error.errno is not None and str(error.filename) in ("None", name):
            raise OSError(error.errno, error.strerror, str(path)) from None
        error.args = tuple(text.replace(name, str(path)) if isinstance(text, str) else text for text in error.args)
        raise


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files in a folder whose owners are gone, and return them.

    An owner on this machine is looked up: its number and its start say whether it still runs. One on another machine
    that shares the folder, in another container, or from before a restart, cannot be looked up; its file goes when
    nothing was written to it for a day.
    """
    removed: list[Path] = []
    try:
        entries = [entry for entry in os.scandir(folder) if entry.name.startswith(".tmp-")]
    except OSError:
        return removed
    for entry in entries:
        owner = _TEMPORARY.match(entry.name)
        try:
            if owner is not None and _is_gone(entry, *owner.groups()):
                os.unlink(entry.path)
                removed.append(Path(entry.path))
        except OSError:
            pass  # Another process was faster, or it is another user's.
    return removed


def _is_gone(entry: os.DirEntry[str], machine: str, process: str, start: str) -> bool:
    if machine != _machine():
        return time.time() - entry.stat().st_mtime > ABANDONED_S
    return _start_of(int(process)) != int(start)


def _owner() -> str:
    # Not kept from call to call: a forked process is another owner.
    return f".tmp-{_machine()}-{os.getpid()}-{_start_of(os.getpid())}-"


@functools.cache
def _machine() -> str:
    """Return what tells apart the places in which a process number means one process."""
    try:
        # Numbers begin anew with the system, and in every container.
        place = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:
        place = ""
    return hashlib.sha256(f"{socket.gethostname()} {place}".encode()).hexdigest()[:12]


def _start_of(process: int) -> int | None:
    """Return when a process started, in ticks of the system's clock, or 0 where that is not told; None if none runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass  # It is another user's.
    try:
        # Its name may hold blanks and brackets.
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    # A process that has ended, but whose parent has not asked yet, writes no more.
    return None if state in "ZX" else int(fields[18])


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically (UTF-8)."""
    with replace_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as strict JSON (no NaN), atomically.

    Raises:
        ValueError: ``value`` holds NaN or infinity.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_json(path: Path, pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Return the value in a JSON file, plain or gzipped, with a byte order mark or without.

    Args:
        path: the file.
        pairs_hook: makes an object of its pairs, see :func:`json.loads`.

    Raises:
        DataError: the file cannot be read, or is not JSON; one line.
    """
    return parse_json(path, read_text(path), pairs_hook)


def parse_json(
    path: Path,
    text: str,
    pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
    constant_hook: Callable[[str], Any] | None = None,
) -> Any:
    """Return the value of a JSON text.

    Args:
        path: where it comes from, for the message.
        text: the text.
        pairs_hook: makes an object of its pairs, see :func:`json.loads`.
        constant_hook: makes a value of NaN, Infinity and -Infinity.

    Raises:
        DataError: it is not JSON, or not usable; one line.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs_hook, parse_constant=constant_hook)
        if "\\ud" in text or "\\uD" in text:
            # Half of a pair of code units is no text: it can be neither printed nor written.
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not valid JSON, or cut off, at line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise DataError(f"{path}: not usable, its lists and objects lie too deeply in each other") from None
    except UnicodeEncodeError:
        raise DataError(f"{path}: not usable, it holds half a character (\\ud800 to \\udfff)") from None
    except ValueError:
        # Python refuses to read whole numbers of thousands of digits.
        raise DataError(f"{path}: not usable, it holds a number of thousands of digits") from None
    return value


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, plain or gzipped, without its byte order mark.

    Raises:
        DataError: the file cannot be read, or is not text; one line.
    """
    try:
        raw = path.read_bytes()
        # By the content: an unpacked file may have kept its name.
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file in UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not valid gzip, or cut off ({one_line(str(error))})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError:
        raise DataError(f"{str(path)!r}: no name that a file can have") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds something else than a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
    tree = _yaml(text, str(path))
    if not isinstance(tree, dict):
        problem = "is empty; it must hold a mapping" if tree is None else f"must hold a mapping, not {kind(tree)}"
        raise ConfigError(f"{path}: {problem}")
    for key in tree:
        if not isinstance(key, str):
            raise ConfigError(f"{path}: the key {one_line(str(key), 60)} must be text; put it in quotes")
    return tree


def yaml_value(text: str, source: str) -> Any:
    """Return the value that ``text`` is in YAML.

    Raises:
        ConfigError: it is not YAML; the message begins with ``source``.
    """
    return _yaml(text, one_line(source, 200), is_file=False)


def _yaml(text: str, source: str, is_file: bool = True) -> Any:
    import yaml  # slow to import, and most of who writes files reads no YAML

    try:
        value = yaml.load(text, _loader())
    except yaml.YAMLError as error:
        if not is_file:
            raise ConfigError(
                f"{source}: the value is not valid YAML; text with special characters goes in quotes"
            ) from None
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise ConfigError(f"{source}{line}: not valid YAML ({one_line(str(problem), 200)})") from None
    except RecursionError:
        raise ConfigError(f"{source}: its lists and mappings lie too deeply in each other") from None
    except Exception as error:  # what a constructor of YAML stumbles over, such as a date 2026-13-45
        reason = one_line(str(error), 100)
        raise ConfigError(f"{source}: holds a value that YAML cannot read ({reason}); text goes in quotes") from None
    _refuse_endless(value, source)
    return value


@functools.cache
def _loader() -> Any:
    """Return YAML's safe loader, but one that refuses a key given twice: of two values, it would take the last."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(
                            problem=f"the key {key.value} is there twice", problem_mark=key.start_mark
                        )
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader


def _refuse_endless(value: Any, source: str) -> None:
    """Refuse what is small as YAML and has no end, or next to none, when it is written out: aliases of aliases."""
    counts: dict[int, int] = {}

    def count(value: Any, depth: int) -> int:
        if not isinstance(value, list | tuple | set | dict):
            return 1
        if depth > DEEPEST:
            raise ConfigError(f"{source}: its lists and mappings lie too deeply in each other")
        if id(value) not in counts:
            inside = (*value, *value.values()) if isinstance(value, dict) else value
            counts[id(value)] = 1 + sum(count(entry, depth + 1) for entry in inside)
        if counts[id(value)] > MOST_VALUES:
            raise ConfigError(f"{source}: holds more than {MOST_VALUES} values, with those that its aliases repeat")
        return counts[id(value)]

    count(value, 0)


def kind(value: Any) -> str:
    """Return the name of a value's type, for an error."""
    return "null" if value is None else type(value).__name__
