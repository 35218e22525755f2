"""Task a step computes and moves, counted on fake tensors: the real step runs, every operator of it, without values.

Three counts of arithmetic, each named for what it counts:

    torch_counter_flops   torch's formulas (torch.utils.flop_counter: convolutions, matrix products, attention), 2 for a
                          multiply-add, forward and backward, everything that is computed twice counted twice; and
                          fused attention of a CPU by the formula that torch has for a GPU's
    torch_counter_excess_flops
                          part of the above that nobody computes: torch's formula for the weight gradient of a grouped
                          convolution forgets the groups, and counts as many times too much as there are groups
    lstm_formula_flops    LSTMs, which torch's counter leaves out, by our own formula; 2 for a multiply-add
    fvcore_forward_macs   fvcore's formulas, 1 for a multiply-add, one forward pass only; it also counts normalisations

Bytes moved are the sizes of every operator's inputs and outputs: an upper bound, since what is fused, or still in a
cache, is not moved. The graph is a CPU's; a GPU's differs in some fused operators, not in its arithmetic.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.batches import CLASSES, fake_batch
from bench.cells import Task
from bench.predict.made_up import Building, MadeUpArrays
from bench.predict.operator_flops import LSTM_FORMULAS, formula_of, grouped_excess_flops
from bench.predict.value_free import value_free
from bench.torch_internals.dispatch import (
    SteppingScaler,
    TorchDispatchMode,
    asks_for_device,
    device_of,
    is_composite,
    reads_a_value,
)
from bench.torch_internals.fake_mode import fake_mode
from bench.torch_internals.nested import tensors_in
from bench.torch_internals.probe import probe
from etad.config import Config
from etad.data.batch import Batch
from etad.infer import Detecting
from etad.models.detector import Detector
from etad.models.encoders import SnippetEncoder
from etad.models.etad import Etad
from etad.sampling.proposals import dense_grid, proposal_count
from etad.seeding import stream
from etad.step import TrainingStep
from etad.train import build_optimizer

COUNTING_TIMEOUT_S = 900.0

aten = torch.ops.aten
OTHER = "other"
"""Task runs in no phase."""

IDLE = {aten.empty, aten.empty_strided, aten.empty_like, aten.new_empty, aten.new_empty_strided, aten._unsafe_view}
"""They compute and move nothing; so do views, which know it of themselves, and the profiler's marks."""


@dataclass
class Cost:
    """Task was counted, of a phase or of the whole.

    Attributes:
        flops: by torch's formulas.
        excess_flops: what of them is counted too much; see the module's text.
        lstm_flops: by our formula.
        moved_bytes: inputs and outputs of all operators.
        operators: number of operators that compute or move something; about the number of kernels.
        uncounted: operators without a formula -> number of calls.
    """

    flops: int = 0
    excess_flops: int = 0
    lstm_flops: int = 0
    moved_bytes: int = 0
    operators: int = 0
    uncounted: Counter[str] = field(default_factory=Counter)

    @property
    def total_flops(self) -> int:
        """All arithmetic that was counted, and is done."""
        return self.flops - self.excess_flops + self.lstm_flops

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.flops + other.flops,
            self.excess_flops + other.excess_flops,
            self.lstm_flops + other.lstm_flops,
            self.moved_bytes + other.moved_bytes,
            self.operators + other.operators,
            self.uncounted + other.uncounted,
        )


@dataclass(frozen=True)
class ForwardMacs:
    """Task fvcore counted.

    Attributes:
        by_operator: multiply-adds by fvcore's name of the operator ("conv", "linear", "group_norm", ...).
        uncounted: operators it knows no formula for -> number of calls.
    """

    by_operator: dict[str, int]
    uncounted: dict[str, int]

    @property
    def total(self) -> int:
        """All multiply-adds."""
        return sum(self.by_operator.values())


def count(config: Config, task: Task = "train", classes: int = CLASSES) -> dict[str, Cost]:
    """Return what each phase of one step (or of the detection of one batch) costs; :data:`OTHER` is what is left.

    Neither data, weights nor the time of a real step is needed.
    """
    probe()
    config = value_free(config)
    counter = CostCounter()
    modes = ExitStack()
    with fake_mode() as fake, Building():
        model = Etad(config, classes)
    # Built outside the mode, as their tables of proposals are made by value.
    if task == "infer":
        call: Callable[[Batch], object] = Detecting(model, config, [counter])
    else:
        optimizer = build_optimizer(model.train(), config)
        scaler = SteppingScaler("cpu") if config.step.precision == "fp16" else None
        step = TrainingStep(model, optimizer, config, [counter], scaler=scaler)

        def call(batch: Batch) -> object:
            return step(batch, lambda purpose: [stream("count", index, purpose) for index in batch.indices])

    with modes:
        for mode in (fake, counter, MadeUpArrays()):
            modes.enter_context(mode)
        if task == "train":
            _make_state(model, optimizer)
        batch = fake_batch(config)
        counter.costs.clear()
        call(batch)
    return counter.costs


def _make_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take the optimizer's first step, in which it makes its state: a later step does not cost that."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


