"""``etad-bench accuracy``: train, infer and score, over seeds and ratios, and compare with the published figure."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cells import Cell
from bench.cli.options import (
    config_option,
    cost_options,
    device_option,
    load_variant,
    note,
    set_option,
    variant_option,
    weights_key_option,
)
from bench.machine.environment import collect_environment
from bench.machine.prices import NO_RATES, read_rates
from bench.machine.processes import run_all
from bench.records.record import Record
from bench.records.store import ResultStore
from etad.config import Config
from etad.data.annotations import Annotations, annotations_of
from etad.errors import ConfigError, DataError
from etad.variants import settings_without_effect

if TYPE_CHECKING:
    from bench.measure.data_check import DataCheck
    from bench.suites.suite import AccuracyOptions


@click.command()
@config_option(required=True)
@set_option
@variant_option
@click.option("--ratio", "ratios", help="Snippet ratios, separated by commas. Default: the config's.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs, from the config's seed.")
@click.option("--from-checkpoint", type=click.Path(path_type=Path), help="Trained weights: infer and score only.")
@weights_key_option
@click.option("--predictions", type=click.Path(path_type=Path), help="Submission JSON: score only.")
@click.option("--check-only", is_flag=True, help="Look at the data, print what was found, and stop.")
@click.option("--check-files", type=click.IntRange(min=0), help="Files to open in the check. Default: all of them.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder of the runs. Default: runs/NAME.")
@click.option("--store", type=click.Path(path_type=Path), help="Folder of the records. Default: OUT/results.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw mAP against the snippet ratio (PNG or SVG).")
@click.option(
    "--format", "form", type=click.Choice(["md", "json"]), default="md", show_default=True, help="Form of the output."
)
@cost_options
@device_option
def accuracy(
    config: str,
    assignments: tuple[str, ...],
    variant: str | None,
    ratios: str | None,
    seeds: int,
    from_checkpoint: Path | None,
    weights_key: str | None,
    predictions: Path | None,
    check_only: bool,
    check_files: int | None,
    out: Path | None,
    store: Path | None,
    plot: Path | None,
    form: str,
    device: str,
    price: str | None,
    prices: str | None,
    kwh_price: float | None,
    carbon: float | None,
) -> None:
    """Look at the data, train, infer and score an experiment, and print mAP beside the published figure.

    Every stage goes on where it stopped; a cell whose record is in the store is not run again, unless its data changed;
    both are said. The verdict is reproduced, not reproduced, or not comparable and why.
    """
    # torch is slow to import, and --help does not need it.
    from bench.report.plots.canvas import check_target
    from bench.report.plots.scores import plot_over_ratio
    from bench.report.terminal.accuracy import as_json, as_markdown
    from bench.report.terminal.forecast import cost_lines
    from bench.suites.accuracy import Entry, check_parts
    from bench.suites.costs import measured_costs
    from bench.suites.suite import Accuracy, AccuracyOptions

    if from_checkpoint is not None and predictions is not None:
        raise click.UsageError("Give --from-checkpoint or --predictions, not both.")
    if weights_key is not None and from_checkpoint is None:
        raise click.UsageError("--weights-key goes with --from-checkpoint.")
    rates = read_rates(price, prices, kwh_price, carbon)
    if rates != NO_RATES and form == "json":
        raise ConfigError("--price, --prices, --kwh-price and --carbon: go with --format md")
    if plot is not None:
        check_target("--plot", plot)
    options = AccuracyOptions(
        device=device, from_checkpoint=from_checkpoint, predictions=predictions, weights_key=weights_key
    )
    if options.entry != Entry() and (seeds > 1 or ratios is not None):
        raise click.UsageError("--seeds and --ratio are for training; weights and predictions are what they are.")
    base = load_variant(config, assignments, variant)
    if check_only:
        looked = check_parts(base, check_files)
        click.echo("\n".join(line for check in looked for line in check.lines()))
        _refuse(looked)
        return
    options.entry.check(base)
    out = out or Path("runs") / base.name
    results = ResultStore(store or out / "results")
    cells = _cells(config, assignments, variant, ratios, seeds, base, options)
    asked = Accuracy().asked(options, collect_environment())
    found = {name: results.find(asked.cell_id(cell.config)) for name, cell in cells.items()}
    checks = None
    # Cells differ in ratio and seed alone: they share the data.
    there = base.data.path(base.data.annotations).is_file()
    annotations = annotations_of(base.data) if there or None in found.values() else None
    _drop_stale(found, {} if annotations is None else options.entry.inputs(base, annotations))
    if annotations is not None and None in found.values() and options.entry.predictions is None:
        checks = _checked(base, check_files, options, annotations)
    told = {text for check in checks or () for text in check.warnings}
    records: list[Record] = []
    for name, cell in cells.items():
        record = found[name]
        if record is None:
            note(f"{cell.config.name}: {name}")
            folder = out / (f"from-{from_checkpoint.stem}" if from_checkpoint else name)
            [record] = Accuracy().run([cell], options, folder, run_all, checks, annotations)
            results.write(record)
            for text in record.warnings:
                if text not in told:
                    note(text)
            told.update(record.warnings)
        else:
            compared = "" if there else " (its data is not here, so that it was not compared)"
            when = f"{record.started_at:%Y-%m-%d %H:%M} UTC"
            note(f"{name}: from the store, of {when}{compared}: {results.path_of(record)}")
        records.append(record)
    if plot is not None:
        plot_over_ratio(records, plot)
    click.echo(as_markdown(records) if form == "md" else as_json(records))
    for line in cost_lines(measured_costs(records, rates)):
        click.echo(f"- {line}")
    if rates.prices is not None:
        click.echo(f"- {rates.prices.age(date.today())}")


def _drop_stale(found: dict[str, Record | None], inputs: Mapping[str, str]) -> None:
    """Take out the records that are of other data than is there now, and say so."""
    from bench.records.inputs import why_stale

    for name, record in found.items():
        if record is not None and (why := why_stale(record, inputs)):
            note(f"{name}: {why}; run again")
            found[name] = None


def _checked(
    base: Config, check_files: int | None, options: "AccuracyOptions", annotations: Annotations
) -> list["DataCheck"]:
    """Look at the data, say what was found, and refuse what cannot be used."""
    from bench.suites.accuracy import check_parts
    from etad.distributed import alone

    checks = check_parts(base, check_files, annotations)
    lines = (line for check in checks for line in check.lines())
    for line in (*lines, *settings_without_effect(base, alone(options.device).device.type)):
        note(line)
    _refuse(checks)
    return checks


def _cells(
    config: str,
    assignments: tuple[str, ...],
    variant: str | None,
    ratios: str | None,
    seeds: int,
    base: Config,
    options: "AccuracyOptions",
) -> dict[str, Cell]:
    """Return every cell, by the name of its folder."""
    from bench.suites.suite import Accuracy

    values = [str(base.step.snippet_ratio)] if ratios is None else [value.strip() for value in ratios.split(",")]
    cells = {}
    for ratio in values:
        for seed in range(base.train.seed, base.train.seed + seeds):
            settings = [*assignments, f"step.snippet_ratio={ratio}", f"train.seed={seed}"]
            experiment = load_variant(config, settings, variant)
            line = ["etad-bench", "accuracy", "--config", config]
            line += [part for setting in settings for part in ("--set", setting)]
            line += [] if variant is None else ["--variant", variant]
            line += Accuracy().arguments(options)
            cells[f"ratio{ratio}-seed{seed}"] = Cell(experiment, "train", {}, shlex.join(line), ())
    return cells


def _refuse(checks: Sequence["DataCheck"]) -> None:
    errors = dict.fromkeys(error for check in checks for error in check.errors)
    if errors:
        raise DataError("; ".join(errors))
