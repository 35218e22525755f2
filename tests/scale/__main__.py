"""``python -m tests.scale``: time and peak memory of commands on sets of growing size.

At scale 1: 5 million detections, a million true actions in 50,000 videos, 20,000 records. Each command runs in its own
process. Where time and memory grow linearly, seconds of the CPU and bytes for an item stay the same or fall.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

VIDEOS, ACTIONS_PER_VIDEO, DETECTIONS_PER_VIDEO, CLASSES, RECORDS = 50_000, 20, 100, 200, 20_000
COMMANDS = {
    "evaluate": "evaluate --predictions submission.json --config config.yaml",
    "check": "check records",
    "report": "report records --output report.html",
    "compare": "compare records records",
    "to_pandas": "",
}
FOUND = 3
"""Exit code of check, which finds that the records of a test are not of a clean commit."""
FRAME = (
    "from pathlib import Path; from bench.records.store import ResultStore; ResultStore(Path('records')).to_pandas()"
)


def write_sets(folder: Path, scale: float, names: Sequence[str]) -> dict[str, int]:
    """Write the sets of a scale into ``folder``, as far as the commands need them; return how many items each reads."""
    from bench.records.store import ResultStore
    from tests.bench.records.test_record import make_record

    rng = np.random.default_rng(0)
    videos, records = max(1, round(VIDEOS * scale)), max(1, round(RECORDS * scale))
    database, results = {}, {}
    for number in range(videos if "evaluate" in names else 0):
        starts, lengths = (
            rng.uniform(0, 500, ACTIONS_PER_VIDEO).round(2),
            rng.uniform(1, 50, ACTIONS_PER_VIDEO).round(2),
        )
        labels = rng.integers(0, CLASSES, ACTIONS_PER_VIDEO).tolist()
        true = [
            {"segment": [start, start + length], "label": f"class {label}"}
            for start, length, label in zip(starts.tolist(), lengths.tolist(), labels, strict=True)
        ]
        database[f"video{number}"] = {"subset": "validation", "duration": 600.0, "annotations": true}
        chosen = rng.integers(0, ACTIONS_PER_VIDEO, DETECTIONS_PER_VIDEO)
        ends = np.sort(np.stack((starts, starts + lengths))[:, chosen] + rng.normal(0, 5, (2, len(chosen))), axis=0)
        scores = rng.random(len(chosen))
        results[f"video{number}"] = [
            {"label": f"class {labels[one]}", "score": score, "segment": segment}
            for one, score, segment in zip(chosen, scores.tolist(), ends.T.tolist(), strict=True)
        ]
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    (folder / "submission.json").write_text(json.dumps({"results": results}))
    data = f"{{root: {folder}, annotations: annotations.json, blocked: []}}"
    (folder / "config.yaml").write_text(f"extends: anet_features\ndata: {data}\n")
    store = ResultStore(folder / "records")
    config = make_record().config
    for number in range(0 if tuple(names) == ("evaluate",) else records):
        store.write(make_record(config={**config, "train": {"seed": number}}))
    return {"evaluate": videos * DETECTIONS_PER_VIDEO} | dict.fromkeys(
        ("check", "report", "compare", "to_pandas"), records
    )


def measure(name: str, folder: Path) -> tuple[float, float, int, int]:
    """Run a command; return its seconds, those of the CPU, its peak resident bytes and the exit code."""
    program = [sys.executable, *(("-m", "bench.cli", *COMMANDS[name].split()) if COMMANDS[name] else ("-c", FRAME))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    begun = time.perf_counter()
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(program, cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, process.returncode


def main() -> None:
    """Print a row for each command and scale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scales", default="0.01,0.1,1", help="parts of the full size, separated by commas")
    parser.add_argument("--only", help="one command", choices=list(COMMANDS))
    options = parser.parse_args()
    columns = ("items", "time [s]", "CPU [s]", "peak [MiB]", "CPU µs/item", "KiB/item", "exit code")
    print(f"{'command':10}" + "".join(f"{column:>13}" for column in columns))
    names = (options.only,) if options.only else tuple(COMMANDS)
    for scale in map(float, options.scales.split(",")):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            # In a process of its own: a child's peak may begin with its parent's.
            child = os.fork()
            if not child:
                items = write_sets(folder, scale, names)
                (folder / "items.json").write_text(json.dumps(items))
                os._exit(0)
            os.waitpid(child, 0)
            items = json.loads((folder / "items.json").read_text())
            for name in names:
                seconds, computed, peak, code = measure(name, folder)
                each = computed / items[name] * 1e6, peak / items[name] / 1024
                numbers = (
                    f"{seconds:.1f}",
                    f"{computed:.1f}",
                    f"{peak / 2**20:.0f}",
                    f"{each[0]:.1f}",
                    f"{each[1]:.2f}",
                )
                print(f"{name:10}" + "".join(f"{text:>13}" for text in (items[name], *numbers, code)), flush=True)
                if code not in (0, FOUND):
                    print((folder / f"{name}.log").read_text()[-500:])


if __name__ == "__main__":
    main()
