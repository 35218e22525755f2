"""``etad-bench annotations``: from a labelling tool to annotations, what is odd about them, and back to tools."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bench.cli.options import format_option, note
from etad.data.annotation_formats.registry import FORMATS
from etad.files import write_json

if TYPE_CHECKING:
    from etad.data.annotation_statistics import Statistics

FOUND = 1
"""Exit code of ``check`` where there is a problem."""
EXPORTS = ("intervals", "boris", "boris-events", "elan", "webvtt", "activitynet")

videos_option = click.option(
    "--videos", type=click.Path(path_type=Path, file_okay=False), help="Folder of the videos, for lengths and rates."
)
file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.group()
def annotations() -> None:
    """Import annotations of a labelling tool or a data set, check and count them, and export to other tools."""


@annotations.command("import")
@click.argument("files", nargs=-1, required=True, metavar="[SUBSET=]FILE...")
@click.option(
    "--from",
    "name",
    type=click.Choice(["auto", *FORMATS]),
    default="auto",
    show_default=True,
    help="Format of the files. auto: told by what they hold.",
)
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@videos_option
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), help="Frame rate, where frames are counted.")
@click.option(
    "--time-unit",
    type=click.Choice(["s", "ms", "frames"]),
    help="Unit of the times, where the files name none. Default: s.",
)
@click.option(
    "--first-frame",
    type=click.IntRange(0, 1),
    default=1,
    show_default=True,
    help="Number of a video's first frame in Label Studio.",
)
@click.option(
    "--label", metavar="FIELD", help="Column, attribute or task that names the class, where there are several."
)
@click.option("--tier", "tiers", multiple=True, help="Take this tier, observation or annotator only; repeatable.")
@click.option("--subject", "subjects", multiple=True, help="Take this subject only; repeatable.")
@click.option("--primary-only", is_flag=True, help="Take what Ego4D marks as primary only.")
@click.option(
    "--background",
    multiple=True,
    help="Label that is no class; repeatable. Default: background, Background, BG, bg, SIL.",
)
@click.option("--subset", default="training", show_default=True, help="Subset of videos whose file names none.")
@click.option(
    "--split",
    type=click.FloatRange(0, 1),
    metavar="FRACTION",
    help="Divide the videos at random: this part is for training, the rest for validation.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of --split.")
def import_(
    files: tuple[str, ...],
    name: str,
    output: Path,
    videos: Path | None,
    fps: float | None,
    time_unit: Literal["s", "ms", "frames"] | None,
    first_frame: int,
    label: str | None,
    tiers: tuple[str, ...],
    subjects: tuple[str, ...],
    primary_only: bool,
    background: tuple[str, ...],
    subset: str,
    split: float | None,
    seed: int,
) -> None:
    """Make an annotation file of the files of a labelling tool, or of a data set.

    FILE may be a folder, which stands for the files in it, and SUBSET=FILE names the subset of its videos. What is left
    out and what is odd is counted on stderr, with file, row and remedy; the written file's path goes to stdout.
    """
    from etad.data.annotation_formats.reading import ReadOptions
    from etad.data.annotation_import import BACKGROUND, ImportOptions, import_annotations, named_files

    options = ImportOptions(
        format=name,
        read=ReadOptions(
            fps=fps,
            label=label,
            time_unit=time_unit,
            first_frame=first_frame,
            primary_only=primary_only,
        ),
        videos=videos,
        tiers=tiers,
        subjects=subjects,
        background=background or BACKGROUND,
        subset=subset,
        split=split,
        seed=seed,
    )
    listed = named_files(files)
    imported = import_annotations(listed, options)
    write_json(output, imported.database())
    for problem in imported.problems:
        note(problem)
    counts = f"{len(imported.videos)} videos, {len(imported.intervals)} actions of {len(imported.classes)} classes"
    note(f"{counts}, from {len(listed)} files ({FORMATS[imported.format].title})")
    click.echo(output)


@annotations.command()
@file_argument
@videos_option
@click.option("--config", "-c", help="Config, or the name of a shipped one: its subsets, and its snippets.")
@click.option("--few", type=click.IntRange(min=1), default=10, show_default=True, help="Instances that are few.")
@click.option("--strict", is_flag=True, help="Notes fail, too.")
@format_option
def check(file: Path, videos: Path | None, config: str | None, few: int, strict: bool, form: str) -> None:
    """Say all that is odd about an annotation file, with numbers and the first case of each.

    Exit code 0: no problem. 1: there are problems, which spoil training or scores (with --strict: or notes, which may
    be meant). 2: the file cannot be read.
    """
    from etad.config import load_config
    from etad.data.annotation_check import check_annotations
    from etad.data.annotations import load_annotations
    from etad.data.video_facts import VideoFolder

    experiment = None if config is None else load_config(config)
    folder = None if videos is None else VideoFolder(videos)
    ignored = () if experiment is None else experiment.data.ignored_classes
    found = check_annotations(load_annotations(file, ignored=ignored), folder, experiment, few)
    if form == "json":
        click.echo(json.dumps([one.record() for one in found], indent=1))
    for line in (one.line() for one in found if form == "table"):
        click.echo(line)
    problems = sum(one.severity == "problem" for one in found)
    note(f"{file}: {problems} kinds of problems, {len(found) - problems} kinds of notes")
    if problems or (strict and found):
        raise SystemExit(FOUND)


@annotations.command()
@file_argument
@format_option
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Picture of the durations (png, svg, pdf)."
)
def stats(file: Path, form: str, plot: Path | None) -> None:
    """Count the actions of each class and subset, and say how long they are."""
    from etad.data.annotation_statistics import statistics_of
    from etad.data.annotations import load_annotations

    if plot is not None:
        from bench.report.plots.canvas import check_target

        check_target("--plot", plot)
    loaded = load_annotations(file)
    for problem in loaded.problems:
        note(problem)
    statistics = statistics_of(loaded)
    click.echo(json.dumps(statistics.record(), indent=1) if form == "json" else _table(statistics))
    if plot is not None:
        from bench.report.plots.durations import plot_durations  # matplotlib is slow to import

        plot_durations(statistics, plot)
        note(f"plot: {plot}")


def _table(statistics: "Statistics") -> str:
    from bench.report.terminal.tables import grid

    names = [one.subset for one in statistics.subsets]
    header = ["class", "videos", "actions", *names, "total", "shortest", "median", "longest"]
    rows: list[Sequence[str]] = [header, ["", "", "", *[""] * len(names), *["s"] * 4]]
    for one in [*statistics.classes, statistics.all]:
        ends = (one.durations_s[0], one.median_s, one.durations_s[-1]) if one.durations_s else (None, None, None)
        times = ["-" if value is None else f"{value:.2f}" for value in (one.total_s, *ends)]
        rows.append(
            [one.label, str(one.videos), str(one.actions), *[str(one.by_subset[name]) for name in names], *times]
        )
    by_subset: list[Sequence[str]] = [["subset", "videos", "without actions", "actions", "length", "labelled"]]
    by_subset.append(["", "", "", "", "h", "%"])
    for part in statistics.subsets:
        counts = [str(part.videos), str(part.without_actions), str(part.actions)]
        share = 100 * part.labelled_s / part.duration_s
        by_subset.append([part.subset, *counts, f"{part.duration_s / 3600:.2f}", f"{share:.1f}"])
    tables = (
        grid(rows, "table", [], to_the_right=range(1, len(header))),
        grid(by_subset, "table", [], to_the_right=range(1, 6)),
    )
    return "\n\n".join(tables)


@annotations.command()
@file_argument
@click.option("--to", "form", required=True, type=click.Choice(EXPORTS), help="Format to write.")
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write, or folder: boris-events, elan and webvtt are a file for each video.",
)
@videos_option
@click.option("--subset", "subsets", multiple=True, help="Videos of this subset only; repeatable.")
@click.option("--video", "ids", multiple=True, metavar="ID", help="This video only; repeatable.")
@click.option("--min-score", type=float, help="Leave out detections below this score.")
@click.option("--top", type=click.IntRange(min=1), help="Detections of a video to take, those of the highest scores.")
def export(
    file: Path,
    form: str,
    output: Path,
    videos: Path | None,
    subsets: tuple[str, ...],
    ids: tuple[str, ...],
    min_score: float | None,
    top: int | None,
) -> None:
    """Write annotations, or predictions (a submission JSON), for a tool in which a person can correct them.

    With --videos, files name the videos by their paths, so that the tool opens them. The paths of what was written go
    to stdout.
    """
    from etad.data.annotation_export import export as write
    from etad.data.annotation_export import read_labelled, select, with_files
    from etad.data.video_facts import VideoFolder

    labelled = select(read_labelled(file), subsets, ids, min_score, top)
    if videos is not None:
        labelled = with_files(labelled, VideoFolder(videos))
    for problem in labelled.problems:
        note(problem)
    for path in write(labelled, form, output):
        click.echo(path)
    note(f"{len(labelled.intervals)} actions of {len(labelled.videos)} videos")
