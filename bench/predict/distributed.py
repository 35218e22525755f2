"""What DistributedDataParallel keeps besides the model: the buckets that gradients are exchanged in.

Rules learnt from torch/csrc/distributed/c10d/reducer.cpp (PyTorch 2.14; BSD-3-Clause), ``initialize_buckets``,
``compute_bucket_assignment_by_size`` and ``rebuild_buckets``: gradients go into flat buckets, which are made before the
first step in the order of the parameters, and once more, in the order in which gradients arrived, before the second.
With ``gradient_as_bucket_view`` a parameter's ``grad`` is a view of its bucket from its first arrival on; otherwise
buckets lie beside the gradients. What NCCL itself takes is outside torch's allocator.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch import Tensor, nn

from bench.predict.recorder import Category, Recorder
from bench.torch_internals.dispatch import storage_id
from bench.units import MIB

Gradients = Literal["views", "copies"]
FIRST_BUCKET_BYTES = 1 * MIB
BUCKET_BYTES = 25 * MIB


class Buckets:
    """The buckets of a model's gradients.

    Args:
        parameters: those that want gradients, in the order of the model.
        gradients: whether they are views of the buckets, or copied into them.
        recorder: notes the buckets as gradients.
        bucket_bytes: size at which a bucket is full; the first is full at 1 MiB.
    """

    def __init__(
        self, parameters: Sequence[Tensor], gradients: Gradients, recorder: Recorder, bucket_bytes: int = BUCKET_BYTES
    ) -> None:
        self._gradients, self._recorder, self._bucket_bytes = gradients, recorder, bucket_bytes
        self._parameters = list(parameters)
        self._arrived: list[int] = []
        self._rebuilt = False
        self.is_synchronising = True
        self._views = self._allocate(range(len(self._parameters)))
        for number, parameter in enumerate(self._parameters):
            hook: Any = parameter
            hook.register_post_accumulate_grad_hook(lambda arrived, number=number: self._arrive(number, arrived))

    def begin_forward(self) -> None:
        """Make the buckets anew, once, in the order in which gradients arrived."""
        if not self._rebuilt and len(self._arrived) == len(self._parameters):
            self._rebuilt = True
            self._views = self._allocate(self._arrived)

    def _allocate(self, order: Sequence[int]) -> dict[int, Tensor]:
        views: dict[int, Tensor] = {}
        with torch.no_grad(), self._recorder.allocating(Category.GRADIENT):
            for bucket in assigned([self._parameters[number] for number in order], self._bucket_bytes):
                numbers = [order[position] for position in bucket]
                like = self._parameters[numbers[0]]
                flat = like.new_zeros(sum(self._parameters[number].numel() for number in numbers))
                parts = flat.split([self._parameters[number].numel() for number in numbers])
                for number, part in zip(numbers, parts, strict=True):
                    views[number] = part.view(self._parameters[number].shape)
        return views

    def _arrive(self, number: int, parameter: Tensor) -> None:
        if not self.is_synchronising or parameter.grad is None:
            return
        if not self._rebuilt and number not in self._arrived:
            self._arrived.append(number)
        view = self._views[number]
        if self._gradients == "copies":
            view.copy_(parameter.grad)
        elif storage_id(parameter.grad) != storage_id(view):
            view.copy_(parameter.grad)
            parameter.grad = view


def assigned(parameters: Sequence[Tensor], bucket_bytes: int = BUCKET_BYTES) -> list[list[int]]:
    """Return the positions of the parameters of each bucket: it is full once it has reached its size.

    Parameters of another type are gathered in buckets of their own.
    """
    full: list[list[int]] = []
    open_: dict[torch.dtype, tuple[list[int], int]] = {}
    limits: dict[torch.dtype, int] = {}
    for position, parameter in enumerate(parameters):
        positions, size = open_.pop(parameter.dtype, ([], 0))
        positions.append(position)
        size += parameter.numel() * parameter.element_size()
        if size >= limits.get(parameter.dtype, min(FIRST_BUCKET_BYTES, bucket_bytes)):
            full.append(positions)
            limits[parameter.dtype] = bucket_bytes
        else:
            open_[parameter.dtype] = positions, size
    return full + [positions for positions, _ in open_.values()]


def distribute(model: nn.Module, gradients: Gradients, recorder: Recorder, bucket_bytes: int = BUCKET_BYTES) -> Buckets:
    """Give a model's gradients buckets, as DistributedDataParallel does where it is made."""
    wanting = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buckets = Buckets(wanting, gradients, recorder, bucket_bytes)
    model.register_forward_pre_hook(lambda *_: buckets.begin_forward())
    return buckets


@contextmanager
def without_processes(recorder: Recorder) -> Iterator[None]:
    """Let a program make a DistributedDataParallel without other processes: it has buckets, and exchanges nothing."""
    made: dict[int, Buckets] = {}

    def init(self: Any, module: nn.Module, *_: Any, **kwargs: Any) -> None:
        nn.Module.__init__(self)
        self.module = module
        gradients: Gradients = "views" if kwargs.get("gradient_as_bucket_view") else "copies"
        made[id(self)] = distribute(module, gradients, recorder, int(kwargs.get("bucket_cap_mb") or 25) * MIB)

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @contextmanager
    def no_sync(self: Any) -> Iterator[None]:
        buckets = made[id(self)]
        before, buckets.is_synchronising = buckets.is_synchronising, False
        try:
            yield
        finally:
            buckets.is_synchronising = before

    parallel = nn.parallel.DistributedDataParallel
    with (
        patch.object(parallel, "__init__", init),
        patch.object(parallel, "forward", forward),
        patch.object(parallel, "no_sync", no_sync),
    ):
        yield
