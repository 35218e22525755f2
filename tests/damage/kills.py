"""Killing commands at random moments: nothing is half-written, the same command again gives what it would have given.

The commands run in forked processes that have loaded torch already, so that a trial takes a second or two.
"""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.cli import main
from etad.data.video_reader import probe
from etad.models.checkpoints import read_checkpoint
from etad.train import CHECKPOINT, LOSSES
from tests.etad.make_videos import write_video
from tests.etad.small_runs import write_small_set

LOADED = ("bench.cli.train", "bench.cli.infer", "bench.cli.prepare", "bench.cli.synth", "etad.train", "etad.infer")
INTERRUPTED = 130

Result = dict[str, str]
"""From what a command made to a fingerprint of it."""


@dataclass(frozen=True)
class Command:
    """A command to kill.

    Attributes:
        name: of the command.
        begin: prepares a folder for it.
        arguments: of ``etad-bench``, in that folder.
        result: what it made there, complete or not. Everything in it has to be as an undisturbed command makes it.
        grows: whether what it made changes until it ends, so that only the end compares.
    """

    name: str
    begin: Callable[[Path], object]
    arguments: Sequence[str]
    result: Callable[[Path], Result]
    grows: bool = False


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(*patterns: str) -> Callable[[Path], Result]:
    return lambda folder: {
        str(path.relative_to(folder)): _hash(path.read_bytes())
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
        if not path.name.startswith(".")
    }


def _trained(folder: Path) -> Result:
    run = folder / "run"
    if not (run / CHECKPOINT).exists():
        return {}
    # A checkpoint also tells how long it took; its weights are what counts.
    state = read_checkpoint(run / CHECKPOINT)["state_dict"]
    weights = b"".join(value.contiguous().numpy().tobytes() for value in state.values())
    return {"weights": _hash(weights), "losses": _hash((run / LOSSES).read_bytes())}


def _small_run(folder: Path) -> None:
    write_small_set(folder, videos=8)


def _small_trained_run(folder: Path) -> None:
    _small_run(folder)
    if run(["train", "-c", "config.yaml", "-o", "run", "--set", "train.epochs=1"], folder):
        raise RuntimeError("the small run cannot be trained")


SWEEP = """
name: small
config: config.yaml
seeds: 2
settings: {train.epochs: 1}
parts: {a: {suite: accuracy}}
"""


def _small_sweep(folder: Path) -> None:
    _small_run(folder)
    (folder / "sweep.yaml").write_text(SWEEP)


def _scores(folder: Path) -> Result:
    return {
        path.name: json.dumps(json.loads(path.read_bytes())["metrics"]["average_mAP"]["value"])
        for path in sorted(folder.glob("out/results/*/accuracy/*.json"))
        if not path.name.startswith(".")
    }


def _videos(folder: Path) -> None:
    (folder / "source").mkdir()
    for number in range(4):
        write_video(folder / "source" / f"{number}.mp4", frames=40, size=(96, 64), title=str(number))


def _annotated(folder: Path) -> None:
    _small_run(folder)
    (folder / "given.json").write_bytes((folder / "annotations.json").read_bytes())


def _prepared(folder: Path) -> Result:
    # Not the bytes: what an encoder makes may depend on the CPU's instructions.
    return {path.name: str(probe(path)) for path in sorted(folder.glob("target/*.mp4")) if path.name[0] != "."}


TRAIN = ("train", "-c", "config.yaml", "-o", "run", "--set", "train.epochs=5")
PREPARE = ("prepare", "source", "target", "--short-side", "64", "--workers", "1")
SYNTH = ("synth", "target", "--videos", "3", "--size", "48", "--workers", "1")
FEATURES = ("synth", "target", "--features", "--annotations", "given.json", "--set", "data.pattern={id}.npy")

COMMANDS = (
    Command("train", _small_run, TRAIN, _trained, grows=True),
    Command("infer", _small_trained_run, ("infer", "--run", "run"), _files("run/predictions.json")),
    Command("prepare", _videos, PREPARE, _prepared),
    Command("synth", lambda folder: None, SYNTH, _files("target/videos/*.mp4", "target/annotations.json")),
    Command("synth --features", _annotated, FEATURES, _files("target/**/*.npy", "target/*.json")),
    Command("sweep", _small_sweep, ("sweep", "sweep.yaml", "-o", "out"), _scores, grows=True),
)
"""The last one starts processes of its own, which load torch anew: it is left out of the short form."""


def _in_child(arguments: Sequence[str], folder: Path) -> None:
    os.chdir(folder)
    with Path(folder, "..", f"{folder.name}.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    torch.set_num_threads(1)
    sys.argv = ["etad-bench", *arguments]
    main(list(arguments))


def run(
    arguments: Sequence[str], folder: Path, after_s: float | None = None, number: int = signal.SIGKILL
) -> int | None:
    """Run a command in a folder; after some time, send it a signal. Return its exit code, below 0 for a signal."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    child = context.Process(target=_in_child, args=(list(arguments), folder))
    child.start()
    child.join(after_s)
    if child.exitcode is None:
        assert child.pid is not None
        os.kill(child.pid, number)
    child.join()
    return child.exitcode


def kill(command: Command, kills: int, seed: int) -> Iterator[str]:
    """Kill a command so often, by SIGKILL and SIGTERM in turn, and yield what is not as it should be."""
    rng = random.Random(f"{seed} {command.name}")
    with tempfile.TemporaryDirectory() as temporary:
        start = Path(temporary, "start")
        start.mkdir()
        command.begin(start)
        whole = Path(temporary, "whole")
        shutil.copytree(start, whole)
        begun = time.monotonic()
        if code := run(command.arguments, whole):
            yield f"{command.name}: undisturbed, exit code {code}: {_log(whole)}"
            return
        took_s = time.monotonic() - begun
        expected = command.result(whole)
        assert expected, "nothing to compare with"
        for trial in range(kills):
            number = (signal.SIGKILL, signal.SIGTERM)[trial % 2]
            after_s = rng.uniform(0.0, took_s)
            folder = Path(temporary, f"trial{trial}")
            shutil.copytree(start, folder)
            for problem in _killed(command, folder, after_s, number, expected):
                yield f"{command.name}, {number.name} after {after_s:.2f} of {took_s:.2f} s: {problem}"


def _killed(command: Command, folder: Path, after_s: float, number: signal.Signals, expected: Result) -> Iterator[str]:
    code = run(command.arguments, folder, after_s, number)
    if number is signal.SIGTERM:
        # Before the command has begun to listen, SIGTERM kills.
        if code not in (0, INTERRUPTED, -signal.SIGTERM):
            yield f"exit code {code}: {_log(folder)}"
        if code == INTERRUPTED and (left := _temporary(folder)):
            yield f"left {left} although it could tidy up"
    made = command.result(folder)
    if not command.grows and (half := [name for name in made if made[name] != expected.get(name)]):
        yield f"half-written: {half}"
    if code := run(command.arguments, folder):
        yield f"exit code {code} when run again: {_log(folder)}"
    elif command.result(folder) != expected:
        yield "another result when run again"
    if left := _temporary(folder):
        yield f"temporary files left: {left}"


def _temporary(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob(".*")]


def _log(folder: Path) -> str:
    log = folder.with_name(f"{folder.name}.log")
    return json.dumps(log.read_text(errors="replace")[-400:]) if log.exists() else ""
