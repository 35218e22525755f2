"""The GPU memory of anybody's training step, predicted without a GPU.

    def make_step(batch: int = 32):
        model = torchvision.models.resnet50().cuda()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        images = torch.randn(batch, 3, 224, 224, device="cuda")
        labels = torch.zeros(batch, dtype=torch.long, device="cuda")

        def step():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()

        return step

    print(predict_step(make_step, {"batch": 64}).reserved)

The function is an ordinary one, and the step it returns may be the one that really trains. It is run twice on fake
tensors (tracing.py), so it needs no GPU, no data and no time to speak of; all that it uses must be built inside it. A
function that names no device is taken to run on the GPU with all it has.
"""

import gc
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from bench.machine.datasheets import HardwareProfile, load_profile
from bench.predict.allocator import DEFAULT_SETTINGS
from bench.predict.device_rules import DEFAULT_CAPABILITY, DEFAULT_MULTIPROCESSORS, cuda
from bench.predict.distributed import Gradients, distribute, without_processes
from bench.predict.fit import Fit, Target, judge_fit
from bench.predict.memory import Composition, Interval, MemoryPrediction, predict_from_trace
from bench.predict.placing import Placing, PlacingRecorder, StepError
from bench.predict.recorder import Category, Trace
from bench.predict.releases import PREFERS_OLDEST_SEGMENT, release_of
from bench.predict.source_lines import line_in, line_of, running_line
from bench.predict.tracing import Phases, Session, trace_program
from bench.torch_internals.as_if_cuda import as_if_cuda
from bench.torch_internals.dispatch import FakeTensor, ValueNeededError
from bench.units import GIB
from etad.errors import ConfigError, UserError

MakeStep = Callable[..., Callable[[], object]]
"""Builds model, optimizer and batch; returns the callable that runs one step."""
BATCH_ARGUMENTS = ("batch", "batch_size")
"""Names of the argument that is taken for the batch size."""
FORWARD, BACKWARD, OPTIMIZER = "forward", "backward", "optimizer"
"""Phases of a step that marks none itself. What is neither backward pass nor optimizer is forward."""
MEMORY_BYTES = 80 * GIB
"""What a program is told that asks how much memory there is."""


@dataclass(frozen=True)
class Step:
    """A step, and the conditions it is predicted under.

    Attributes:
        make_step: builds it.
        arguments: what it is called with.
        ddp: whether it runs under DistributedDataParallel, with gradients that are views of its buckets or copies;
            None: alone, or the function makes one itself.
        torch_release: of the torch that is to run it, (2, 15) for instance; None: the one that is here.
        assume_value: what a step is told that reads a value of a tensor; None: that is refused.
    """

    make_step: MakeStep
    arguments: Mapping[str, Any] = field(default_factory=dict)
    ddp: Gradients | None = None
    torch_release: tuple[int, int] | None = None
    assume_value: float | None = None

    @property
    def batch(self) -> int | None:
        """The batch size; None: no argument is called ``batch`` or ``batch_size``."""
        name = self.batch_argument
        if name is None:
            return None
        default = inspect.signature(self.make_step).parameters[name].default
        value = self.arguments.get(name, default)
        return value if isinstance(value, int) else None

    @property
    def batch_argument(self) -> str | None:
        """The argument that is the batch size, if there is one."""
        parameters = inspect.signature(self.make_step).parameters
        return next((name for name in BATCH_ARGUMENTS if name in parameters), None)

    def with_batch(self, batch: int) -> "Step":
        """Return the step at another batch size.

        Raises:
            ConfigError: the function has no argument for it.
        """
        name = self.batch_argument
        if name is None:
            raise ConfigError(
                f"{_name(self.make_step)}: has no argument batch or batch_size that a batch could be given"
            )
        return replace(self, arguments={**self.arguments, name: batch})

    def trace(
        self,
        compute_capability: tuple[int, int] = DEFAULT_CAPABILITY,
        multiprocessors: int = DEFAULT_MULTIPROCESSORS,
    ) -> Trace:
        """Trace the step with the rules of a GPU; random generators are left as they were.

        Raises:
            StepError: it cannot be predicted; the message names the line at fault.
        """
        rules = cuda(compute_capability, self.torch_release, multiprocessors)
        recorder = PlacingRecorder(rules, self.assume_value)
        with ExitStack() as around:
            around.enter_context(_explained(self.make_step))
            around.enter_context(_random_state_kept())
            around.enter_context(as_if_cuda(compute_capability, MEMORY_BYTES, recorder.backward))
            around.enter_context(without_compiling())
            around.enter_context(without_processes(recorder))
            program = _Program(self, around)
            return trace_program(program, rules, self.batch or 1, recorder)