class CostCounter(TorchDispatchMode):
    """Counts operators; as a listener of the step, by phase.

    Args:
        real: the tensors have values; fake ones do not.

    Attributes:
        costs: by phase.
    """

    def __init__(self, real: bool = False) -> None:
        super().__init__()
        self._real = real
        self.costs: dict[str, Cost] = {}
        self._phase = OTHER

    def begin(self, phase: str) -> None:
        """See etad.phases.Listener."""
        self._phase = phase

    def end(self, phase: str) -> None:
        """See etad.phases.Listener."""
        self._phase = OTHER

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count it."""
        kwargs = kwargs or {}
        if asks_for_device(func):
            return device_of(args[0])
        if reads_a_value(func) and not self._real:
            # A made-up value; nothing that decides about cost depends on one.
            return 1.0 if args[0].is_floating_point() else 1
        if torch.is_inference_mode_enabled() and is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if not func.is_view and func._overloadpacket not in IDLE and func.namespace != "profiler":
            self._add(func, args, kwargs, result)
        return result

    def _add(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        cost = self.costs.setdefault(str(self._phase), Cost())
        cost.operators += 1
        cost.moved_bytes += sum(map(_size_bytes, (*tensors_in(args), *tensors_in(kwargs), *tensors_in(result))))
        formula = formula_of(func._overloadpacket)
        if formula is not None:
            cost.flops += formula(*args, **kwargs, out_val=result)
            if func is aten.convolution_backward.default:
                cost.excess_flops += grouped_excess_flops(args[0], args[1], args[9], result[1])
        elif func._overloadpacket in LSTM_FORMULAS:
            cost.lstm_flops += LSTM_FORMULAS[func._overloadpacket](*args)
        else:
            cost.uncounted[str(func._overloadpacket).removeprefix("aten.")] += 1


def forward_macs(config: Config, task: Task = "train") -> ForwardMacs:
    """Return fvcore's count of one forward pass of a batch: every snippet once, and a step's proposals.

    fvcore follows a real pass, so one snippet is encoded on the CPU (3 s for the published encoder on two cores) and
    one video detected; the counts are multiplied.
    """
    config = value_free(config)
    videos, data, channels = config.train.batch, config.data, config.data.channels
    grid = dense_grid(data.length, config.model.detector.max_duration)
    proposals = len(grid) if task == "infer" else proposal_count(config)
    operators, uncounted = Counter[str](), Counter[str]()

    def add(module: nn.Module, inputs: tuple[Tensor, ...], times: int) -> None:
        found, missed = fvcore_count(module, inputs)
        for name, number in found.items():
            operators[name] += number * times
        for name, number in missed.items():
            uncounted[name] += number * times

    if data.input == "frames":
        encoder = SnippetEncoder(config.model.encoder, data.frames)
        channels = encoder.channels
        clip = torch.zeros(1, 3, data.frames.clip_frames, data.frames.crop, data.frames.crop, dtype=torch.uint8)
        add(encoder, (clip,), videos * data.length)
    detector = _DetectorOutputs(Detector(channels, config.model.detector))
    add(detector, (torch.zeros(1, channels, data.length), grid[None, :proposals]), videos)
    return ForwardMacs(dict(operators), dict(uncounted))


def fvcore_count(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[dict[str, int], dict[str, int]]:
    """Return fvcore's multiply-adds of one call by operator, and the operators it does not count with their calls."""
    with warnings.catch_warnings():
        # fvcore uses parts of torch that are on their way out, and says so at import.
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(module.eval(), inputs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        with torch.no_grad():
            found = {name: int(number) for name, number in analysis.by_operator().items()}
            missed = {str(name): int(number) for name, number in analysis.unsupported_ops().items()}
    return found, missed


class _DetectorOutputs(nn.Module):
    """The detector with tensors for output, as fvcore's tracer wants them; it leaves out what no output needs."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, features: Tensor, proposals: Tensor) -> tuple[Tensor, ...]:
        output = self.detector(features, proposals)
        judged = [tensor for stage in output.stages for tensor in (stage.tiou, stage.boundary, stage.refined)]
        return output.boundary_maps, *judged


def _size_bytes(tensor: Tensor) -> int:
    # Task is only repeated (strides of 0) is there once.
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


@dataclass(frozen=True)
class Counts:
    """Task a step costs by arithmetic; None with the reason where it could not be counted."""

    phases: dict[str, Cost] | None
    macs: ForwardMacs | None
    reason: str = ""

    @property
    def total(self) -> Cost | None:
        """All phases together."""
        return None if self.phases is None else sum(self.phases.values(), Cost())


def count_cell(config: Config, task: Task) -> Counts:
    """Count what a cell computes; called in a process of its own, since it needs neither the device nor its time."""
    try:
        macs, reason = forward_macs(config, task), ""
    except Exception as error:  # torch.jit's tracer, which fvcore uses, fails in ways of its own
        macs, reason = None, f"fvcore cannot follow this model: {(str(error).splitlines() or [repr(error)])[0]}"
    return Counts(count(config, task, CLASSES), macs, reason)
