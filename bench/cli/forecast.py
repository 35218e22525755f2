"""``etad-bench forecast``: how long a step and the schedule would take on hardware that is not here."""

from pathlib import Path

import click

from bench.cells import make_cells, split
from bench.cli.options import emit, knob_options, known_profiles, note, output_option, set_option, store_option
from bench.machine.datasheets import load_profile
from bench.report.terminal.tables import FORMATS, Format
from etad.progress import progress


@click.command()
@click.option("--config", "-c", default="anet_e2e", show_default=True, help="Config file, or a shipped one's name.")
@knob_options
@click.option("--inference", is_flag=True, help="Detection of one batch instead of a training step.")
@click.option("--hardware", metavar="A[,B...]", help="GPUs: profiles' names or files. Default: all that are known.")
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results/measured"),
    show_default=True,
    help="Folder of measured records (etad-bench throughput --store).",
)
@click.option(
    "--videos",
    type=click.IntRange(min=1),
    help="Training videos, for the hours of the schedule. Default: the data set's, or those of the published run.",
)
@set_option
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of the output."
)
@output_option
@store_option
def forecast(
    config: str,
    inference: bool,
    hardware: str | None,
    calibrate: Path,
    videos: int | None,
    assignments: tuple[str, ...],
    form: Format,
    output: Path | None,
    store: Path | None,
    **knobs: str | None,
) -> None:
    """Forecast the time of a step, and the hours of the schedule, on GPUs that are not here.

    It comes from counted arithmetic and traffic, the GPU's peaks, and factors that fit measured records; the error of
    these factors is measured, too, and shown. Nothing here was measured on the GPU itself.
    """
    # torch is slow to import, and --help does not need it.
    from bench.predict.forecast import calibrate as fit
    from bench.records.store import ResultStore
    from bench.report.terminal.forecast import format_forecast
    from bench.suites.forecast import forecast_cells, training_videos

    given = {name.replace("_", "-"): text for name, text in knobs.items()}
    command = ["etad-bench", "forecast", *(["--inference"] if inference else [])]
    cells = make_cells(command, config, given, assignments, "infer" if inference else "train")
    profiles = known_profiles() if hardware is None else [load_profile(name) for name in split("hardware", hardware)]
    calibration = fit(ResultStore(calibrate).records())
    videos = videos or training_videos(cells[0].config)
    found = forecast_cells(cells, profiles, calibration, videos)
    records = list(progress(found, "forecast", total=len(cells) * len(profiles), unit="cell"))
    if store is not None:
        for record in records:
            ResultStore(store).write(record)
    text = format_forecast(records, [option for option, value in given.items() if value is not None], form)
    emit(text, output)
    if output is not None:
        note(f"wrote {output}")