@dataclass(frozen=True)
class StepPrediction:
    """The predicted memory of a step.

    Attributes:
        step: what was predicted.
        memory: peaks, phase by phase, with the interval that cuDNN's unknown scratch leaves.
        trace: every allocation of the first and of a later step.
        target: the GPU it was predicted for; None: any of compute capability 8.0.
    """

    step: Step
    memory: MemoryPrediction
    trace: Trace
    target: Target | None

    @property
    def allocated(self) -> Interval:
        """Peak of ``torch.cuda.max_memory_allocated()`` over the steps."""
        return _known(self.memory.allocated)

    @property
    def reserved(self) -> Interval:
        """Peak of ``torch.cuda.max_memory_reserved()`` over the steps."""
        return _known(self.memory.reserved)

    @property
    def composition(self) -> Composition:
        """What is alive at the peak: bytes by category and by module, the largest tensors with their lines."""
        assert self.memory.composition is not None
        return self.memory.composition

    def fits(self, hardware: "str | HardwareProfile | Target | None" = None, reserve_bytes: int = 0) -> Fit:
        """Say whether the step fits a GPU.

        Args:
            hardware: a profile, its name or its file (``etad-bench profiles``); None: the one it was predicted for.
            reserve_bytes: memory that is to stay free.

        Raises:
            ConfigError: there is no such profile, or no GPU was named.
        """
        target = self.target if hardware is None else target_of(hardware)
        if target is None:
            raise ConfigError("fits(): name a GPU, since the step was predicted for none")
        found = self
        if _rules(target) != _rules(self.target):
            found = predict(self.step, target)
        target = replace(target, memory_bytes=target.memory_bytes - reserve_bytes)
        return judge_fit(replace(found.memory, context_bytes=target.context_bytes), target, found.trace)


def predict_step(
    make_step: MakeStep,
    arguments: Mapping[str, Any] | None = None,
    *,
    hardware: str | HardwareProfile | Target | None = None,
    torch_release: str | tuple[int, int] | None = None,
    ddp: Gradients | None = None,
    assume_value: float | None = None,
) -> StepPrediction:
    """Predict the GPU memory of a step, without a GPU.

    Args:
        make_step: builds model, optimizer and batch, and returns the callable that runs one step.
        arguments: what it is called with. An argument ``batch`` or ``batch_size`` is taken for the batch size, and
            ``device`` is "cuda" where it has no default.
        hardware: the GPU: a profile, its name or its file; None: any of compute capability 8.0.
        torch_release: of the torch that is to run it, "2.15" for instance; None: the one that is here.
        ddp: "views" or "copies": as under DistributedDataParallel, with or without ``gradient_as_bucket_view``.
        assume_value: what a step is told that reads a value of a tensor, which fake ones do not have.

    Raises:
        StepError: the step cannot be predicted: it reads values, is compiled, or fails; the message names the line.
        ConfigError: there is no such hardware or release.
    """
    release = known_release(torch_release) if isinstance(torch_release, str) else torch_release
    step = Step(make_step, dict(arguments or {}), ddp, release, assume_value)
    return predict(step, None if hardware is None else target_of(hardware))


def predict(step: Step, target: Target | None) -> StepPrediction:
    """Predict the memory of a step; see :func:`predict_step`."""
    trace = step.trace(*_rules(target))
    settings = DEFAULT_SETTINGS
    if step.torch_release is not None:
        settings = replace(settings, prefers_oldest=step.torch_release >= PREFERS_OLDEST_SEGMENT)
    context_bytes = None if target is None else target.context_bytes
    memory = predict_from_trace(trace, context_bytes=context_bytes, settings=settings)
    return StepPrediction(step, memory, trace, target)


