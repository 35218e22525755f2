"""Running a fixed list of cells both ways, and recording what CUDA's allocator does for small ones."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bench.cells import Cell, make_cells
from bench.compare.prediction_errors import Pair
from bench.machine.datasheets import match_profile
from bench.machine.environment import slug
from bench.machine.processes import Runner, run_all, run_isolated
from bench.measure.memory_cuda import TIMEOUT_S, Recording, measure_cell
from bench.measure.memory_timeline import read_snapshot
from bench.predict.fit import Target
from bench.predict.recorded import RecordedTraceError, of_release, replay_recorded, write_trace
from bench.records.record import Record
from bench.suites.memory_on_gpu import measure_cells
from bench.suites.memory_predicted import predict_cells
from etad.errors import DeviceError

COLUMNS = ("batch", "chunk", "ratio", "strategy", "precision", "frozen")
CELLS = (
    ("1", "4", "0.3", "sequential", "fp32", "2"),
    ("4", "4", "0.3", "sequential", "fp32", "2"),
    ("4", "8", "1.0", "sequential", "fp32", "2"),
    ("4", "4", "0", "sequential", "fp32", "2"),
    ("2", "4", "0.3", "sequential", "fp32", "0"),
    ("2", "8", "0.3", "sequential", "bf16", "2"),
    ("4", "1", "0.3", "sequential", "bf16", "2"),
    ("1", "1", "1.0", "sequential", "bf16", "0"),
    ("1", "8", "0.3", "joint", "fp32", "2"),
    ("2", "4", "0.3", "joint", "bf16", "2"),
    ("1", "4", "1.0", "joint", "bf16", "2"),
    ("1", "1", "0.3", "joint", "bf16", "0"),
    ("1", "4", "1.0", "checkpointed", "fp32", "2"),
    ("2", "8", "1.0", "checkpointed", "bf16", "2"),
)
"""Settings of :data:`COLUMNS`: every value of each occurs with several of the others, and all fit 80 GB."""

SMALL = {"encoder": "r2plus1d_18", "snippets": "8", "size": "64", "chunk": "2", "batch": "2"}
TRACED = (("sequential", "fp32"), ("sequential", "bf16"), ("joint", "fp32"), ("checkpointed", "fp32"))
"""Strategy and precision of the small cells whose allocations are kept."""
GPU_TIMEOUT_S = 120.0


def validation_cells(config: str, assignments: Sequence[str] = ()) -> list[Cell]:
    """Return the fixed list as cells of an experiment."""
    command = ["etad-bench", "memory", "--device", "cuda"]
    rows = (dict(zip(COLUMNS, row, strict=True)) for row in CELLS)
    return [cell for row in rows for cell in make_cells(command, config, row, assignments)]


def present_target() -> Target:
    """Return the present GPU as one to predict for.

    Raises:
        DeviceError: there is none.
    """
    if not torch.cuda.is_available():
        raise DeviceError("validate compares predictions with a CUDA GPU, and there is none here")
    # A process of its own, because this one is to hold no CUDA context while others are measured.
    outcome = run_isolated(gpu_facts, timeout_s=GPU_TIMEOUT_S)
    if outcome.value is None:
        raise DeviceError(f"the GPU cannot be asked: {outcome.message}")
    name, capability, memory_bytes = outcome.value
    profile = match_profile(name, memory_bytes)
    if profile is not None:
        # The records of both kinds belong together, so they go by the name that this GPU gives itself.
        return replace(Target.of_profile(profile), device=slug(name), compute_capability=capability)
    return Target(slug(name), slug(name), memory_bytes, None, "no profile knows this GPU", capability)


def gpu_facts() -> tuple[str, tuple[int, int], int]:
    """Return name, compute capability and memory in bytes of the GPU; opens a CUDA context."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return properties.name, (properties.major, properties.minor), properties.total_memory


def both_ways(
    cells: Sequence[Cell], target: Target, known: Sequence[Pair] = (), runner: Runner = run_all
) -> Iterator[tuple[Record, Record]]:
    """Yield the records of every cell, predicted and measured, cell by cell: a stop loses nothing.

    Args:
        cells: what to predict and to measure.
        target: the GPU.
        known: cells that ran before and are taken as they are.
        runner: where each cell runs.
    """
    for cell in cells:
        before = next((pair for pair in known if pair.measured.config == cell.config.resolved()), None)
        if before is not None:
            yield before.predicted, before.measured
            continue
        command = cell.command.replace("--device cuda", f"--device predict --hardware {target.name}")
        [predicted] = predict_cells([replace(cell, command=command)], target, runner=runner)
        [(measured, _)] = measure_cells([cell], runner=runner)
        yield predicted, measured


def record_traces(config: str, folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Record what the allocator does in two steps of small cells; yield every file, and how the simulator differs.

    Raises:
        DeviceError: a cell could not be recorded.
    """
    for strategy, precision in TRACED:
        [cell] = make_cells(["etad-bench", "memory"], config, {**SMALL, "strategy": strategy, "precision": precision})
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "snapshot.pickle"
            recording = Recording(path, frames=False)
            outcome = run_isolated(measure_cell, cell.config, False, recording, timeout_s=TIMEOUT_S)
            if outcome.value is None or outcome.value.out_of_memory is not None:
                raise DeviceError(f"{strategy}, {precision}: not recorded, {outcome.message or 'out of memory'}")
            trace = next(events for events in read_snapshot(path)["device_traces"] if events)
        target = folder / f"{slug(outcome.value.gpu)}-{strategy}-{precision}.json.gz"
        facts = {"gpu": outcome.value.gpu, "torch": torch.__version__, "strategy": strategy, "precision": precision}
        write_trace(target, trace, facts)
        try:
            difference = replay_recorded(trace, of_release(torch.__version__)).difference
        except RecordedTraceError as error:
            difference = str(error)
        yield target, difference
