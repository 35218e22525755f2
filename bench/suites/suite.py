"""What a sweep can measure: for each suite its options, and how one cell is asked for and run."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, Protocol, Self

from pydantic import model_validator

from bench.batches import CLASSES
from bench.cells import Cell
from bench.compare.prediction_errors import MEASURED_FOLDER, standing
from bench.machine.datasheets import load_profile
from bench.machine.environment import Environment, collect_environment, device_meant, device_slug
from bench.machine.processes import Outcome
from bench.measure.memory_cpu import measure_cell as measure_on_cpu
from bench.measure.memory_cuda import measure_cell as measure_on_gpu
from bench.measure.rounds import Limits
from bench.measure.timing import time_cell
from bench.predict.fit import Target
from bench.predict.step_costs import count_cell
from bench.records.record import Kind, Record
from bench.suites.accuracy import check_parts, measure_accuracy
from bench.suites.memory_on_cpu import cpu_record
from bench.suites.memory_on_gpu import cuda_record
from bench.suites.memory_predicted import predict_cell, predicted_device, prediction_record
from bench.suites.throughput import throughput_record
from etad.config import Config, Positive, PositiveFloat, Section
from etad.distributed import alone
from etad.errors import DataError


class SuiteOptions(Section):
    """Options of a suite: what its command asks for besides the experiment."""

    @property
    def inference(self) -> bool:
        """Whether detection is looked at instead of training."""
        return False

    @property
    def wants_gpu(self) -> bool:
        """Whether the cell's network runs on a GPU where there is one."""
        return False


class MemoryOptions(SuiteOptions):
    """Options of ``etad-bench memory``."""

    device: Literal["predict", "cpu", "cuda"] = "predict"
    hardware: str | None = None
    what: Literal["train", "infer"] = "train"

    @model_validator(mode="after")
    def _hardware_is_predicted_for(self) -> Self:
        if self.hardware is not None and self.device != "predict":
            raise ValueError(f"hardware: goes with device: predict, not with {self.device}")
        return self

    @property
    def inference(self) -> bool:
        """See :class:`SuiteOptions`."""
        return self.what == "infer"

    @property
    def wants_gpu(self) -> bool:
        """See :class:`SuiteOptions`."""
        return self.device == "cuda"


class ThroughputOptions(SuiteOptions):
    """Options of ``etad-bench throughput``."""

    what: Literal["train", "infer", "data", "post"] = "train"
    device: str = "auto"
    real_data: bool = False
    min_time_s: PositiveFloat = 5.0
    rounds: Positive = 10
    max_time_s: PositiveFloat = 120.0

    @property
    def inference(self) -> bool:
        """See :class:`SuiteOptions`."""
        return self.what == "infer"

    @property
    def wants_gpu(self) -> bool:
        """See :class:`SuiteOptions`."""
        return self.device != "cpu" and self.what in ("train", "infer")


class AccuracyOptions(SuiteOptions):
    """Options of ``etad-bench accuracy``."""

    device: str = "auto"

    @property
    def wants_gpu(self) -> bool:
        """See :class:`SuiteOptions`."""
        return self.device != "cpu"


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
    def options(self) -> type[SuiteOptions]:
        """The model of its options."""

    @property
    def timeout_s(self) -> float:
        """Time for one cell, where the sweep gives none."""

    def asked(self, options: Any, environment: Environment) -> Asked:
        """Return what makes a cell with these options, on the machine described."""

    def arguments(self, options: Any) -> list[str]:
        """Return the options as words of the suite's command."""

    def check(self, config: Config, options: Any) -> None:
        """Find a user's mistake before any cell runs.

        Raises:
            UserError: the data cannot be used.
        """

    def run(self, cell: Cell, options: Any, folder: Path) -> Record:
        """Run one cell in this process, with ``folder`` for what it leaves behind, and return its record."""


