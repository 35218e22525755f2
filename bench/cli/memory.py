"""``etad-bench memory``: how much memory an experiment needs, and what holds it."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from click.core import ParameterSource

from bench.cells import Cell, make_cells
from bench.cli import FAILED
from bench.cli.memory_step import predict_steps, refuse_others
from bench.cli.options import emit, knob_options, note, output_option, set_option, store_option
from bench.report.terminal.tables import FORMATS, Format
from etad.errors import ConfigError, DeviceError
from etad.progress import progress

if TYPE_CHECKING:
    from bench.measure.memory_cuda import Marks
    from bench.records.record import Record
    from bench.suites.suite import MemoryOptions

Device = Literal["auto", "predict", "cpu", "cuda"]


@click.command()
@click.option("--config", "-c", default="anet_e2e", show_default=True, help="Config file, or a shipped one's name.")
@knob_options
@click.option(
    "--step", metavar="FILE.py:FUNCTION", help="Predict a training step of your own, which this function makes."
)
@click.option("--arg", "step_arguments", multiple=True, metavar="NAME=VALUE", help="With --step: an argument of it.")
@click.option("--torch-release", metavar="2.15", help="With --step: the torch that is to run it. Default: this one.")
@click.option("--max-batch", is_flag=True, help="With --step and --hardware: find the largest batch that fits.")
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
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of the output."
)
@output_option
@store_option
def memory(
    config: str,
    step: str | None,
    step_arguments: tuple[str, ...],
    torch_release: str | None,
    max_batch: bool,
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

    With --step it is a training step of your own code: an ordinary function that builds model, optimizer and batch on
    "cuda", and returns the callable that runs one step. It is traced without values, data or GPU.
    """
    if step is not None:
        batches = knobs.pop("batch")
        default = click.get_current_context().get_parameter_source("config") == ParameterSource.DEFAULT
        others: dict[str, object] = {name.replace("_", "-"): value for name, value in knobs.items()}
        others |= {"config": not default, "inference": inference, "set": assignments, "snapshot": snapshot}
        others |= {"timeline": timeline, "published": published, "store": store}
        refuse_others(others | {f"device {device}": device in ("cpu", "cuda")})
        predict_steps(step, step_arguments, batches, hardware, torch_release, max_batch, form, output)
        return
    for option, value in (("--arg", step_arguments), ("--torch-release", torch_release), ("--max-batch", max_batch)):
        if value:
            raise ConfigError(f"{option}: goes with --step FILE.py:FUNCTION")
    # torch is slow to import, and --help does not need it.
    from bench.compare.prediction_errors import MEASURED_FOLDER
    from bench.machine.processes import run_all
    from bench.measure.memory_cuda import Recording
    from bench.records.store import ResultStore
    from bench.report.terminal.memory import format_memory, format_published
    from bench.suites.suite import Memory, MemoryOptions

    chosen = choose(device, hardware)
    task: Literal["train", "infer"] = "infer" if inference else "train"
    options = MemoryOptions(device=chosen, hardware=hardware, what=task)
    given = {name.replace("_", "-"): text for name, text in knobs.items() if text is not None}
    command = ["etad-bench", "memory", "--device", chosen, *(["--hardware", hardware] if hardware else [])]
    command += ["--inference"] if inference else []
    cells = make_cells(command, config, given, assignments, task)
    check_pictures(cells, chosen, snapshot, timeline)
    validations = [MEASURED_FOLDER] if store is None else [store, MEASURED_FOLDER]
    records, marks = list["Record"](), list["Marks | None"]()
    with tempfile.TemporaryDirectory() as temporary:
        recorded = snapshot or Path(temporary) / "snapshot.pickle"
        recording = Recording(recorded) if chosen == "cuda" and (snapshot or timeline) else None
        found = Memory().run(cells, options, Path(temporary), run_all, validations, recording, marks.append)
        for record in progress(found, "memory", total=len(cells), unit="cell"):
            records.append(record)
            if store is not None:
                ResultStore(store).write(record)
        if recording is not None:
            _draw_measured(records[0], recorded, marks[0], snapshot, timeline)
        elif snapshot is not None or timeline is not None:
            _draw_predicted(records[0], cells[0], options, snapshot, timeline)
    text = format_memory(records, list(given), form)
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


def _draw_predicted(
    record: "Record", cell: Cell, options: "MemoryOptions", snapshot: Path | None, timeline: Path | None
) -> None:
    from bench.measure.memory_timeline import predicted_timeline
    from bench.predict.snapshot import predicted_snapshot, write_snapshot
    from bench.report.plots.timeline import draw_timeline
    from bench.report.terminal.memory import describe
    from bench.suites.memory_predicted import trace_cell

    trace = trace_cell(cell.config, cell.task, options.target)
    if snapshot is not None:
        write_snapshot(snapshot, predicted_snapshot(trace))
        note(f"wrote {snapshot}")
    if timeline is not None:
        draw_timeline(predicted_timeline(trace), describe(record), timeline)
        note(f"wrote {timeline}")


def _draw_measured(
    record: "Record", recorded: Path, marks: "Marks | None", snapshot: Path | None, timeline: Path | None
) -> None:
    """Draw from what was recorded; nothing where the cell's process died before it was."""
    from bench.measure.memory_timeline import read_snapshot, recorded_timeline
    from bench.report.plots.timeline import draw_timeline
    from bench.report.terminal.memory import describe

    if marks is None:
        return
    if snapshot is not None:
        note(f"wrote {snapshot}")
    if timeline is not None:
        draw_timeline(recorded_timeline(read_snapshot(recorded), marks), describe(record), timeline)
        note(f"wrote {timeline}")
