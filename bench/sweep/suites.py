"""What a sweep can measure: for each suite its options, and how one cell is asked for and run."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, Protocol

from bench.environment import Environment, collect_environment, device_slug, slug
from bench.fit import Target
from bench.hardware import load_profile
from bench.measure.cells import Cell
from bench.measure.isolation import Outcome
from bench.measure.memory_prediction import DEFAULT_CAPABILITY, predict_cell, prediction_record
from bench.record import Kind, Record
from etad.config import Config, Section
from etad.distributed import World, choose_device


class MemoryOptions(Section):
    """Options of ``etad-bench memory``."""

    device: Literal["predict", "cpu"] = "predict"
    hardware: str | None = None
    inference: bool = False


class AccuracyOptions(Section):
    """Options of ``etad-bench accuracy``."""

    device: str = "auto"


Options = MemoryOptions | AccuracyOptions


@dataclass(frozen=True)
class Asked:
    """What, besides the config, makes a cell: the fields of its record that are known before it runs.

    Attributes:
        kind: "measured" or "predicted".
        measurement: options that belong to the cell's id.
        device: slug of the folder its record lies in.
    """

    kind: Kind
    measurement: dict[str, Any]
    device: str


class Suite(Protocol):
    """One suite."""

    @property
    def options(self) -> type[Section]:
        """The model of its options."""

    @property
    def timeout_s(self) -> float:
        """Time for one cell, where the sweep gives none."""

    def asked(self, options: Any, environment: Environment) -> Asked:
        """Return what makes a cell with these options, on the machine described."""

    def arguments(self, options: Any) -> list[str]:
        """Return the options as words of the suite's command."""

    def check(self, config: Config) -> None:
        """Find a user's mistake before any cell runs.

        Raises:
            UserError: the data cannot be used.
        """

    def run(self, cell: Cell, options: Any, folder: Path) -> Record:
        """Run one cell in this process, with ``folder`` for what it leaves behind, and return its record."""


class Memory:
    """Memory of a step: predicted for a GPU, or measured on the CPU."""

    options = MemoryOptions
    timeout_s = 3600.0

    def asked(self, options: MemoryOptions, environment: Environment) -> Asked:
        """See :class:`Suite`."""
        if options.device == "cpu":
            from bench.measure.memory_cpu import CLASSES

            measurement = {"inference": options.inference, "device": "cpu", "classes": CLASSES}
            return Asked("measured", measurement, device_slug(environment))
        target = _target(options)
        measurement = {
            "inference": options.inference,
            "hardware": None if target is None else target.name,
            "hardware_memory_bytes": None if target is None else target.memory_bytes,
        }
        device = target.device if target else slug(f"cuda sm_{DEFAULT_CAPABILITY[0]}{DEFAULT_CAPABILITY[1]}")
        return Asked("predicted", measurement, device)

    def arguments(self, options: MemoryOptions) -> list[str]:
        """See :class:`Suite`."""
        hardware = ["--hardware", options.hardware] if options.hardware else []
        return ["--device", options.device, *hardware, *(["--inference"] if options.inference else [])]

    def check(self, config: Config) -> None:
        """Memory needs no data."""

    def run(self, cell: Cell, options: MemoryOptions, folder: Path) -> Record:
        """See :class:`Suite`."""
        started_at, begun = datetime.now(UTC), perf_counter()
        environment = collect_environment()
        facts = environment.model_dump(mode="json")
        if options.device == "cpu":
            from bench.measure.memory_cpu import cpu_record, measure_cell

            memory = measure_cell(cell.config, cell.inference)
            done = Outcome("ok", memory, "", started_at, perf_counter() - begun)
            return cpu_record(cell, done, facts, device_slug(environment))
        target = _target(options)
        prediction = predict_cell(cell.config, cell.inference, target)
        predicted = Outcome("ok", prediction, "", started_at, perf_counter() - begun)
        return prediction_record(cell, predicted, target, facts)


class Accuracy:
    """Training, inference and scoring."""

    options = AccuracyOptions
    timeout_s = 7 * 86400.0

    def asked(self, options: AccuracyOptions, environment: Environment) -> Asked:
        """See :class:`Suite`."""
        return Asked("measured", {}, device_slug(environment))

    def arguments(self, options: AccuracyOptions) -> list[str]:
        """See :class:`Suite`."""
        return ["--device", options.device]

    def check(self, config: Config) -> None:
        """See :class:`Suite`: annotations and files have to be there."""
        from etad.data.dataset import train_dataset
        from etad.runs import parts

        train_dataset(parts(config, Path())[0][0])

    def run(self, cell: Cell, options: AccuracyOptions, folder: Path) -> Record:
        """See :class:`Suite`."""
        from bench.measure.accuracy import measure_accuracy

        return measure_accuracy(cell.config, folder, World(0, 1, choose_device(options.device)), cell.command)


SUITES: Mapping[str, Suite] = {"memory": Memory(), "accuracy": Accuracy()}


def _target(options: MemoryOptions) -> Target | None:
    return None if options.hardware is None else Target.of_profile(load_profile(options.hardware))
