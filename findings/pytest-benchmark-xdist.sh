#!/usr/bin/env bash
# pytest-benchmark's gate passes a benchmark that is ten times slower, if pytest runs with -n.
# pytest 9.2.0, pytest-benchmark 5.3.1, pytest-xdist 3.8.0.
# One would guess that `--benchmark-compare-fail=mean:20%` either compares, or fails because it could not. With xdist's
# `-n` benchmarks are disabled: each body runs once, nothing is timed, the comparison still prints "Comparing against
# benchmarks from: ...", and the exit status is 0. A renamed benchmark passes too, without xdist: there is nothing to
# compare it with, and that its predecessor is gone is not told.
# Why it matters: an `-n auto` in a project's addopts, added to make CI faster, turns the performance gate off and
# leaves it green.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pytest==9.2.0 pytest-benchmark==5.3.1 pytest-xdist==3.8.0
cd "$folder"
run() {
    local status=0
    "$folder/venv/bin/python" -m pytest -q -p no:cacheprovider "$@" >output.txt 2>&1 || status=$?
    echo "exit status $status"
}
write() {
    cat >test_speed.py <<PYTHON
import time


def $1(benchmark):
    benchmark.pedantic(time.sleep, args=($2,), rounds=3)
PYTHON
}
"$folder/venv/bin/pip" freeze 2>/dev/null | grep -i '^pytest'
gate=(--benchmark-compare --benchmark-compare-fail=mean:20%)
write test_step 0.02
run --benchmark-autosave
write test_step 0.2
alone="$(run "${gate[@]}")"
echo "ten times slower, one process: $alone: $(grep -o 'Performance has regressed' output.txt | head -1)"
parallel="$(run -n 2 "${gate[@]}")"
echo "ten times slower, -n 2: $parallel: $(grep -o 'Comparing against benchmarks' output.txt | head -1)"
grep -q 'Benchmarks are automatically disabled' output.txt
write test_other_name 0.2
renamed="$(run "${gate[@]}")"
echo "renamed, one process: $renamed"
[ "$alone" != "exit status 0" ]
[ "$parallel" = "exit status 0" ]
[ "$renamed" = "exit status 0" ]
