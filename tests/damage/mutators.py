"""Kinds of damage: from the bytes of a valid file, and a seeded generator, to other bytes."""

import bz2
import gzip
import io
import json
import pickle
import random
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Mutator = Callable[[bytes, random.Random], bytes]

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**400, 1.5, float("nan"), float("inf"), "", "x", "a\0b", "\ud800", "1e999", "x" * 5000),
    *([], [None], [[]], [1, "x"], {}, {"a": None}, {"": {"": []}}),
)
"""Values that stand where another kind is expected."""


def _cut(part: float) -> Mutator:
    return lambda content, _: content[: int(len(content) * part)]


def _zeroed(part: float, fill: bytes = b"\0") -> Mutator:
    def zero(content: bytes, _: random.Random) -> bytes:
        start, length = int(len(content) * part), max(1, min(512, len(content) // 8))
        return content[:start] + fill * length + content[start + length :]

    return zero


def _flipped(bits: int, low: float = 0.0, high: float = 1.0) -> Mutator:
    def flip(content: bytes, rng: random.Random) -> bytes:
        damaged = bytearray(content)
        for _ in range(bits):
            place = rng.randrange(int(len(content) * low), max(int(len(content) * high), 1))
            damaged[place] ^= 1 << rng.randrange(8)
        return bytes(damaged)

    return flip


def _number(text: str) -> Mutator:
    """Replace one of the numbers in a text."""

    def replace(content: bytes, rng: random.Random) -> bytes:
        found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
        if not found:
            return text.encode() + content
        one = rng.choice(found)
        return content[: one.start()] + text.encode() + content[one.end() :]

    return replace


def _node(change: Callable[[Any, Any, random.Random], None]) -> Mutator:
    """Change one place of a JSON tree; what is no JSON gets a flipped bit instead."""

    def mutate(content: bytes, rng: random.Random) -> bytes:
        try:
            tree = json.loads(content)
        except (ValueError, RecursionError):
            return _flipped(3)(content, rng)
        places = list(_places(tree))
        if places:
            change(*rng.choice(places), rng)
        return json.dumps(tree).encode()

    return mutate


def _places(tree: Any) -> Any:
    """Yield every container with a key or index of it."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


def _set_odd(around: Any, key: Any, rng: random.Random) -> None:
    around[key] = rng.choice(ODD)


def _remove(around: Any, key: Any, _: random.Random) -> None:
    del around[key]


def _rename(around: Any, key: Any, rng: random.Random) -> None:
    if isinstance(around, dict):
        around[rng.choice(["", "x", str(key) + "s", str(key).upper()])] = around.pop(key)
    else:
        around.insert(key, rng.choice(ODD))


def _deepen(around: Any, key: Any, _: random.Random) -> None:
    for _level in range(200):
        around[key] = [around[key]]


def _as_text(around: Any, key: Any, _: random.Random) -> None:
    around[key] = str(around[key])


def _double(around: Any, key: Any, _: random.Random) -> None:
    around[key] = [around[key], around[key]]


def _recoded(encoding: str) -> Mutator:
    def recode(content: bytes, _: random.Random) -> bytes:
        return content.decode("utf-8", errors="replace").replace('"', '"é', 1).encode(encoding, errors="replace")

    return recode


def _npy(header: str, body: bytes = b"\0" * 64, version: bytes = b"\x01\x00") -> Mutator:
    """A file of numpy's whose header says something odd."""
    padded = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    content = b"\x93NUMPY" + version + struct.pack("<H", len(padded)) + padded + body
    return lambda _, __: content


def _npz_of(mutator: Mutator, name: str = "x.npy") -> Mutator:
    def make(content: bytes, rng: random.Random) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, mutator(content, rng))
        return buffer.getvalue()

    return make


def _array(array: Any) -> Mutator:
    def make(_: bytes, __: random.Random) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()

    return make


def _whole(content: bytes) -> Mutator:
    return lambda _, __: content


_HUGE = _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2000000000, 4096), }")

