"""The suites: for each its options, and how cells are asked for and run. Commands and sweeps go through here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import Field, model_validator

from bench.cells import Cell, Task
from bench.compare.prediction_errors import MEASURED_FOLDER, standing
from bench.machine.datasheets import load_profile
from bench.machine.environment import Environment
from bench.machine.processes import Runner, run_all
from bench.measure.data_check import DataCheck
from bench.measure.memory_cuda import Marks, Recording
from bench.measure.rounds import Limits
from bench.predict.fit import Target
from bench.records.draft import Asked
from bench.records.inputs import input_findings
from bench.records.record import Record
from bench.suites import accuracy, memory_on_cpu, memory_on_gpu, memory_predicted, throughput
from bench.suites.accuracy import Entry, check_parts
from etad.config import Config, Positive, Section
from etad.data.annotations import Annotations, annotations_of
from etad.distributed import alone
from etad.errors import DataError
from etad.inputs import Inputs


class SuiteOptions(Section):
    """Options of a suite: what its command asks for besides the experiment."""

    @property
    def task(self) -> Task:
        """What a cell does."""
        return "train"

    @property
    def wants_gpu(self) -> bool:
        """Whether the cell's network runs on a GPU where there is one."""
        return False


class MemoryOptions(SuiteOptions):
    """Options of ``etad-bench memory``."""

    device: Literal["predict", "cpu", "cuda"] = "predict"
    """predict: for a GPU, without one. cpu, cuda: really run it here."""
    hardware: str | None = None
    """GPU to predict for: a profile's name or file."""
    what: Literal["train", "infer"] = "train"
    """A training step, or detection of one batch."""

    @model_validator(mode="after")
    def _hardware_is_predicted_for(self) -> Self:
        if self.hardware is not None and self.device != "predict":
            raise ValueError(f"hardware: goes with device: predict, not with {self.device}")
        return self

    @property
    def task(self) -> Task:
        """See :class:`SuiteOptions`."""
        return self.what

    @property
    def wants_gpu(self) -> bool:
        """See :class:`SuiteOptions`."""
        return self.device == "cuda"

    @property
    def target(self) -> Target | None:
        """The GPU that is predicted for; None: none was named."""
        return None if self.hardware is None else Target.of_profile(load_profile(self.hardware))


