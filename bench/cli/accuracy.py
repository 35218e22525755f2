"""``etad-bench accuracy``: train, infer and score, over seeds and snippet ratios."""

import json
import sys
from pathlib import Path

import click

from bench.cli.options import config_option, device_option, note, set_option
from bench.measure.accuracy import measure_accuracy
from bench.record import cell_id
from bench.report.accuracy import as_markdown, over_seeds, plot_over_ratio
from bench.store import ResultStore
from etad.config import load_config
from etad.distributed import World, choose_device


@click.command()
@config_option(required=True)
@set_option
@click.option("--ratio", "ratios", help="Snippet ratios, separated by commas. Default: the config's.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs, from the config's seed.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder of the runs. Default: runs/NAME.")
@click.option("--store", type=click.Path(path_type=Path), help="Folder of the records. Default: OUT/results.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw mAP against the snippet ratio (PNG or SVG).")
@click.option("--format", "form", type=click.Choice(["md", "json"]), default="md", show_default=True)
@device_option
def accuracy(
    config: str,
    assignments: tuple[str, ...],
    ratios: str | None,
    seeds: int,
    out: Path | None,
    store: Path | None,
    plot: Path | None,
    form: str,
    device: str,
) -> None:
    """Train, infer and score an experiment, and print mAP with its spread over seeds.

    Every run goes on where it stopped; a cell whose record is in the store is not run again.
    """
    base = load_config(config, assignments)
    out = out or Path("runs") / base.name
    results = ResultStore(store or out / "results")
    world = World(0, 1, choose_device(device))
    values = [str(base.step.snippet_ratio)] if ratios is None else [value.strip() for value in ratios.split(",")]
    records = []
    for ratio in values:
        for seed in range(base.train.seed, base.train.seed + seeds):
            cell = load_config(config, [*assignments, f"step.snippet_ratio={ratio}", f"train.seed={seed}"])
            record = results.find(cell_id("accuracy", "measured", cell.resolved(), {}))
            if record is None:
                note(f"{cell.name}: snippet ratio {ratio}, seed {seed}")
                folder = out / f"ratio{ratio}-seed{seed}"
                record = measure_accuracy(cell, folder, world, " ".join(["etad-bench", *sys.argv[1:]]))
                results.write(record)
            records.append(record)
    if plot is not None:
        plot_over_ratio(records, plot)
    table = over_seeds(records)
    click.echo(as_markdown(table) if form == "md" else json.dumps(table.to_dict("records"), indent=1))