MUTATORS: dict[str, Mutator] = {
    "unharmed": lambda content, _: content,
    "empty": _whole(b""),
    "one byte": lambda content, _: content[:1],
    "cut at a quarter": _cut(0.25),
    "cut at half": _cut(0.5),
    "cut near the end": _cut(0.97),
    "last byte gone": lambda content, _: content[:-1],
    "first byte gone": lambda content, _: content[1:],
    "cut anywhere": lambda content, rng: content[: rng.randrange(max(len(content), 1))],
    "one bit at the head": _flipped(1, 0.0, 0.02),
    "one bit": _flipped(1),
    "one bit at the tail": _flipped(1, 0.95, 1.0),
    "eight bits": _flipped(8),
    "a hundred bits": _flipped(100),
    "zeros at the head": _zeroed(0.0),
    "zeros inside": _zeroed(0.5),
    "zeros at the tail": _zeroed(0.9),
    "ones inside": _zeroed(0.4, b"\xff"),
    "only zeros": lambda content, _: b"\0" * len(content),
    "noise": lambda content, rng: rng.randbytes(len(content)),
    "junk before": lambda content, rng: rng.randbytes(7) + content,
    "junk behind": lambda content, rng: content + rng.randbytes(7),
    "a block gone": lambda content, rng: content[: (at := rng.randrange(max(len(content), 1)))] + content[at + 16 :],
    "a block twice": lambda content, rng: content[: (at := rng.randrange(max(len(content), 1)))] + content[at // 2 :],
    "twice": lambda content, _: content + content,
    "halves swapped": lambda content, _: content[len(content) // 2 :] + content[: len(content) // 2],
    "backwards": lambda content, _: content[::-1],
    "a nul byte": lambda content, _: content[: len(content) // 2] + b"\0" + content[len(content) // 2 :],
    "line ends of Windows": lambda content, _: content.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda content, _: b"\xef\xbb\xbf" + content,
    "UTF-16": _recoded("utf-16"),
    "UTF-32": _recoded("utf-32"),
    "Latin-1": _recoded("latin-1"),
    "gzipped": lambda content, _: gzip.compress(content),
    "gzipped and cut": lambda content, _: gzip.compress(content)[:-7],
    "gzipped with a wrong sum": lambda content, _: gzip.compress(content)[:-8] + b"\0" * 8,
    "compressed otherwise": lambda content, _: bz2.compress(content),
    "in a zip": _npz_of(lambda content, _: content, "file"),
    "text": _whole(b"Not Found\n"),
    "a web page": _whole(b"<!DOCTYPE html>\n<html><body>404</body></html>\n"),
    "a Git LFS pointer": _whole(b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4\n"),
    "a pickle": _whole(pickle.dumps({"a": [1, 2]})),
    "a pickle that runs code": _whole(b"cos\nsystem\n(S'true'\ntR."),
    "JSON: a list": _whole(b"[]"),
    "JSON: an object": _whole(b"{}"),
    "JSON: null": _whole(b"null"),
    "JSON: a number": _whole(b"1e999"),
    "JSON: a text": _whole(b'"x"'),
    "a number of 400 digits": _number("9" * 400),
    "a number of 5000 digits": _number("9" * 5000),
    "NaN": _number("NaN"),
    "Infinity": _number("-Infinity"),
    "a number beyond all": _number("1e999"),
    "a negative number": _number("-7"),
    "a text for a number": _number('"x"'),
    "nothing for a number": _number(""),
    "a list for a number": _number("[1, [2]]"),
    "deep lists": _number("[" * 1100 + "]" * 1100),
    "deep lists without end": _whole(b"[" * 3000),
    "deep objects": _number('{"a":' * 1200 + "1" + "}" * 1200),
    "YAML: an alias in itself": _number("&a [*a]"),
    "YAML: an impossible date": _number("2001-99-99"),
    "YAML: a tag": _number("!!python/object:os.system x"),
    "an odd value": _node(_set_odd),
    "a key gone": _node(_remove),
    "a key renamed": _node(_rename),
    "a value deep inside": _node(_deepen),
    "a value as text": _node(_as_text),
    "a value twice": _node(_double),
    "npy: 29 TiB": _HUGE,
    "npy: a negative shape": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 4), }"),
    "npy: no header": _npy("not a dictionary"),
    "npy: objects": _npy("{'descr': '|O', 'fortran_order': False, 'shape': (4,), }"),
    "npy: fields": _npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }"),
    "npy: of the future": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4), }", version=b"\x09\x00"),
    "npy: text": _array(np.array([["a", "b"]])),
    "npy: complex": _array(np.zeros((4, 4), dtype=np.complex64)),
    "npy: a single number": _array(np.float32(1)),
    "npy: five axes": _array(np.zeros((1, 1, 1, 1, 2), dtype=np.float32)),
    "npy: without rows": _array(np.zeros((0, 6), dtype=np.float32)),
    "npz: 29 TiB": _npz_of(_HUGE),
    "npz: objects": _npz_of(_npy("{'descr': '|O', 'fortran_order': False, 'shape': (4,), }")),
    "npz: no array": _npz_of(_whole(b"x"), "x.txt"),
}
"""The kinds, by name. Each fits any file; for some files it is merely another way of being wrong."""
