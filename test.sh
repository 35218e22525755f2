#!/usr/bin/env bash
# Install the project and its test tools into a virtual environment ($VENV, default .venv), then check and test everything.
set -euo pipefail
cd "$(dirname "$0")"
environment="${VENV:-.venv}"
[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[dev,docs]'
"$environment/bin/ruff" check .
"$environment/bin/ruff" format --check .
"$environment/bin/mypy"
if "$environment/bin/python" -c 'import material, mkdocs_click, mkdocstrings' 2>/dev/null; then
    NO_MKDOCS_2_WARNING=1 "$environment/bin/mkdocs" build --strict --quiet # into site/, which git ignores
else
    echo "documentation: not built, its packages are not installed: pip install -e '.[docs]'"
fi
"$environment/bin/python" -m pytest "$@"
