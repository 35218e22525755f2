"""A cell's step, or its detection, on a random batch: what timing, energy and profiling repeat."""

from collections.abc import Sequence

import torch

from bench.measure.memory_cpu import CLASSES, random_batch
from etad.config import Config
from etad.infer import Detecting
from etad.models.etad import Etad
from etad.seeding import stream
from etad.step import Listener, TrainingStep
from etad.train import build_optimizer


class Workload:
    """Calling it runs the step once, on the same batch every time; the kernels of a GPU may still run afterwards.

    Args:
        config: the experiment; its weight file is not read, as neither time nor memory depends on the weights.
        inference: detection of the batch instead of a training step.
        device: where to compute.
        listeners: are told of the phases of a training step.
    """

    def __init__(
        self, config: Config, inference: bool, device: torch.device, listeners: Sequence[Listener] = ()
    ) -> None:
        torch.manual_seed(0)
        self.device = device
        encoder = config.model.encoder.model_copy(update={"weights": None})
        config = config.model_copy(update={"model": config.model.model_copy(update={"encoder": encoder})})
        model = Etad(config, CLASSES).to(device)
        self._batch = random_batch(config).to(device)
        self._detecting = Detecting(model, config) if inference else None
        if self._detecting is None:
            model.train()
            self._step = TrainingStep(model, build_optimizer(model, config.train), config, listeners)
            # At its usual first scale the first steps of fp16 overflow, and the optimizer skips them.
            enabled = config.step.precision == "fp16"
            self._step.scaler = torch.amp.GradScaler(device.type, init_scale=1.0, enabled=enabled)

    def __call__(self) -> None:
        """Run once."""
        if self._detecting is not None:
            self._detecting(self._batch)
        else:
            self._step(self._batch, self._streams)

    def synchronize(self) -> None:
        """Wait until the device has nothing left to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _streams(self, purpose: str) -> list[torch.Generator]:
        return [stream("workload", index, purpose) for index in self._batch.indices]
