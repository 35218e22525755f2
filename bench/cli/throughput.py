"""``etad-bench throughput``: how fast a setting is, why, and what bounds it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import click

from bench.cells import Task, split
from bench.cli import FAILED
from bench.cli.options import device_option, emit, knob_options, note, output_option, set_option, store_option
from bench.report.terminal.tables import FORMATS, Format
from etad.errors import ConfigError
from etad.progress import progress


@click.command()
@click.option("--config", "-c", help="Config file, or a shipped one's name.  [default: quickstart]")
@knob_options
@click.option(
    "--what",
    type=click.Choice(get_args(Task)),
    default="train",
    show_default=True,
    help="Training step, detection of a batch, reading a batch of the data set, or post-processing.",
)
@click.option(
    "--variants",
    metavar="A,B[,...]",
    help="Compare forms of the computation in turn, the first one being the reference: published, fast, lean, ...; "
    "fast:bf16 at another precision. Without --config: the rows of the project's targets.",
)
@click.option("--real-data", is_flag=True, help="Batches of the data set instead of a random one (train, infer).")
@click.option("--energy", is_flag=True, help="Measure energy and power, too, in a pass of its own.")
@click.option("--min-time", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Seconds to time for.")
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True, help="Rounds to time, at least.")
@click.option("--max-time", type=click.FloatRange(min=0), default=120.0, show_default=True, help="Seconds, at most.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Processes that time and rounds are divided among; --variants take turns in one.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Of the CPU. One repeats best: with more, a virtual machine's time depends on which cores it gets.  "
    "[default: all cores]",
)
@device_option
@set_option
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of the output."
)
@output_option
@store_option
@click.option("--roofline", type=click.Path(path_type=Path, dir_okay=False), help="Draw it: a PNG, SVG or PDF file.")
def throughput(
    config: str | None,
    what: Task,
    variants: str | None,
    real_data: bool,
    energy: bool,
    min_time: float,
    rounds: int,
    max_time: float,
    processes: int,
    threads: int | None,
    device: str,
    assignments: tuple[str, ...],
    form: Format,
    output: Path | None,
    store: Path | None,
    roofline: Path | None,
    **knobs: str | None,
) -> None:
    """Time training steps, detection, data loading or post-processing, phase by phase, and say what bounds them.

    The batch is random: neither data nor weights are needed, except for --what data and --real-data. Comma lists, as
    in --ratio 0.1,0.3 --precision fp32,bf16, make a table of all combinations. Timing stops after --min-time seconds
    and --rounds rounds behind the warm-up, or after --max-time.
    """
    # torch is slow to import, and --help does not need it.
    from bench.forms.goals import compare_cells, compare_goals, count_goals
    from bench.machine.processes import run_all, use_threads
    from bench.measure.rounds import Limits
    from bench.records.store import ResultStore
    from bench.report.plots.canvas import check_target
    from bench.report.plots.roofline import plot_roofline
    from bench.report.terminal.throughput import format_throughput
    from bench.report.terminal.variants import format_variants
    from bench.suites.suite import Throughput, ThroughputOptions
    from bench.suites.throughput import expected_duration, throughput_cells
    from etad.distributed import choose_device

    choose_device(device)
    if threads is not None:
        use_threads(threads)
    if roofline is not None:
        check_target("--roofline", roofline)
    limits = Limits(min_time, rounds, max_time, processes)
    given = {name.replace("_", "-"): text for name, text in knobs.items() if text is not None}
    names = [] if variants is None else split("variants", variants)
    cells = throughput_cells(config or "quickstart", given, assignments, what, device, real_data, threads)
    if names and config is None:
        refuse(given, assignments)
        found, total = compare_goals(names, device, limits), count_goals(names)
    elif names:
        found, total = compare_cells(cells, names, what, device, limits, real_data), len(cells) * len(names)
    else:
        if (warning := expected_duration(cells, what, device, limits)) is not None:
            note(warning)
        options = ThroughputOptions(
            what=what,
            device=device,
            real_data=real_data,
            min_time_s=min_time,
            rounds=rounds,
            max_time_s=max_time,
            processes=processes,
            energy=energy,
        )
        found, total = Throughput().run(cells, options, Path(), run_all), len(cells)
    records = []
    for record in progress(found, "throughput", total=total, unit="cell"):
        records.append(record)
        if store is not None:
            ResultStore(store).write(record)
    text = format_variants(records, form) if names else format_throughput(records, list(given), form)
    emit(text, output)
    if roofline is not None:
        plot_roofline(records, roofline)
    failed = [record for record in records if not record.succeeded]
    if failed:
        note(f"{len(failed)} of {len(records)} cells failed")
        raise SystemExit(FAILED)


def refuse(given: Mapping[str, str], assignments: Sequence[str]) -> None:
    """Refuse settings of a fixed list.

    Raises:
        ConfigError: there are some.
    """
    settings = [f"--{option}" for option in given] + ["--set"] * bool(assignments)
    if settings:
        raise ConfigError(f"{settings[0]}: the targets' settings are fixed; name a --config to compare its variants")
