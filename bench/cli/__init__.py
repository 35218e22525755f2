"""The etad-bench command line: one module a command. A command parses, calls and prints. Imports everything.

Nothing slow is imported before a command needs it: ``etad-bench COMMAND --help`` loads no torch.
"""

import importlib
import os
from typing import Any

import click

from etad import __version__
from etad.errors import PeerError, UserError, one_line
from etad.first_failure import MARK
from etad.signals import terminate_as_interrupt

INTERRUPTED = 130
FAILED = 3
LONGEST = 4000
"""Characters of a message: some list files, but none should fill the terminal."""

COMMANDS = {
    "accuracy": "Train, infer and score, and compare with the published figure.",
    "annotations": "Import annotations of labelling tools and data sets, check, count and export them.",
    "baseline": "Keep or check the quantities that are the same on every run.",
    "check": "Check a folder of records: schema, physical sense, provenance.",
    "compare": "Compare two sets of records, and fail if something got worse.",
    "config": "Show a configuration, resolved and checked.",
    "doctor": "Say what disturbs timing on this machine, and how to mend it.",
    "env": "Show what this machine and this process look like.",
    "evaluate": "Score predictions: mAP, average recall, false positives.",
    "export": "Hand records to other programs: CSV, Parquet, MLflow, TensorBoard.",
    "forecast": "Forecast the time of a step on hardware that is not here.",
    "gate": "Judge a change of a git repository: times in turns, and exact quantities.",
    "infer": "Detect actions in a test set, in videos or in a folder of videos.",
    "memory": "Say how much memory a step needs, and what holds it.",
    "merge": "Gather the records of several machines in one folder.",
    "migrate": "Rewrite records of older schema versions.",
    "plan": "List the settings that fit a GPU, or the GPUs that a setting fits.",
    "prepare": "Re-encode videos to 15 frames/s, short side 256.",
    "profile": "Trace a few steps, and list the operators that cost the time.",
    "profiles": "List the known hardware, or measure the present GPU.",
    "published": "Show published figures of this and comparable methods.",
    "report": "Write results as one HTML page, or as Markdown.",
    "sweep": "Measure many cells, each in a process of its own.",
    "synth": "Make a synthetic set: small videos, or features for real annotations.",
    "throughput": "Time training, detection, data or post-processing, and say what bounds it.",
    "train": "Train a detector, from features or from frames.",
    "validate": "Compare predicted with measured memory on the present GPU.",
}
"""Every command with its one-line help; the module of a command is imported when it is used, since torch is slow."""


class _Commands(click.Group):
    """Loads commands lazily and turns a user's mistake into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"bench.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        terminate_as_interrupt()
        try:
            return super().invoke(ctx)
        except PeerError as error:
            # The process that failed has said why.
            ctx.exit(error.exit_code)
        except UserError as error:
            raise _failure(one_line(str(error), LONGEST), error.exit_code) from None
        except KeyboardInterrupt:
            if MARK in os.environ:
                # The launcher of this process says so for all.
                ctx.exit(INTERRUPTED)
            raise _failure(
                "interrupted; what is done is kept, the same command goes on from there", INTERRUPTED
            ) from None
        except BrokenPipeError:
            # The reader of our output has had enough. Python would complain once more when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ctx.exit(0)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise _failure(one_line(f"{where}{error.strerror or error}", LONGEST), FAILED) from None


def _failure(message: str, exit_code: int) -> click.ClickException:
    # click takes the exit code from the class.
    kind = type("Failure", (click.ClickException,), {"exit_code": exit_code})
    failure: click.ClickException = kind(message)
    return failure


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="etad-bench")
def main() -> None:
    """Train, run and measure ETAD, end-to-end temporal action detection.

    Artefacts go to stdout, everything else to stderr. Exit codes: 0 ok, 1 regression found, 2 usage or config,
    3 something failed, 4 not comparable or no baseline, 5 nothing to do, 6 no such device, 130 interrupted.
    """
