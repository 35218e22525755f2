#!/usr/bin/env bash
# Install the project and its test tools into a virtual environment ($VENV, default .venv), then check and test everything.
set -euo pipefail
cd "$(dirname "$0")"
environment="${VENV:-.venv}"
[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[dev]'
"$environment/bin/ruff" check .
"$environment/bin/ruff" format --check .
"$environment/bin/mypy"
"$environment/bin/python" -m pytest "$@"
