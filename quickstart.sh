#!/usr/bin/env bash
# Set up, predict the published model's memory on several GPUs, render a small set of videos, and measure memory, time and
# accuracy on it; the result is one HTML page. Needs Python 3.11 and pip.
# Usage: ./quickstart.sh [FOLDER], default quickstart. What is finished is kept: the same command goes on from there.
set -euo pipefail
project="$(cd "$(dirname "$0")" && pwd)"
folder="${1:-quickstart}"
environment="${VENV:-$project/.venv}"
[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check -e "$project"
etad_bench="$environment/bin/etad-bench"
"$etad_bench" sweep quickstart --part gpus --out "$folder" --rerun failed
"$etad_bench" synth "$folder/data"
"$etad_bench" sweep quickstart --part memory --part time --part accuracy --out "$folder" --rerun failed \
    --set data.root="$folder/data"
"$etad_bench" report "$folder/results" --output "$folder/report.html"
