"""ETAD's training step and its detection, as programs that tracing.py traces.

Which phase runs is told by the step itself (it announces its phases to listeners), which module by hooks.

Draws: the step runs on fake tensors with its real generators, but samplers that look at values cannot run. They are
replaced by ``random`` with the same number of proposals or snippets, on which alone the memory depends
(value_free.py). A draw whose values are asked for is the first so many.

Forms that change no number are traced as configured, but for ``compile`` and ``cuda_graphs``: what a compiler makes of
the step, or a graph keeps, is not predicted.
"""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from bench.batches import CLASSES, fake_batch
from bench.predict.device_rules import Rules, cpu
from bench.predict.recorder import INFERENCE, Category, Recorder, Trace
from bench.predict.repetition import NotRepeatableError, RepeatedForward
from bench.predict.tracing import Session, trace_program
from bench.predict.value_free import value_free, with_chosen_form
from bench.torch_internals.dispatch import SteppingScaler
from etad.config import Config
from etad.data.batch import Batch
from etad.infer import Detecting
from etad.models.etad import Etad
from etad.offload.gradients import GradientSums
from etad.offload.optimizers import StoredAdam
from etad.offload.placement import Placement
from etad.phases import Phase
from etad.sampling.proposals import dense_grid, proposal_count
from etad.sampling.snippets import DRAWN_BY_FEATURES
from etad.seeding import stream
from etad.step import TrainingStep
from etad.train import build_optimizer


class TracedPlacement(Placement):
    """Stands for two memories, although fake tensors all seem to lie in one: what lies on the host is so labelled."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(torch.device("cpu"))
        self._recorder = recorder

    def empty_on_host(self, like: Tensor, rows: int | None = None) -> Tensor:
        """See etad.placement."""
        with self._recorder.allocating(Category.HOST):
            return super().empty_on_host(like, rows)

    def to_host(self, tensor: Tensor) -> Tensor:
        """See etad.placement."""
        return tensor if self.is_away(tensor) else self.empty_on_host(tensor).copy_(tensor)

    def to_device(self, tensor: Tensor) -> Tensor:
        """See etad.placement."""
        return self.empty_on_device(tensor).copy_(tensor) if self.is_away(tensor) else tensor

    def is_away(self, tensor: Tensor) -> bool:
        """See etad.placement."""
        return self._recorder.is_on_host(tensor)


class PhaseListener:
    """A step's listener: tells the session of phases, and the recorder what gradients and the optimizer's state are.

    Attributes:
        sums: gradients that are not in ``grad`` of the parameters.
    """

    def __init__(self, session: Session, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._phases, self._recorder = session.phases, session.recorder
        self._model, self._optimizer = model, optimizer
        self.sums: GradientSums | None = None

    def begin(self, phase: Phase) -> None:
        """See etad.phases.Listener."""
        self._phases.begin(phase)
        if phase in (Phase.UPDATE_DETECTOR, Phase.UPDATE_ENCODER):
            self._recorder.label((p.grad for p in self._model.parameters()), Category.GRADIENT)
            if self.sums is not None:
                self._recorder.label(self.sums.sums.values(), Category.GRADIENT)

    def end(self, phase: Phase) -> None:
        """See etad.phases.Listener."""
        if phase in (Phase.UPDATE_DETECTOR, Phase.UPDATE_ENCODER):
            # Only a kernel that does the whole update has the step counters on the device.
            fused = self._optimizer.param_groups[0].get("fused")
            self._recorder.label_state(self._optimizer, fused or isinstance(self._optimizer, StoredAdam))
        self._phases.end(phase)


def trace_training(config: Config, classes: int = CLASSES, rules: Rules | None = None, shortcut: bool = True) -> Trace:
    """Trace the first and a later training step of an experiment.

    Args:
        config: the experiment. Neither data nor weight files are needed.
        classes: number of classes, which only the snippet classifier uses.
        rules: the device; None: the CPU.
        shortcut: trace identical encoder calls once (see repetition.py). The events are the same without, only slower.
    """
    rules = rules or cpu()

    def traced(shortcut: bool) -> Trace:
        program = _Training(with_chosen_form(value_free(config), rules, proposal_count(config)), classes, shortcut)
        # The traced sampler reads no features, but memory is that of the configured one.
        program.draws_late = config.step.snippet_sampler in DRAWN_BY_FEATURES
        return trace_program(program, rules, config.train.batch)

    if shortcut:
        with suppress(NotRepeatableError):
            return traced(shortcut=True)
    return traced(shortcut=False)


def trace_inference(config: Config, classes: int = CLASSES, rules: Rules | None = None, shortcut: bool = True) -> Trace:
    """Trace the detection of one batch, which judges all proposals. Arguments are those of ``trace_training``."""
    rules = rules or cpu()
    proposals = len(dense_grid(config.data.length, config.model.detector.max_duration))
    traced = with_chosen_form(value_free(config), rules, proposals)
    return trace_program(_Detection(traced, classes, shortcut), rules, config.train.batch)


class _Etad:
    """What both programs have in common. The experiment needs no values."""

    def __init__(self, config: Config, classes: int, shortcut: bool) -> None:
        self.config, self._classes, self._shortcut = config, classes, shortcut

    def build(self, session: Session) -> tuple[Etad, Placement]:
        """Return the network, and what moves tensors between host and device."""
        config, recorder = self.config, session.recorder
        placement = Placement(torch.device("cpu")) if session.rules.host_memory else TracedPlacement(recorder)
        with session.building():
            model = Etad(config, self._classes)
        session.adopt(model)
        recorder.follow_modules(model)
        if self._shortcut and model.feature_extractor is not None:
            in_one_pass = config.data.length // config.step.chunk if config.step.strategy == "checkpointed" else 0
            RepeatedForward.install(model.feature_extractor, recorder, in_one_pass)
        return model, placement

    def batch(self, recorder: Recorder) -> Batch:
        """Return a batch, where the experiment wants its frames."""
        with recorder.allocating(Category.INPUT):
            batch = fake_batch(self.config)
        if self.config.efficiency.frames_on == "host" and self.config.data.input == "frames":
            recorder.label([batch.input_], Category.HOST)
        return batch


class _Training(_Etad):
    """The program of a training step; ``draws_late`` as for ``TrainedEncoding``."""

    draws_late = False

    def __call__(self, session: Session) -> Callable[[], None]:
        model, placement = self.build(session)
        config = self.config
        optimizer = build_optimizer(model.train(), config, placement)
        if config.efficiency.optimizer == "published":
            for group in optimizer.param_groups:
                group["foreach"] = session.rules.foreach
        listener = PhaseListener(session, model, optimizer)
        scaler = SteppingScaler("cpu") if config.step.precision == "fp16" else None
        step = TrainingStep(
            model, optimizer, config, [listener], placement=placement, draws_late=self.draws_late, scaler=scaler
        )
        listener.sums = step.encoding.gradient_sums

        def take_step() -> None:
            batch = self.batch(session.recorder)
            step(batch, _streams(batch))

        return take_step


class _Detection(_Etad):
    """The program that detects actions in a batch."""

    def __call__(self, session: Session) -> Callable[[], None]:
        model, placement = self.build(session)
        detecting = Detecting(model, self.config, placement=placement)

        def detect() -> None:
            session.phases.begin(INFERENCE)
            detecting(self.batch(session.recorder))
            session.phases.end(INFERENCE)

        return detect


def _streams(batch: Batch) -> Callable[[str], list[torch.Generator]]:
    return lambda purpose: [stream("trace", index, purpose) for index in batch.indices]
