"""``etad-bench memory``: how much memory an experiment needs, and what holds it."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bench.cells import Cell, make_cells
from bench.cli import FAILED
from bench.cli.options import emit, knob_options, note, output_option, set_option, store_option
from bench.machine.datasheets import load_profile
from bench.report.terminal.tables import FORMATS, Format
from etad.errors import ConfigError, DeviceError
from etad.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.predict.fit import Target
    from bench.records.record import Record

Device = Literal["auto", "predict", "cpu", "cuda"]


@click.command()
@click.option("--config", "-c", default="anet_e2e", show_default=True, help="Config file, or a shipped one's name.")
@knob_options
@click.option("--inference", is_flag=True, help="Detection of one batch instead of a training step.")
@click.option(
    "--device",
    type=click.Choice(["auto", "predict", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="predict: for a GPU, without one. cpu, cuda: really run it here. auto: cuda if there is one, else predict.",
)
@click.option("--hardware", metavar="NAME", help="GPU to predict for: a profile's name or file.")
@set_option
@click.option(
    "--snapshot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write two steps for torch's memory visualiser (https://pytorch.org/memory_viz). One cell only.",
)
@click.option(
    "--timeline",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw memory over a step, by category, as .png or .svg. One cell only.",
)
@click.option("--published", is_flag=True, help="Show the published memory figures below the table.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@output_option
@store_option
def memory(
    config: str,
    inference: bool,
    device: Device,
    hardware: str | None,
    assignments: tuple[str, ...],
    snapshot: Path | None,
    timeline: Path | None,
    published: bool,
    form: Format,
    output: Path | None,
    store: Path | None,
    **knobs: str | None,
) -> None:
    """Say how much memory a training step needs, phase by phase, and what holds it at the peak.

    Without more, and without a GPU, the published model is predicted for one: no data or weights are needed. Comma
    lists, as in --ratio 0.1,0.3 --strategy sequential,joint, make a table of all combinations.
    """
    # torch is slow to import, and --help does not need it.
    from bench.predict.fit import Target
    from bench.records.store import ResultStore
    from bench.report.terminal.memory import format_memory, format_published

    chosen = choose(device, hardware)
    target = None if hardware is None else Target.of_profile(load_profile(hardware))
    given = {name.replace("_", "-"): text for name, text in knobs.items()}
    command = ["etad-bench", "memory", "--device", chosen, *(["--hardware", hardware] if hardware else [])]
    cells = make_cells(command, config, given, assignments, inference)
    check_pictures(cells, chosen, snapshot, timeline)
    if chosen == "cpu":
        from bench.suites.memory_on_cpu import measure_cells

        found = measure_cells(cells)
    elif chosen == "cuda":
        found = _measured(cells, snapshot, timeline)
    else:
        found = _predicted(cells, target, store, snapshot, timeline)
    kept = None if store is None else ResultStore(store)
    records = []
    for record in progress(found, "memory", total=len(cells), unit="cell"):
        records.append(record)
        if kept is not None:
            kept.write(record)
    text = format_memory(records, [option for option, value in given.items() if value is not None], form)
    if published and form in ("table", "md"):
        text += f"\n\n{format_published()}"
    emit(text, output)
    failed = [record for record in records if record.status in ("error", "timeout")]
    if failed:
        note(f"{len(failed)} of {len(records)} cells failed")
        raise SystemExit(FAILED)


def choose(device: Device, hardware: str | None) -> Literal["predict", "cpu", "cuda"]:
    """Return what "auto" means here, and refuse what cannot be done.

    Raises:
        DeviceError: there is no CUDA GPU.
        ConfigError: a GPU to predict for was named for a measurement.
    """
    import torch

    if device == "auto":
        return "cuda" if hardware is None and torch.cuda.is_available() else "predict"
    if device != "predict" and hardware is not None:
        what = "a step on the CPU says nothing of a GPU" if device == "cpu" else "cuda measures the GPU that is here"
        raise ConfigError(f"--hardware: goes with a prediction; {what}")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "--device cuda: there is no CUDA GPU here; use --device predict, with --hardware NAME for a GPU"
        )
    return device


def check_pictures(cells: list[Cell], device: str, snapshot: Path | None, timeline: Path | None) -> None:
    """Refuse pictures of several cells, of a CPU, or of an unknown format, before anything is measured.

    Raises:
        ConfigError: naming the option.
    """
    for option, path in (("--snapshot", snapshot), ("--timeline", timeline)):
        if path is None:
            continue
        if len(cells) > 1:
            raise ConfigError(f"{option}: shows one cell, and the comma lists make {len(cells)}")
        if device == "cpu":
            raise ConfigError(f"{option}: shows what a GPU's allocator does; use --device predict or cuda")
    if timeline is not None and timeline.suffix not in (".png", ".svg"):
        raise ConfigError(f"--timeline {timeline}: write it as .png or .svg")


def _predicted(
    cells: list[Cell], target: "Target | None", store: Path | None, snapshot: Path | None, timeline: Path | None
) -> "Iterator[Record]":
    from bench.compare.prediction_errors import MEASURED_FOLDER, standing
    from bench.measure.memory_timeline import predicted_timeline
    from bench.predict.snapshot import predicted_snapshot, write_snapshot
    from bench.report.terminal.memory import describe
    from bench.suites.memory_predicted import predict_cells, predicted_device, trace_cell

    folders = [MEASURED_FOLDER] if store is None else [store, MEASURED_FOLDER]
    for record in predict_cells(cells, target, standing(predicted_device(target), folders)):
        yield record
        if snapshot is not None or timeline is not None:
            trace = trace_cell(cells[0].config, cells[0].inference, target)
            if snapshot is not None:
                write_snapshot(snapshot, predicted_snapshot(trace))
                note(f"wrote {snapshot}")
            if timeline is not None:
                from bench.report.plots.timeline import draw_timeline

                draw_timeline(predicted_timeline(trace), describe(record), timeline)
                note(f"wrote {timeline}")


def _measured(cells: list[Cell], snapshot: Path | None, timeline: Path | None) -> "Iterator[Record]":
    from bench.measure.memory_cuda import Recording
    from bench.measure.memory_timeline import read_snapshot, recorded_timeline
    from bench.report.terminal.memory import describe
    from bench.suites.memory_on_gpu import measure_cells

    with tempfile.TemporaryDirectory() as folder:
        path = snapshot or (Path(folder) / "snapshot.pickle" if timeline else None)
        for record, marks in measure_cells(cells, Recording(path) if path else None):
            yield record
            if snapshot is not None and marks is not None:
                note(f"wrote {snapshot}")
            if timeline is not None and path is not None and marks is not None:
                from bench.report.plots.timeline import draw_timeline

                draw_timeline(recorded_timeline(read_snapshot(path), marks), describe(record), timeline)
                note(f"wrote {timeline}")
