"""``etad-bench sweep``: measure many cells, each in a process of its own, and keep what came out."""

from pathlib import Path
from typing import Literal

import click

from bench.cli import FAILED
from bench.cli.options import note, set_option


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
@click.option("--format", "form", type=click.Choice(["table", "md", "json", "csv"]), default="table", show_default=True)
def sweep(
    sweep: str,
    assignments: tuple[str, ...],
    parts: tuple[str, ...],
    out: Path | None,
    store: Path | None,
    rerun: Literal["failed", "stale", "all"] | None,
    shard: str | None,
    form: Literal["table", "md", "json", "csv"],
) -> None:
    """Measure the cells of a sweep: a YAML file, or the name of a shipped one.

    Started again, it goes on where it stopped: a cell that has a record is not run again, unless --rerun says so. A
    cell that fails or runs out of memory is a record, too. Exit code 3: a cell failed; 5: there was no cell.
    """
    # torch is slow to import, and --help does not need it.
    from bench.environment import collect_environment
    from bench.report.sweep import format_sweep
    from bench.store import ResultStore
    from bench.sweep.cells import shard as shard_of
    from bench.sweep.cells import sweep_cells
    from bench.sweep.display import Display
    from bench.sweep.file import load_sweep
    from bench.sweep.run import check_data, check_writable, forget, make_plan, run_cells

    environment = collect_environment()
    loaded = load_sweep(sweep)
    cells = sweep_cells(loaded, environment, assignments, parts)
    if shard is not None:
        cells = shard_of(cells, shard)
    folder = out or Path("runs") / loaded.name
    results = ResultStore(store or folder / "results")
    plan = make_plan(cells, results, environment, rerun)
    check_writable(results.root)
    check_data(plan.todo)
    note(f"{loaded.name}: {len(cells)} cells, {len(plan.kept)} have a record, {len(plan.todo)} to run")
    if rerun in ("stale", "all"):
        forget(plan.todo, folder / "cells")
    done = {cell.cell_id: record for cell, record in plan.kept}
    with Display(len(plan.todo)) as display:
        for cell, record in run_cells(plan.todo, results, folder / "cells", environment, display):
            done[cell.cell_id] = record
    click.echo(format_sweep(cells, done, form))
    failed = [record for record in done.values() if record.status in ("error", "timeout")]
    if failed:
        note(f"{len(failed)} of {len(cells)} cells failed; --rerun failed tries them again")
        raise SystemExit(FAILED)
