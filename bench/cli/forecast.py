"""``etad-bench forecast``: how long a step and the schedule would take on hardware that is not here."""

from datetime import date
from pathlib import Path
from typing import get_args

import click

from bench.cells import make_cells, split
from bench.cli.options import (
    cost_options,
    emit,
    knob_options,
    known_profiles,
    note,
    output_option,
    set_option,
    store_option,
)
from bench.machine.datasheets import load_profile
from bench.machine.prices import read_rates
from bench.report.terminal.tables import FORMATS, Format, Grid
from etad.errors import ConfigError
from etad.progress import progress


@click.command()
@click.option("--config", "-c", default="anet_e2e", show_default=True, help="Config file, or a shipped one's name.")
@knob_options
@click.option("--inference", is_flag=True, help="Detection of one batch instead of a training step.")
@click.option("--hardware", metavar="A[,B...]", help="GPUs: profiles' names or files. Default: all that are known.")
@click.option(
    "--factors", type=click.Path(path_type=Path, dir_okay=False), help="File of factors. Default: the shipped one."
)
@click.option(
    "--fit",
    "table",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="CSV",
    help="Fit the factors to a table of measured GPUs and write them (stdout, or --output); with --check, show how "
    "wrong they are instead.",
)
@click.option("--check", is_flag=True, help="Show how wrong forecasts are on GPUs and networks left out of the fit.")
@click.option("--apart", is_flag=True, help="With --fit and --check: also on the networks that are kept apart.")
@click.option(
    "--videos",
    type=click.IntRange(min=1),
    help="Training videos, for the hours of the schedule. Default: the data set's, or those of the published run.",
)
@cost_options
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
    factors: Path | None,
    table: Path | None,
    check: bool,
    apart: bool,
    videos: int | None,
    price: str | None,
    prices: str | None,
    kwh_price: float | None,
    carbon: float | None,
    assignments: tuple[str, ...],
    form: Format,
    output: Path | None,
    store: Path | None,
    **knobs: str | None,
) -> None:
    """Forecast the time of a step, and the hours of the schedule, on GPUs that are not here.

    It comes from counted arithmetic and traffic, the GPU's peaks, and factors fitted to a public table of real GPUs.
    Every time comes with an interval, from the errors on GPUs and networks that the fit had not seen; what was never
    measured is said below.
    """
    # torch is slow to import, and --help does not need it.
    from bench.predict.forecast import load_factors
    from bench.records.store import ResultStore
    from bench.report.terminal.forecast import format_forecast
    from bench.suites.forecast import forecast_cells, training_videos

    if apart and not (check and table):
        raise ConfigError("--apart: goes with --fit CSV --check, which says where those networks are")
    if table is not None or check:
        emit(_fitted(table, factors, check, apart, form), output)
        return
    known = load_factors(factors)
    given = {name.replace("_", "-"): text for name, text in knobs.items()}
    command = ["etad-bench", "forecast", *(["--inference"] if inference else [])]
    cells = make_cells(command, config, given, assignments, "infer" if inference else "train")
    rates = read_rates(price, prices, kwh_price, carbon)
    if rates.prices is not None:
        note(rates.prices.age(date.today()))
    if hardware is None and rates.prices is not None:
        profiles = [load_profile(name) for name in rates.prices.gpus()]
    elif hardware is None:
        profiles = [profile for profile in known_profiles() if known.lacking(profile) is None]
    else:
        profiles = [load_profile(name) for name in split("hardware", hardware)]
    if price is not None and len(profiles) > 1:
        raise ConfigError("--price: is of one GPU; name it by --hardware, or give a list by --prices")
    videos = videos or training_videos(cells[0].config)
    found = forecast_cells(cells, profiles, known, videos, rates)
    records = list(progress(found, "forecast", total=len(cells) * len(profiles), unit="cell"))
    if store is not None:
        for record in records:
            ResultStore(store).write(record)
    text = format_forecast(records, [option for option, value in given.items() if value is not None], form)
    emit(text, output)
    if output is not None:
        note(f"wrote {output}")


def _fitted(table: Path | None, path: Path | None, check: bool, apart: bool, form: Format) -> str:
    """Return the factors of a table as YAML, or how wrong these (or those of the file at ``path``) are."""
    from bench.predict.forecast import dump_factors, load_factors
    from bench.report.terminal.forecast import format_check

    errors = {}
    if table is None:
        factors = load_factors(path)
    elif path is not None:
        raise ConfigError("--fit makes factors and --factors takes them from a file: give one of them")
    else:
        from bench.predict.factor_fit import errors_apart, fit_factors
        from bench.predict.throughput_table import read_table

        rows = read_table(table)
        factors = fit_factors(rows)
        if apart:
            errors = errors_apart(rows, factors)
    if not check:
        return dump_factors(factors).rstrip("\n")
    if form not in get_args(Grid):
        raise ConfigError(f"--check: has the forms {', '.join(get_args(Grid))}, not {form}")
    return format_check(factors, errors, form)  # type: ignore[arg-type]
