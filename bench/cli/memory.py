"""``etad-bench memory``: how much memory an experiment needs, and what holds it."""

from pathlib import Path
from typing import Literal

import click

from bench.cli import FAILED
from bench.cli.options import knob_options, note, set_option
from bench.hardware import load_profile
from bench.measure.cells import make_cells
from bench.report.tables import FORMATS, Format
from etad.errors import ConfigError, DeviceError
from etad.files import write_text
from etad.progress import progress


@click.command()
@click.option("--config", "-c", default="anet_e2e", show_default=True, help="Config file, or a shipped one's name.")
@knob_options
@click.option("--inference", is_flag=True, help="Detection of one batch instead of a training step.")
@click.option(
    "--device",
    type=click.Choice(["auto", "predict", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="predict: for a GPU, without one. cpu: really run it here. auto: predict.",
)
@click.option("--hardware", metavar="NAME", help="GPU to fit: a profile's name or file (etad-bench profiles).")
@set_option
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="File instead of stdout.")
@click.option("--store", type=click.Path(path_type=Path, file_okay=False), help="Folder to keep the records in.")
def memory(
    config: str,
    inference: bool,
    device: Literal["auto", "predict", "cpu", "cuda"],
    hardware: str | None,
    assignments: tuple[str, ...],
    form: Format,
    output: Path | None,
    store: Path | None,
    **knobs: str | None,
) -> None:
    """Say how much memory a training step needs, phase by phase, and what holds it at the peak.

    Without more, the published model is predicted for a GPU: no GPU, data or weights are needed. Comma lists, as in
    --ratio 0.1,0.3 --strategy sequential,joint, make a table of all combinations.
    """
    # torch is slow to import, and --help does not need it.
    from bench.fit import Target
    from bench.measure.memory_prediction import predict_cells
    from bench.report.memory import format_memory
    from bench.store import ResultStore

    check_device(device, hardware)
    target = None if hardware is None else Target.of_profile(load_profile(hardware))
    given = {name.replace("_", "-"): text for name, text in knobs.items()}
    command = ["etad-bench", "memory", "--device", "cpu" if device == "cpu" else "predict"]
    command += ["--hardware", hardware] if hardware else []
    cells = make_cells(command, config, given, assignments, inference)
    if device == "cpu":
        from bench.measure.memory_cpu import measure_cells

        found = measure_cells(cells)
    else:
        found = predict_cells(cells, target)
    records = list(progress(found, "memory", total=len(cells), unit="cell"))
    if store is not None:
        for record in records:
            ResultStore(store).write(record)
    text = format_memory(records, [option for option, value in given.items() if value is not None], form)
    if output is None:
        click.echo(text)
    else:
        write_text(output, text + "\n")
    failed = [record for record in records if record.status in ("error", "timeout")]
    if failed:
        note(f"{len(failed)} of {len(records)} cells failed")
        raise SystemExit(FAILED)


def check_device(device: str, hardware: str | None) -> None:
    """Refuse what cannot be done, and say what is done instead.

    Raises:
        DeviceError: there is no CUDA, or measuring on it is not built yet.
        ConfigError: a GPU to fit was named for a measurement on the CPU.
    """
    import torch

    if device == "cuda":
        there = "measuring on CUDA is not built yet" if torch.cuda.is_available() else "there is no CUDA GPU here"
        raise DeviceError(f"--device cuda: {there}; use --device predict, with --hardware NAME for a GPU")
    if device == "cpu" and hardware is not None:
        raise ConfigError("--hardware: goes with a prediction; a step on the CPU says nothing of a GPU")
    if device == "auto" and torch.cuda.is_available():
        note("measuring on CUDA is not built yet, so this is a prediction")