def target_of(hardware: str | HardwareProfile | Target) -> Target:
    """Return the GPU that is meant: a profile, its name or its file.

    Raises:
        ConfigError: there is no such profile.
    """
    if isinstance(hardware, Target):
        return hardware
    return Target.of_profile(load_profile(hardware) if isinstance(hardware, str) else hardware)


FIRST_RELEASE = (2, 0)
"""The first torch whose allocations the rules know."""
LAST_RELEASE = (2, 15)
"""The last one."""


def known_release(text: str) -> tuple[int, int]:
    """Return a release of torch that the rules know.

    Raises:
        ConfigError: it is none.
    """
    try:
        release = release_of(text)
    except ValueError:
        release = (0, 0)
    if not FIRST_RELEASE <= release <= max(LAST_RELEASE, release_of(torch.__version__)):
        first, last = (".".join(map(str, one)) for one in (FIRST_RELEASE, LAST_RELEASE))
        raise ConfigError(f"torch release {text}: the rules know {first} to {last}; write it as {last}")
    return release


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Mark a part of a step, which then has peaks of its own; without effect in a real run.

    Args:
        name: of the phase. Without marks a step has the phases forward, backward and optimizer.
    """
    marks = _Marks.active
    with nullcontext() if marks is None else marks.inside(name, is_users=True):
        yield


class _Marks:
    """Cuts a step into phases: those that it marks, otherwise by what runs."""

    active: "_Marks | None" = None
    """Of the step that is being traced."""

    def __init__(self, phases: Phases) -> None:
        self._phases = phases
        self._names = [FORWARD]
        self._marked = 0

    @contextmanager
    def inside(self, name: str, is_users: bool = False) -> Iterator[None]:
        """Give what happens inside a name. What a step marks itself is not cut further."""
        if self._marked and not is_users:
            yield
            return
        self._phases.mark(self._names[-1])
        self._names.append(name)
        self._marked += is_users
        yield
        self._marked -= is_users
        self._phases.mark(self._names.pop())

    def end(self) -> None:
        """The step is over."""
        self._phases.mark(FORWARD)


class _Program:
    """A user's function as a program for the tracer.

    Args:
        step: what to trace.
        around: what has to be undone after the trace.
    """

    def __init__(self, step: Step, around: ExitStack) -> None:
        self._step, self._around = step, around

    def __call__(self, session: Session) -> Callable[[], None]:
        recorder = session.recorder
        assert isinstance(recorder, PlacingRecorder)
        recorder.recomputing = lambda: Placing(recorder)
        session.more_modes.append(recorder.recomputing)
        marks = _Marks(session.phases)
        self._around.enter_context(_marking(marks, recorder))
        with session.running():
            before = _modules()
            step: Any = self._step.make_step(**_arguments(self._step))
            if not callable(step):
                what = type(step).__name__ if step is not None else "nothing"
                raise StepError(
                    f"{_place(self._step.make_step)}: has to return the callable that runs a step, not {what}"
                )
            models = _roots(before)
            for model in models.values():
                _refuse_real(model)
            recorder.end_building(models, session.flatten)
            for prefix, model in models.items():
                recorder.follow_modules(model, prefix.removesuffix("."))
                if self._step.ddp is not None and any(one.requires_grad for one in model.parameters()):
                    distribute(model, self._step.ddp, recorder)

        def take_step() -> None:
            step()
            marks.end()

        return take_step


def _arguments(step: Step) -> dict[str, Any]:
    arguments = dict(step.arguments)
    parameters = inspect.signature(step.make_step).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    if "device" in parameters and parameters["device"].default is inspect.Parameter.empty:
        arguments.setdefault("device", "cuda")
    unknown = [name for name in arguments if name not in parameters and not takes_any]
    missing = [
        name
        for name, one in parameters.items()
        if one.default is one.empty
        and name not in arguments
        and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    if unknown or missing:
        problem = f"has no argument {unknown[0]}" if unknown else f"needs the argument {missing[0]}"
        names = ", ".join(parameters) or "none"
        raise ConfigError(f"{_place(step.make_step)}: {_name(step.make_step)} {problem}; its arguments are: {names}")
    return arguments


@contextmanager
def _marking(marks: _Marks, recorder: PlacingRecorder) -> Iterator[None]:
    """Follow backward passes and optimizers: they are phases, and tell what gradients and states are."""
    inside: list[AbstractContextManager[None]] = []

    def before(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if not all(isinstance(parameter, FakeTensor) for parameter in parameters):
            raise StepError(
                f"{running_line()}: the optimizer has parameters from outside the function; build them in it"
            )
        recorder.label((parameter.grad for parameter in parameters), Category.GRADIENT)
        for group in optimizer.param_groups:
            # The default for CUDA tensors, which these do not look like; see Rules.foreach.
            if group.get("foreach", 0) is None and not group.get("fused") and not group.get("differentiable"):
                group["foreach"] = recorder.foreach
        inside.append(marks.inside(OPTIMIZER))
        inside[-1].__enter__()

    def after(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        inside.pop().__exit__(None, None, None)
        on_device = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
        recorder.label_state(optimizer, on_device or not recorder.everything_on_gpu)

    hooks = register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)
    recorder.around_backward = lambda: marks.inside(BACKWARD)
    _Marks.active = marks
    try:
        yield
    finally:
        _Marks.active = None
        for hook in hooks:
            hook.remove()


def _modules() -> dict[int, nn.Module]:
    return {id(one): one for one in gc.get_objects() if issubclass(type(one), nn.Module)}


def _roots(before: Mapping[int, nn.Module]) -> dict[str, nn.Module]:
    """Return the models that came into being, by the prefix of their modules' paths: none where there is one model."""
    gc.collect()
    found = [module for identity, module in _modules().items() if identity not in before]
    below = {id(child) for module in found for child in module.children()}
    roots = [module for module in found if id(module) not in below and any(True for _ in module.parameters())]
    if len(roots) == 1:
        return {"": roots[0]}
    names: dict[str, nn.Module] = {}
    for root in roots:
        kind = type(root).__name__
        number = sum(name.rstrip(".").partition("#")[0] == kind for name in names)
        names[f"{kind}#{number + 1}." if number else f"{kind}."] = root
    return names