class Memory:
    """Memory of a step: predicted for a GPU, or measured on the CPU or on a GPU."""

    options = MemoryOptions
    timeout_s = 3600.0

    def asked(self, options: MemoryOptions, environment: Environment) -> Asked:
        """See :class:`Suite`."""
        if options.device != "predict":
            device = device_meant(environment, options.device)
            return Asked(
                "measured", {"inference": options.inference, "device": options.device, "classes": CLASSES}, device
            )
        target = _target(options)
        measurement = {
            "inference": options.inference,
            "hardware": None if target is None else target.name,
            "hardware_memory_bytes": None if target is None else target.memory_bytes,
        }
        return Asked("predicted", measurement, predicted_device(target))

    def arguments(self, options: MemoryOptions) -> list[str]:
        """See :class:`Suite`."""
        hardware = ["--hardware", options.hardware] if options.hardware else []
        return ["--device", options.device, *hardware, *(["--inference"] if options.inference else [])]

    def check(self, config: Config, options: MemoryOptions) -> None:
        """Memory needs no data."""

    def run(self, cell: Cell, options: MemoryOptions, folder: Path) -> Record:
        """See :class:`Suite`."""
        started_at, begun = datetime.now(UTC), perf_counter()
        environment = collect_environment()
        facts = environment.model_dump(mode="json")
        if options.device == "cpu":
            on_cpu = measure_on_cpu(cell.config, cell.inference)
            measured = Outcome("ok", on_cpu, "", started_at, perf_counter() - begun)
            return cpu_record(cell, measured, facts, device_slug(environment))
        if options.device == "cuda":
            on_gpu = measure_on_gpu(cell.config, cell.inference)
            return cuda_record(cell, Outcome("ok", on_gpu, "", started_at, perf_counter() - begun), environment)
        target = _target(options)
        prediction = predict_cell(cell.config, cell.inference, target)
        predicted = Outcome("ok", prediction, "", started_at, perf_counter() - begun)
        validated = standing(predicted_device(target), [MEASURED_FOLDER])
        return prediction_record(cell, predicted, target, facts, validated)


class Throughput:
    """Time of a step, of detection, of data loading or of post-processing."""

    options = ThroughputOptions
    timeout_s = 6 * 3600.0

    def asked(self, options: ThroughputOptions, environment: Environment) -> Asked:
        """See :class:`Suite`."""
        measurement = {"what": options.what, "real_data": options.real_data}
        return Asked("measured", measurement, device_meant(environment, options.device))

    def arguments(self, options: ThroughputOptions) -> list[str]:
        """See :class:`Suite`."""
        limits = ["--min-time", f"{options.min_time_s:g}", "--rounds", str(options.rounds)]
        limits += ["--max-time", f"{options.max_time_s:g}", "--processes", "1"]
        real = ["--real-data"] if options.real_data else []
        return ["--what", options.what, "--device", options.device, *limits, *real]

    def check(self, config: Config, options: ThroughputOptions) -> None:
        """See :class:`Suite`."""
        if options.real_data or options.what == "data":
            _check_data(config)

    def run(self, cell: Cell, options: ThroughputOptions, folder: Path) -> Record:
        """See :class:`Suite`."""
        started_at, begun = datetime.now(UTC), perf_counter()
        environment = collect_environment()
        limits = Limits(options.min_time_s, options.rounds, options.max_time_s)
        timing = time_cell(cell.config, options.what, options.device, limits, options.real_data)
        # Counted when the time is taken, so that it cannot disturb.
        counts = count_cell(cell.config, options.what) if options.what in ("train", "infer") else None
        done = Outcome("ok", timing, "", started_at, perf_counter() - begun)
        measurement = self.asked(options, environment).measurement
        return throughput_record(cell, done, counts, measurement, environment, options.device, limits)


class Accuracy:
    """Training, inference and scoring."""

    options = AccuracyOptions
    timeout_s = 7 * 86400.0

    def asked(self, options: AccuracyOptions, environment: Environment) -> Asked:
        """See :class:`Suite`."""
        return Asked("measured", {}, device_meant(environment, options.device))

    def arguments(self, options: AccuracyOptions) -> list[str]:
        """See :class:`Suite`."""
        return ["--device", options.device]

    def check(self, config: Config, options: AccuracyOptions) -> None:
        """See :class:`Suite`."""
        _check_data(config)

    def run(self, cell: Cell, options: AccuracyOptions, folder: Path) -> Record:
        """See :class:`Suite`."""
        return measure_accuracy(cell.config, folder, alone(options.device), cell.command)


SUITES: Mapping[str, Suite] = {"memory": Memory(), "throughput": Throughput(), "accuracy": Accuracy()}


def _check_data(config: Config) -> None:
    """Find missing annotations and files.

    Raises:
        UserError: the data cannot be used.
    """
    if errors := [error for check in check_parts(config, files=0) for error in check.errors]:
        raise DataError("; ".join(dict.fromkeys(errors)))


def _target(options: MemoryOptions) -> Target | None:
    return None if options.hardware is None else Target.of_profile(load_profile(options.hardware))
