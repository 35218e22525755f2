"""``etad-bench prepare``: re-encode videos to the published models' input."""

import json
from pathlib import Path

import click

from bench.cli import FAILED


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--fps",
    type=click.FloatRange(min=0.0, min_open=True),
    default=15.0,
    show_default=True,
    help="Frames per second; frames are repeated or dropped by their timestamps.",
)
@click.option(
    "--short-side", type=click.IntRange(min=2), default=256, show_default=True, help="Pixels of the shorter side."
)
@click.option("--workers", type=click.IntRange(min=0), default=None, help="Encoding processes.  [default: all CPUs]")
@click.option("--overwrite", is_flag=True, help="Encode finished videos again.")
@click.pass_context
def prepare(
    context: click.Context,
    source: Path,
    target: Path,
    fps: float,
    short_side: int,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Re-encode the videos of SOURCE (a folder or a file) into the folder TARGET.

    Each becomes TARGET/<name>.mp4: H.264, constant frame rate, no sound, checked by decoding it. Run the same command
    again to go on after an interruption. TARGET/prepare.json, which is also printed, lists what was done, skipped and
    failed; exit code 3 means that some videos failed.
    """
    # torch is slow to import, and --help does not need it.
    from etad.data import prepare as preparation

    report = preparation.prepare(
        source,
        target,
        fps=fps,
        short_side=short_side,
        workers=workers,
        overwrite=overwrite,
        progress=True,
    )
    done, skipped, failed = len(report.done), len(report.skipped), len(report.failed)
    click.echo(f"{done} videos encoded, {skipped} already finished, {failed} failed: {target}", err=True)
    click.echo(json.dumps(report.as_dict(), indent=1))
    if report.failed:
        context.exit(FAILED)