def _refuse_real(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not isinstance(parameter, FakeTensor):
            raise StepError(f"{type(model).__name__}.{name}: was made outside the function; build the model in it")


@contextmanager
def without_compiling() -> Iterator[None]:
    """Refuse ``torch.compile``: what a compiler makes of a step is not predicted."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise StepError(
            f"{running_line()}: torch.compile cannot be predicted; leave it out, and the step is predicted as it runs "
            "without"
        )

    with patch.object(torch, "compile", refuse), patch.object(nn.Module, "compile", refuse):
        yield


@contextmanager
def _random_state_kept() -> Iterator[None]:
    state = random.getstate()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(state)


@contextmanager
def _explained(make_step: MakeStep) -> Iterator[None]:
    """Turn whatever goes wrong in a user's function into one line that names the place.

    Raises:
        StepError: instead of any other error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        place = line_in(error.__traceback__) or _place(make_step)
        raise StepError(f"{place}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ValueNeededError):
        return (
            "the size of a result depends on values, which only a real run has (nonzero, a boolean mask, unique); "
            "use a form of fixed size, such as torch.where"
        )
    if isinstance(error, ImportError):
        return f"{error}; the step is traced with the packages that are installed here"
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0] if lines else 'without a message'}"
    if isinstance(error, NotImplementedError):
        text += "; an operator of an extension needs a fake kernel (torch.library.register_fake)"
    return text


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _place(function: Any) -> str:
    code = getattr(function, "__code__", None)
    return _name(function) if code is None else line_of(code.co_filename, code.co_firstlineno)


def _rules(target: Target | None) -> tuple[tuple[int, int], int]:
    """Return what the rules depend on."""
    if target is None:
        return DEFAULT_CAPABILITY, DEFAULT_MULTIPROCESSORS
    known = None if target.profile is None else target.profile.multiprocessors
    return target.compute_capability, known or DEFAULT_MULTIPROCESSORS


def _known(interval: Interval | None) -> Interval:
    assert interval is not None
    return interval


def step_name(make_step: MakeStep) -> str:
    """Return FILE:FUNCTION, for people."""
    code = getattr(make_step, "__code__", None)
    return _name(make_step) if code is None else f"{Path(code.co_filename).name}:{_name(make_step)}"
