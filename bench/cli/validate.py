"""``etad-bench validate``: memory, predicted and measured, on the GPU that is here."""

from pathlib import Path

import click

from bench.cli import FAILED
from bench.cli.options import emit, note, output_option, set_option
from bench.report.terminal.validation import Form
from etad.progress import progress

OUT_OF_TOLERANCE = 1


@click.command()
@click.option("--config", "-c", default="anet_e2e", show_default=True, help="Config file, or a shipped one's name.")
@set_option
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results/measured"),
    show_default=True,
    help="Folder for the records of both kinds; etad-bench memory cites what it finds there.",
)
@click.option(
    "--traces",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for recorded allocations of small cells too, on which the simulator is checked.",
)
@click.option("--again", is_flag=True, help="Run cells anew that the store has both ways.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Form of the output.",
)
@output_option
def validate(
    config: str,
    assignments: tuple[str, ...],
    store: Path,
    traces: Path | None,
    again: bool,
    form: Form,
    output: Path | None,
) -> None:
    """Predict and measure the memory of a fixed list of cells on the present GPU, and report the signed errors.

    A stopped run goes on where it was. Exit code 1 if a peak is off by more than 5 % allocated or 10 % reserved, 3 if a
    cell failed, 6 without a GPU.
    """
    # torch is slow to import, and --help does not need it.
    from bench.compare.prediction_errors import known_pairs, pairs
    from bench.records.store import ResultStore
    from bench.report.terminal.validation import format_validation
    from bench.suites.validation import both_ways, present_target, record_traces, validation_cells

    target = present_target()
    cells = validation_cells(config, assignments)
    known = [] if again else known_pairs(target.device, [store])
    records = []
    for both in progress(both_ways(cells, target, known), "validate", total=len(cells), unit="cell"):
        for record in both:
            ResultStore(store).write(record)
            records.append(record)
    different = False
    for path, difference in record_traces(config, traces) if traces else ():
        note(f"wrote {path}: {'the simulator does the same' if difference is None else difference}")
        different |= difference is not None
    found, failed = pairs(records), [record for record in records if not record.succeeded]
    text = format_validation(found, failed, form)
    emit(text, output)
    if failed:
        note(f"{len({record.command for record in failed})} of {len(cells)} cells failed")
        raise SystemExit(FAILED)
    if different or any(pair.exceeding() for pair in found):
        raise SystemExit(OUT_OF_TOLERANCE)
