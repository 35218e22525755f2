"""Where the tensors of somebody's program lie, host or GPU, and what is asked of them that fake tensors cannot tell.

While a program is traced all its tensors are a CPU's fake ones. What the program calls a CUDA tensor (``.cuda()``,
``.to("cuda")``, ``device="cuda"``) is so labelled, and what is computed from it, too; copies between the two are made
where a real run makes them. A program that never names a device is taken to run on the GPU with all it has.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.predict.allocator import Event
from bench.predict.device_rules import Rules
from bench.predict.known_values import KnownValues
from bench.predict.recorder import Category, Recorder
from bench.predict.source_lines import caller_is_torch, running_line
from bench.predict.tracing import in_order_of_transfer
from bench.torch_internals.as_if_cuda import default_device, makes_tensors
from bench.torch_internals.nested import tensors_in
from etad.errors import UserError


class StepError(UserError):
    """A step that cannot be predicted; the message names the line at fault, and how to go on."""


class PlacingRecorder(Recorder):
    """Writes down allocations of a program that names its devices itself, with the lines that make them.

    Args:
        rules: how the device differs from what runs.
        assumed_value: what is answered where a value is read that cannot be known; None: that is refused.

    Attributes:
        names_gpu: whether the program has named the GPU. Until it does, all is on the host.
        everything_on_gpu: whether all is on the GPU, as the program names none.
        is_building: whether the program still builds what it needs.
        foreach: whether an optimizer works on all tensors of a group at once where it is not told how.
        around_backward: makes a context for each backward pass.
    """

    def __init__(self, rules: Rules, assumed_value: float | None = None) -> None:
        super().__init__(rules)
        self.names_gpu = False
        self.everything_on_gpu = False
        self.is_building = True
        self.foreach = rules.foreach
        self.around_backward: Callable[[], AbstractContextManager[None]] = nullcontext
        self._assumed_value = assumed_value
        self._placed_on_gpu: bool | None = None
        self._values = KnownValues()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See the base; values that follow from constants are kept besides."""
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if isinstance(result, Tensor) or func._schema.is_mutable:
            self._values.follow(func, args, kwargs or {}, result)
        return result

    @contextmanager
    def backward(self) -> Iterator[None]:
        """See the base."""
        with nullcontext() if self.in_backward else self.around_backward(), super().backward():
            yield

    @contextmanager
    def placing(self, on_gpu: bool | None) -> Iterator[None]:
        """Let what is made inside lie on the GPU, on the host, or (None) where it comes from."""
        before, self._placed_on_gpu = self._placed_on_gpu, on_gpu
        yield
        self._placed_on_gpu = before

    def category_of(self, operator: Any, args: Any, kwargs: Any) -> Category:
        """Return what is made on the host, and what is not."""
        on_gpu = self._placed_on_gpu
        if on_gpu is None:
            given = [*tensors_in(args), *tensors_in(kwargs)]
            # A backward pass runs without the modes that would tell where its own tensors are made.
            on_gpu = any(map(self.is_on_gpu, given)) if given else self.everything_on_gpu or self.in_backward
        return self._default if on_gpu else Category.HOST

    def is_on_gpu(self, tensor: Tensor) -> bool:
        """Tell whether a tensor would lie on the GPU in a real run."""
        key = self.key_of(tensor)
        return key is not None and self.allocations[key].category is not Category.HOST

    def end_building(self, models: Mapping[str, nn.Module], flatten: Callable[[str, nn.Module], None]) -> None:
        """Settle where everything lies that the program has built, and what for.

        A model of a program that names no device is noted as one that is moved to the GPU, before all else.

        Args:
            models: the program's models by their names; a name ends in a dot, or is empty.
            flatten: called for each module once its tensors are noted.
        """
        alive = list(dict.fromkeys(self._keys.values()))
        self.everything_on_gpu = not self.names_gpu
        if self.everything_on_gpu:
            self.events.clear()
        seen: set[int] = set()
        for prefix, model in models.items():
            for name, module in in_order_of_transfer(model, prefix):
                for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                    self._settle(self.key_of(tensor), Category.PARAMETER, name, seen)
                if all(map(self.is_on_gpu, module.parameters())):
                    flatten(name, module)
        for key in alive:
            self._settle(key, Category.INPUT, "", seen)
        self.is_building = False

    def _settle(self, key: int | None, category: Category, module: str, seen: set[int]) -> None:
        if key is None or key in seen:
            return
        seen.add(key)
        allocation = self.allocations[key]
        if self.everything_on_gpu:
            self.events.append(Event(key, allocation.size_bytes))
        elif allocation.category is Category.HOST:
            return
        if allocation.category in (Category.HOST, Category.WORKSPACE):
            allocation.category = category
        allocation.module = allocation.module or module

    def line(self) -> str:
        """Return the line of the user's file that is running."""
        return running_line()

    def value_of(self, tensor: Tensor) -> float | int:
        """Answer for a value.

        Raises:
            StepError: it is not known, and the step reads it.
        """
        known = self._values.value_of(tensor)
        if known is not None:
            return known
        if self.is_building:
            return 0  # Weights are drawn again while any is out of range.
        if _reader_is_an_optimizer():
            return 1  # Step counters scale numbers only.
        if self._assumed_value is None:
            raise StepError(
                f"{running_line()}: the step reads a value of a tensor (.item(), float(), if, print), which only a "
                "real run has; take it out of the step, or let predict_step assume a number (assume_value=)"
            )
        return self._assumed_value if tensor.is_floating_point() else int(self._assumed_value)

    def _end(self, identity: int) -> None:
        self._values.forget(identity)
        super()._end(identity)