class ThroughputOptions(SuiteOptions):
    """Options of ``etad-bench throughput``."""

    what: Task = "train"
    """Training step, detection of a batch, reading a batch of the data set, or post-processing."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""
    real_data: bool = False
    """Batches of the data set instead of a random one."""
    min_time_s: Annotated[float, Field(ge=0.0)] = 5.0
    """Seconds to time for."""
    rounds: Positive = 10
    """Rounds to time, at least."""
    max_time_s: Annotated[float, Field(ge=0.0)] = 120.0
    """Seconds, at most."""
    processes: Positive = 1
    """Processes that time and rounds are divided among."""
    energy: bool = False
    """Measure energy and power, too, in a pass of its own."""

    @property
    def task(self) -> Task:
        """See :class:`SuiteOptions`."""
        return self.what

    @property
    def wants_gpu(self) -> bool:
        """See :class:`SuiteOptions`."""
        return self.device != "cpu" and self.what in ("train", "infer")


class AccuracyOptions(SuiteOptions):
    """Options of ``etad-bench accuracy``."""

    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""
    from_checkpoint: Path | None = None
    """Trained weights: infer and score only."""
    predictions: Path | None = None
    """Submission JSON: score only."""
    weights_key: str | None = None
    """Where in ``from_checkpoint`` the weights are. None: its moving average, if any."""

    @model_validator(mode="after")
    def _begins_at_one_place(self) -> Self:
        if self.weights_key is not None and self.from_checkpoint is None:
            raise ValueError("weights_key: goes with from_checkpoint")
        if self.from_checkpoint is not None and self.predictions is not None:
            raise ValueError("predictions: do not go with from_checkpoint; give one of them")
        return self

    @property
    def entry(self) -> Entry:
        """Where the experiment begins."""
        return Entry(self.from_checkpoint, self.predictions, self.weights_key)

    @property
    def wants_gpu(self) -> bool:
        """See :class:`SuiteOptions`."""
        return self.device != "cpu"


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

    def inputs(self, config: Config, options: Any) -> Inputs:
        """Return what a cell reads of its data, as far as that is here; its record stands as long as this does.

        Raises:
            UserError: the annotations cannot be used.
        """

    def run(self, cells: Sequence[Cell], options: Any, folder: Path, runner: Runner) -> Iterator[Record]:
        """Yield the record of every cell.

        Args:
            cells: what to run.
            options: of all of them.
            folder: for what a cell leaves behind.
            runner: ``run_all`` gives each cell a process of its own; ``run_here`` is for a process that is one.
        """


class Memory:
    """Memory of a step: predicted for a GPU, or measured on the CPU or on a GPU."""

    options = MemoryOptions
    timeout_s = 3600.0

    def asked(self, options: MemoryOptions, environment: Environment) -> Asked:
        """See :class:`Suite`."""
        if options.device == "cpu":
            return memory_on_cpu.asked(options.task, environment)
        if options.device == "cuda":
            return memory_on_gpu.asked(options.task, environment)
        return memory_predicted.asked(options.task, options.target)

    def arguments(self, options: MemoryOptions) -> list[str]:
        """See :class:`Suite`."""
        hardware = ["--hardware", options.hardware] if options.hardware else []
        return ["--device", options.device, *hardware, *(["--inference"] if options.task == "infer" else [])]

    def check(self, config: Config, options: MemoryOptions) -> None:
        """Memory needs no data."""

    def inputs(self, config: Config, options: MemoryOptions) -> Inputs:
        """Memory depends on no data."""
        return {}

    def run(
        self,
        cells: Sequence[Cell],
        options: MemoryOptions,
        folder: Path,
        runner: Runner,
        validations: Sequence[Path] = (MEASURED_FOLDER,),
        recording: Recording | None = None,
        marked: Callable[[Marks | None], None] | None = None,
    ) -> Iterator[Record]:
        """See :class:`Suite`.

        Args:
            cells, options, folder, runner: as there.
            validations: folders of records that tell how right predictions were.
            recording: of what CUDA's allocator does.
            marked: gets, of each cell, the times of the phases in what was recorded; None where nothing was.
        """
        if options.device == "cpu":
            yield from memory_on_cpu.measure_cells(cells, runner)
        elif options.device == "cuda":
            for record, marks in memory_on_gpu.measure_cells(cells, recording, runner):
                if marked is not None:
                    marked(marks)
                yield record
        else:
            known = standing(memory_predicted.predicted_device(options.target), validations)
            yield from memory_predicted.predict_cells(cells, options.target, known, runner)


class Throughput:
    """Time of a step, of detection, of data loading or of post-processing."""

    options = ThroughputOptions
    timeout_s = 6 * 3600.0

    def asked(self, options: ThroughputOptions, environment: Environment) -> Asked:
        """See :class:`Suite`."""
        return throughput.asked(options.what, options.real_data, environment, options.device)

    def arguments(self, options: ThroughputOptions) -> list[str]:
        """See :class:`Suite`."""
        limits = ["--min-time", f"{options.min_time_s:g}", "--rounds", str(options.rounds)]
        limits += ["--max-time", f"{options.max_time_s:g}", "--processes", str(options.processes)]
        flags = [*(["--real-data"] if options.real_data else []), *(["--energy"] if options.energy else [])]
        return ["--what", options.what, "--device", options.device, *limits, *flags]

    def check(self, config: Config, options: ThroughputOptions) -> None:
        """See :class:`Suite`."""
        if options.real_data or options.what == "data":
            _check_data(config)

    def inputs(self, config: Config, options: ThroughputOptions) -> Inputs:
        """See :class:`Suite`."""
        return _inputs(config, Entry()) if options.real_data or options.what == "data" else {}

    def run(self, cells: Sequence[Cell], options: ThroughputOptions, folder: Path, runner: Runner) -> Iterator[Record]:
        """See :class:`Suite`."""
        inputs = [input_findings(self.inputs(cell.config, options)) for cell in cells]
        limits = Limits(options.min_time_s, options.rounds, options.max_time_s, options.processes)
        # One process cannot stand for several.
        own = runner if options.processes == 1 else run_all
        records = throughput.measure_cells(
            cells, options.what, options.device, limits, options.real_data, options.energy, own
        )
        for record, found in zip(records, inputs, strict=True):
            yield record.model_copy(update={"findings": record.findings | found}) if found else record


class Accuracy:
    """Training, inference and scoring."""

    options = AccuracyOptions
    timeout_s = 7 * 86400.0

    def asked(self, options: AccuracyOptions, environment: Environment) -> Asked:
        """See :class:`Suite`."""
        return accuracy.asked(options.entry, environment, options.device)

    def arguments(self, options: AccuracyOptions) -> list[str]:
        """See :class:`Suite`."""
        files = {"--from-checkpoint": options.from_checkpoint, "--predictions": options.predictions}
        begun = [word for option, path in files.items() if path is not None for word in (option, str(path))]
        begun += [] if options.weights_key is None else ["--weights-key", options.weights_key]
        return ["--device", options.device, *begun]

    def check(self, config: Config, options: AccuracyOptions) -> None:
        """See :class:`Suite`. Predictions that are there need no features or videos."""
        options.entry.check(config)
        if options.predictions is None:
            _check_data(config)

    def inputs(self, config: Config, options: AccuracyOptions) -> Inputs:
        """See :class:`Suite`."""
        return _inputs(config, options.entry)

    def run(
        self,
        cells: Sequence[Cell],
        options: AccuracyOptions,
        folder: Path,
        runner: Runner,
        checks: Sequence[DataCheck] | None = None,
        annotations: Annotations | None = None,
    ) -> Iterator[Record]:
        """See :class:`Suite`. The cells run in this process, whatever the runner, so that Ctrl-C keeps what is done.

        Args:
            cells, options, folder, runner: as there.
            checks: of the data, by fold; None: each cell looks for itself.
            annotations: those of the cells' data; None: each cell reads its own.
        """
        for cell in cells:
            world = alone(options.device)
            yield accuracy.measure_accuracy(cell, folder, world, options.entry, checks, annotations)


SUITES: Mapping[str, Suite] = {"memory": Memory(), "throughput": Throughput(), "accuracy": Accuracy()}


def _inputs(config: Config, entry: Entry) -> Inputs:
    """Return what an experiment that begins at ``entry`` reads; nothing where its annotations are not here."""
    data = config.data
    return entry.inputs(config, annotations_of(data)) if data.path(data.annotations).is_file() else {}


def _check_data(config: Config) -> None:
    """Find missing annotations and files.

    Raises:
        UserError: the data cannot be used.
    """
    if errors := [error for check in check_parts(config, files=0) for error in check.errors]:
        raise DataError("; ".join(dict.fromkeys(errors)))
