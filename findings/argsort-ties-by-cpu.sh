#!/usr/bin/env bash
# numpy's default argsort orders equal values differently on CPUs with AVX-512, with AVX2 and without.
# numpy 2.4.6 on x86-64; the script hides instructions from it by NPY_DISABLE_CPU_FEATURES, and needs a CPU with AVX-512.
# One would guess that an unstable sort is at least the same everywhere for one version of the library. The choice of
# the sorting network is made at run time.
# Why it matters: ActivityNet's evaluator, and those made from it, rank detections by `scores.argsort()[::-1]`. Where
# scores repeat, as they do when a file keeps a few digits, the same file has another average precision on another
# machine. Only `kind="stable"` is the same everywhere.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
cat > "$folder/rank.py" <<'PYTHON'
import numpy as np

random = np.random.default_rng(0)
scores = random.random(1000).round(2)  # as files with two digits have them
right = random.random(1000) < scores


def average_precision(order):
    hits = right[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return precision[hits].mean()


print(np.__version__, *(f"{average_precision(scores.argsort(kind=kind)[::-1]):.6f}" for kind in (None, "stable")))
PYTHON
run() {
    NPY_DISABLE_CPU_FEATURES="$1" "$folder/venv/bin/python" -W ignore "$folder/rank.py"
}
all="$(run "")"
without_avx512="$(run "X86_V4 AVX512_ICL AVX512_SPR")"
without_avx2="$(run "X86_V3 X86_V4 AVX512_ICL AVX512_SPR")"
echo "numpy, average precision by the default sort, by the stable one"
printf 'all instructions: %s\nwithout AVX-512:  %s\nwithout AVX2:     %s\n' "$all" "$without_avx512" "$without_avx2"
read -r _ first stable_first <<< "$all"
read -r _ second stable_second <<< "$without_avx512"
read -r _ third stable_third <<< "$without_avx2"
[ "$stable_first" = "$stable_second" ] && [ "$stable_second" = "$stable_third" ]
[ "$first" != "$second" ] && [ "$second" != "$third" ]
