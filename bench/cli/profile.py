"""``etad-bench profile``: a trace of a few steps, and the operators that cost the time."""

from pathlib import Path

import click

from bench.cells import make_cells
from bench.cli import FAILED
from bench.cli.options import device_option, emit, knob_options, note, output_option, set_option
from bench.report.terminal.tables import FORMATS, Format
from etad.errors import ConfigError


@click.command()
@click.option("--config", "-c", default="quickstart", show_default=True, help="Config file, or a shipped one's name.")
@knob_options
@click.option("--inference", is_flag=True, help="Detection of one batch instead of a training step.")
@click.option("--steps", type=click.IntRange(min=1), default=3, show_default=True, help="Steps to profile.")
@click.option("--top", type=click.IntRange(min=1), default=15, show_default=True, help="Operators to list.")
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("trace.json.gz"),
    show_default=True,
    help="File for the trace; Perfetto and chrome://tracing open it.",
)
@click.option("--nvtx", is_flag=True, help="Only mark NVTX ranges, for nsys profile etad-bench profile --nvtx.")
@device_option
@set_option
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of the output."
)
@output_option
def profile(
    config: str,
    inference: bool,
    steps: int,
    top: int,
    trace: Path,
    nvtx: bool,
    device: str,
    assignments: tuple[str, ...],
    form: Format,
    output: Path | None,
    **knobs: str | None,
) -> None:
    """Profile a few steps on a random batch: a trace, the most expensive operators, and how long the GPU waits.

    No data or weights are needed. The phases of the step are ranges in the trace.
    """
    # torch is slow to import, and --help does not need it.
    from bench.machine.processes import run_isolated
    from bench.measure.profiling import TIMEOUT_S, mark_only, profile_cell
    from bench.report.terminal.profile import format_profile
    from bench.suites.profile import profile_record
    from etad.distributed import choose_device

    chosen = choose_device(device)
    given = {name.replace("_", "-"): text for name, text in knobs.items()}
    command = ["etad-bench", "profile", "--steps", str(steps), "--device", str(chosen)]
    command += ["--inference"] if inference else []
    cells = make_cells(command, config, given, assignments, "infer" if inference else "train")
    if len(cells) > 1:
        raise ConfigError(f"etad-bench profile takes one setting at a time; these comma lists make {len(cells)}")
    if nvtx:
        if chosen.type != "cuda":
            raise ConfigError("--nvtx: needs a GPU, whose profiler shows the ranges; without it, this profiles the CPU")
        mark_only(cells[0], chosen, steps)
        return
    if not trace.name.endswith((".json", ".json.gz")):
        raise ConfigError(f"--trace {trace}: the name has to end in .json or .json.gz")
    outcome = run_isolated(profile_cell, cells[0], chosen, steps, trace, timeout_s=TIMEOUT_S)
    record = profile_record(cells[0], outcome, {"steps": steps, "device": str(chosen)})
    text = format_profile(record, top, form)
    emit(text, output)
    if not record.succeeded:
        note(f"not profiled: {outcome.message}")
        raise SystemExit(FAILED)
    note(f"wrote {trace}; open it at ui.perfetto.dev or chrome://tracing")
