"""``etad-bench sweep``: measure many cells, each in a process of its own, and keep what came out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bench.cli import FAILED
from bench.cli.options import note, set_option
from etad.errors import ConfigError, NothingToDoError

if TYPE_CHECKING:
    from bench.records.record import Record
    from bench.sweep.cells import SweepCell


@click.command()
@click.argument("sweep", metavar="FILE|NAME")
@set_option
@click.option("--part", "parts", multiple=True, metavar="NAME", help="Only this part; may be given several times.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder of the runs. Default: runs/NAME.")
@click.option("--store", type=click.Path(path_type=Path), help="Folder of the records. Default: OUT/results.")
@click.option(
    "--rerun",
    type=click.Choice(["failed", "stale", "all"]),
    help="Run again what failed, what another commit or torch version made, or everything.",
)
@click.option("--shard", metavar="I/N", help="Only every N-th cell, from the I-th on.")
@click.option("--dry-run", is_flag=True, help="List the cells with predicted memory and known time; run nothing.")
@click.option("--hardware", metavar="NAME", help="GPU to predict memory for, with --dry-run and --skip-unfit.")
@click.option("--skip-unfit", is_flag=True, help="Skip cells that are predicted not to fit --hardware.")
@click.option(
    "--launcher",
    type=click.Choice(["local", "slurm"]),
    default="local",
    show_default=True,
    help="local: processes of this machine. slurm: a job for each cell (extra slurm).",
)
@click.option(
    "--slurm", "slurm", multiple=True, metavar="KEY=VALUE", help="Setting of the jobs, e.g. partition=gpu, time=60."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "md", "json", "csv"]),
    default="table",
    show_default=True,
    help="Form of the output.",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw mAP against the ratios, by sampler (PNG or SVG).")
def sweep(
    sweep: str,
    assignments: tuple[str, ...],
    parts: tuple[str, ...],
    out: Path | None,
    store: Path | None,
    rerun: Literal["failed", "stale", "all"] | None,
    shard: str | None,
    dry_run: bool,
    hardware: str | None,
    skip_unfit: bool,
    launcher: Literal["local", "slurm"],
    slurm: tuple[str, ...],
    form: Literal["table", "md", "json", "csv"],
    plot: Path | None,
) -> None:
    """Measure the cells of a sweep: a YAML file, or the name of a shipped one.

    Started again, it goes on where it stopped: a cell that has a record is not run again, unless --rerun says so or the
    data it was measured on changed. A cell that fails or runs out of memory is a record, too. With --launcher slurm
    each cell is a job, and OUT has to lie where all nodes see it. Exit code 3: a cell failed; 5: nothing could run.
    """
    # torch is slow to import, and --help does not need it.
    from bench.machine.datasheets import load_profile
    from bench.machine.environment import collect_environment
    from bench.predict.fit import Target
    from bench.records.store import ResultStore
    from bench.report.plots.canvas import check_target
    from bench.report.terminal.sweep import format_estimates
    from bench.report.terminal.sweep_progress import Display
    from bench.sweep.cells import shard as shard_of
    from bench.sweep.cells import sweep_cells
    from bench.sweep.estimate import estimates, skipped
    from bench.sweep.file import load_sweep
    from bench.sweep.run import check_data, check_writable, forget, make_plan, run_cells
    from bench.sweep.slurm import SlurmJobs

    if skip_unfit and hardware is None:
        raise ConfigError("--skip-unfit: say for which GPU, with --hardware NAME (etad-bench profiles)")
    if slurm and launcher != "slurm":
        raise ConfigError("--slurm: goes with --launcher slurm")
    if plot is not None:
        check_target("--plot", plot)
    target = None if hardware is None else Target.of_profile(load_profile(hardware))
    environment = collect_environment()
    loaded = load_sweep(sweep)
    every_cell = sweep_cells(loaded, environment, assignments, parts)
    cells = every_cell if shard is None else shard_of(every_cell, shard)
    folder = out or Path("runs") / loaded.name
    results = ResultStore(store or folder / "results")
    plan = make_plan(cells, results, environment, rerun, anywhere=launcher == "slurm")
    for cell, why in plan.stale:
        note(f"{cell.label}: {why}; run again")
    if dry_run:
        expected = estimates(cells, plan, results, target, environment)
        click.echo(format_estimates(expected, hardware or "an A100", form))
        return
    check_writable(results.root)
    records = {cell.cell_id: record for cell, record in plan.kept}
    if skip_unfit and target is not None:
        for cell, record in skipped(plan.todo, target, environment):
            results.write(record)
            records[cell.cell_id] = record
    todo = [cell for cell in plan.todo if cell.cell_id not in records]
    check_data(todo)
    note(f"{loaded.name}: {len(cells)} cells, {len(plan.kept)} have a record, {len(todo)} to run")
    if rerun in ("stale", "all"):
        forget(todo, folder / "cells")
    with Display(len(todo)) as display:
        if launcher == "slurm":
            done = SlurmJobs(folder / "slurm", slurm).run(todo, results, folder / "cells", display)
        else:
            done = run_cells(todo, results, folder / "cells", environment, display)
        records |= {cell.cell_id: record for cell, record in done}
    _show(cells, records, form, plot)
    failed = [record for record in records.values() if record.status in ("error", "timeout")]
    if failed:
        note(f"{len(failed)} of {len(cells)} cells failed; --rerun failed tries them again")
        raise SystemExit(FAILED)
    if all(record.status == "skipped" for record in records.values()):
        raise NothingToDoError(f"{loaded.name}: every cell was skipped")


def _show(
    cells: "Sequence[SweepCell]",
    records: "Mapping[str, Record]",
    form: Literal["table", "md", "json", "csv"],
    plot: Path | None,
) -> None:
    """Print what came out, with the comparisons of a study below it, and draw it if that is asked for."""
    from bench.report.plots.scores import plot_study
    from bench.report.terminal.study import format_comparisons
    from bench.report.terminal.sweep import format_sweep

    click.echo(format_sweep(cells, records, form))
    found = list(records.values())
    if form in ("table", "md") and (compared := format_comparisons(found)):
        click.echo(f"\n{compared}")
    if plot is not None:
        plot_study(found, plot)
