"""Task the fast form of ETAD has to reach, against the published form, in one run on one machine.

The rows are those of the project's targets. On a CPU the end-to-end step is the full-size model on 10 snippets of one
video, in chunks of 3, so that exactly 0.3 of them are drawn; 128 snippets would take minutes a step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.cells import Cell, Task, make_cells
from bench.forms.loops import FORMS, LOOP_ROWS, compare_loops
from bench.forms.side_by_side import compare_variants
from bench.measure.rounds import Limits
from bench.records.record import Finding, Record
from etad.distributed import choose_device
from etad.errors import ConfigError


@dataclass(frozen=True)
class Goal:
    """One row.

    Attributes:
        row: its name.
        config: of a shipped experiment.
        task: "train" or "infer".
        least: ratio to reach on a CPU and on a GPU; None: no target there.
        assignments: settings, on any device; on a CPU ``on_cpu`` come on top.
    """

    row: str
    config: str
    task: Task
    least: dict[str, float | None]
    assignments: tuple[str, ...] = ()
    on_cpu: tuple[str, ...] = ()


GOALS = (
    Goal("detector training step", "anet_features", "train", {"cpu": 4.0, "cuda": None}),
    Goal("detector inference", "anet_features", "infer", {"cpu": 6.0, "cuda": None}, ("train.batch=1",)),
    Goal(
        "end-to-end step",
        "anet_e2e",
        "train",
        {"cpu": 1.3, "cuda": 4.0},
        ("step.snippet_ratio=0.3", "model.encoder.weights=null"),
        ("train.batch=1", "data.length=10", "step.chunk=3"),
    ),
)


def goal_cell(goal: Goal, device_type: str) -> Cell:
    """Return the setting of a row on a kind of device."""
    assignments = (*goal.assignments, *(goal.on_cpu if device_type == "cpu" else ()))
    command = ["etad-bench", "throughput", "--what", goal.task]
    (cell,) = make_cells(command, goal.config, {}, assignments, goal.task)
    return cell


def compare_goals(names: Sequence[str], device_name: str, limits: Limits) -> Iterator[Record]:
    """Yield the records of every row, in every variant's form, with a finding "target" where there is one.

    The rows of post-processing and evaluation, which have no variants, follow: vectorised against loops.

    Raises:
        UserError: no such device or variant.
    """
    device_type = choose_device(device_name).type
    for goal in GOALS:
        cell = goal_cell(goal, device_type)
        for record in compare_variants(cell, names, goal.task, device_name, limits, goal.row):
            yield with_verdict(record, goal.least[device_type])
    for row, record in compare_loops(goal_cell(GOALS[0], device_type), limits):
        yield with_verdict(record, row.least)


def with_verdict(record: Record, least: float | None) -> Record:
    """Return the record with the finding "target": reached, missed (and what bounds the step), or too noisy to say."""
    ratio = record.metrics.get("speedup_ratio")
    variants = record.measurement["variants"]
    if ratio is None or least is None or not isinstance(variants, list) or record.measurement["variant"] == variants[0]:
        return record
    low, value, high = ratio.low or ratio.value or 0.0, ratio.value or 0.0, ratio.high or ratio.value or 0.0
    if low >= least:
        found = Finding(verdict="reached", why=f"{value:.2f} times, {least:g} wanted")
    elif high < least:
        bound = record.findings.get("bound", "bound not known")
        found = Finding(verdict="missed", why=f"{value:.2f} times, {least:g} wanted; {bound}")
    else:
        found = Finding(verdict="open", why=f"{low:.2f} to {high:.2f} times, {least:g} wanted")
    return record.model_copy(update={"findings": {**record.findings, "target": found}})


def count_goals(names: Sequence[str]) -> int:
    """Return the number of records that :func:`compare_goals` yields."""
    return len(GOALS) * len(names) + len(LOOP_ROWS) * len(FORMS)


def compare_cells(
    cells: Sequence[Cell], names: Sequence[str], task: Task, device_name: str, limits: Limits, real_data: bool
) -> Iterator[Record]:
    """Yield the records of every cell in every variant's form.

    Raises:
        UserError: no such device or variant, or something that has no variants.
    """
    if task not in ("train", "infer") or real_data:
        raise ConfigError("--variants: compares --what train and --what infer, on a random batch")
    for cell in cells:
        yield from compare_variants(cell, names, task, device_name, limits)
