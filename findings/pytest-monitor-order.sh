#!/usr/bin/env bash
# pytest-monitor charges a test with the memory that earlier tests left behind.
# pytest-monitor 1.6.6 with pytest 7.4.4.
# One would guess that MEM_USAGE of a test is what that test needed, since it is stored per test and compared between
# sessions. It is the peak of the whole process while the test ran, less what it was when the session began. A test that
# adds two numbers is charged 300 MB after a test that keeps 300 MB in a cache, and a few MB when it runs alone.
# Why it matters: a new test, a changed order or `-k` moves the figures of tests that nobody touched, and the test that
# has the leak does not stand out.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pytest==7.4.4 pytest-monitor==1.6.6
cd "$folder"
cat > test_memory.py <<'PYTHON'
CACHE = []


def test_a_large():
    CACHE.append(bytearray(b"\1") * (300 * 2**20))


def test_b_small():
    assert 1 + 1 == 2
PYTHON
"$folder/venv/bin/python" -m pytest -q -p no:cacheprovider --db all.db >/dev/null
"$folder/venv/bin/python" -m pytest -q -p no:cacheprovider --db alone.db -k small >/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sqlite3
from importlib.metadata import version

print("pytest-monitor", version("pytest-monitor"), "pytest", version("pytest"))


def usage_mb(path):
    with sqlite3.connect(path) as database:
        return dict(database.execute("select ITEM, MEM_USAGE from TEST_METRICS"))


together, alone = usage_mb("all.db"), usage_mb("alone.db")
print("both:", together)
print("alone:", alone)
assert together["test_b_small"] > 290
assert alone["test_b_small"] < 50
PYTHON
