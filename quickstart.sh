#!/usr/bin/env bash
# Set up, render a small set of videos, train a detector on it end to end, run it and score it. Needs Python 3.11 and pip.
# Usage: ./quickstart.sh [FOLDER], default quickstart. What is finished is kept: the same command goes on from there.
set -euo pipefail
project="$(cd "$(dirname "$0")" && pwd)"
folder="${1:-quickstart}"
environment="${VENV:-$project/.venv}"
[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check -e "$project"
etad_bench="$environment/bin/etad-bench"
"$etad_bench" synth "$folder/data"
"$etad_bench" train --config quickstart --set data.root="$folder/data" --out "$folder/run"
"$etad_bench" infer --run "$folder/run"
"$etad_bench" evaluate --run "$folder/run"