def _reader_is_an_optimizer() -> bool:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith("torch.optim"):
            return True
        if not name.startswith(("torch", "bench")):
            return False
        frame = frame.f_back
    return False


GPU = torch.device("cuda", 0)
GPU_WITHIN_TORCH = torch.device("cpu", 0)
"""What torch's own code is told: it is to treat the tensor as what it is here, and to name this device for others that
belong beside it. Nobody else gives the CPU a number."""
DEVICE, IS_CUDA = torch.Tensor.device.__get__, torch.Tensor.is_cuda.__get__  # type: ignore[attr-defined]


class Placing(TorchFunctionMode):
    """Takes the names of devices out of calls, and lets the recorder know of them."""

    def __init__(self, recorder: PlacingRecorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (DEVICE, IS_CUDA):
            if not self._recorder.is_on_gpu(args[0]):
                return func(*args)
            within_torch = caller_is_torch(sys._getframe(1))
            return not within_torch if func == IS_CUDA else GPU_WITHIN_TORCH if within_torch else GPU
        if func is torch.Tensor.cuda:
            return self._moved(args[0], torch.device("cuda"), (), _without(kwargs, "device", "non_blocking"))
        if func is torch.Tensor.cpu:
            return self._moved(args[0], torch.device("cpu"), (), _without(kwargs, "non_blocking"))
        if func is torch.Tensor.to:
            return self._to(*args, **kwargs)
        if func is torch.Tensor.pin_memory:
            return args[0]
        if func is torch.Tensor.record_stream:
            return None
        if func in (torch.as_tensor, torch.asarray) and isinstance(args[0], Tensor):
            device, dtype = kwargs.get("device"), kwargs.get("dtype")
            return self._to(args[0], *(part for part in (device, dtype) if part is not None))
        return self._placed(func, args, kwargs)

    def _placed(self, func: Any, args: Any, kwargs: Any) -> Any:
        device = kwargs.get("device")
        if device is None and makes_tensors(func):
            device = default_device()
        if device is None:
            return func(*args, **kwargs)
        on_gpu = self._is_gpu(device)
        kwargs = {**kwargs, "device": "cpu" if on_gpu is not None else device}
        with self._recorder.placing(on_gpu):
            return func(*args, **kwargs)

    def _to(self, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs = _without(kwargs, "non_blocking")
        device: Any = kwargs.pop("device", None)
        other = kwargs.pop("other", None)
        rest = []
        for argument in args:
            if isinstance(argument, str | torch.device) or type(argument) is int:
                device = argument
            elif isinstance(argument, Tensor):
                other = argument
            elif isinstance(argument, torch.dtype):
                rest.append(argument)
            # What is left are flags: non_blocking, copy.
        if other is not None:
            device, rest = GPU if self._recorder.is_on_gpu(other) else torch.device("cpu"), [other.dtype]
        if device is None:
            return tensor.to(*rest, **kwargs)
        return self._moved(tensor, device, rest, kwargs)

    def _moved(self, tensor: Tensor, device: Any, rest: Any, kwargs: Any) -> Any:
        on_gpu = self._is_gpu(device)
        if on_gpu is None:
            return tensor.to(device, *rest, **kwargs)
        if on_gpu != self._recorder.is_on_gpu(tensor) and not (on_gpu and self._recorder.everything_on_gpu):
            kwargs = {**kwargs, "copy": True}
        with self._recorder.placing(on_gpu):
            return tensor.to("cpu", *rest, **kwargs)

    def _is_gpu(self, device: Any) -> bool | None:
        """Tell whether a device is the GPU, or the host; None: neither, such as "meta"."""
        if device == GPU_WITHIN_TORCH:
            return True
        kind = "cuda" if type(device) is int else torch.device(device).type
        if kind == "cuda":
            self._recorder.names_gpu = True
        return {"cuda": True, "cpu": False}.get(kind)


def _without(kwargs: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in names}
