"""Files are whole or absent; what a killed writer leaves goes; a damaged file is one line that names it."""

import errno
import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etad.errors import ConfigError, DataError
from etad.files import ABANDONED_S, read_json, read_yaml, remove_leftovers, replace_atomically, write_text, yaml_value

WRITER = """
import sys, time
from pathlib import Path
from etad.files import replace_atomically
with replace_atomically(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def _begin_writing(target: Path) -> "subprocess.Popen[bytes]":
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    return writer


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    killed, living = _begin_writing(tmp_path / "killed.txt"), _begin_writing(tmp_path / "living.txt")
    killed.kill()
    killed.wait()
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "mine.txt", "whole")
    (left,) = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert left.read_text() == "half"
    living.kill()
    living.wait()
    assert remove_leftovers(tmp_path) == [left]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_reused_process_number_does_not_keep_a_file(tmp_path: Path) -> None:
    with replace_atomically(tmp_path / "a.txt") as temporary:
        owner, _, rest = temporary.name.rpartition(f"-{os.getpid()}-")
        # The same number, of a process that began at another time.
        earlier = tmp_path / f"{owner}-{os.getpid()}-1-{rest.split('-', 1)[1]}"
        earlier.touch()
        assert remove_leftovers(tmp_path) == [earlier]
        assert temporary.exists()


def test_a_file_of_another_machine_goes_when_nobody_wrote_to_it_for_a_day(tmp_path: Path) -> None:
    other = tmp_path / ".tmp-0123456789ab-1-1-x.pt"
    other.touch()
    assert remove_leftovers(tmp_path) == []
    then = time.time() - ABANDONED_S - 60
    os.utime(other, (then, then))
    assert remove_leftovers(tmp_path) == [other]
    # Hidden files of others are none of ours.
    (tmp_path / ".tmp-notes").touch()
    assert remove_leftovers(tmp_path) == []
    assert remove_leftovers(tmp_path / "absent") == []


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint.pt"
    target.mkdir()
    with pytest.raises(OSError, match="Is a directory") as caught:
        write_text(target, "x")
    assert caught.value.filename == str(target)
    with pytest.raises(RuntimeError) as other, replace_atomically(tmp_path / "b.pt") as temporary:
        raise RuntimeError(f"archive {temporary} cannot be opened")
    assert str(other.value) == f"archive {tmp_path / 'b.pt'} cannot be opened"
    with pytest.raises(OSError, match="No space") as full, replace_atomically(tmp_path / "c.pt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(tmp_path / "c.pt")
    assert list(tmp_path.iterdir()) == [target]


def test_json_is_read_plain_or_gzipped_with_a_mark_or_without(tmp_path: Path) -> None:
    for content in (b'{"a": 1}', b'\xef\xbb\xbf{"a": 1}', gzip.compress(b'{"a": 1}')):
        (tmp_path / "a.json").write_bytes(content)
        assert read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"a": ', ": not valid JSON, or cut off, at line 1: "),
        (b'{"a": "\xff"}', ": not a text file in UTF-8"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "thousands of digits"),
        (b"[" * 100_000, "too deeply"),
        (gzip.compress(b"{}" * 1000)[:-9], "not valid gzip"),
    ],
)
def test_damaged_json_is_one_line(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_json(path)
    assert str(caught.value).startswith(str(path))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


BOMB = "a: &a [x]\n" + "\n".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 20)}]" for old, new in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 2001-99-99", "a value that YAML cannot read"),
        ("a: !!timestamp x", "a value that YAML cannot read"),
        ("a: 1" + "0" * 5000, "a value that YAML cannot read"),
        ("a: " + "[" * 3000, "too deeply"),
        ("a: &a [*a]", "too deeply"),
        (BOMB, "more than 1000000 values"),
        ("a: !!python/name:os.system", "not valid YAML"),
        ("a: 1\nb: 2\na: 3", ", line 3: not valid YAML (the key a is there twice)"),
        ("1: a", "the key 1 must be text"),
        ("a: \0", "not valid YAML"),
    ],
)
def test_damaged_yaml_is_one_line(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_merged_mapping_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &base {x: 1, y: 2}\nchild: {<<: *base, y: 3}\n", encoding="utf-8")
    assert read_yaml(path)["child"] == {"x": 1, "y": 3}


def test_a_value_that_is_not_yaml_says_so_in_one_short_line() -> None:
    with pytest.raises(ConfigError) as caught:
        yaml_value("[" * 9000, "--set a=" + "[" * 9000)
    assert len(str(caught.value)) < 400
