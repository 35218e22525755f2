"""A cell's step, or its detection, on a random batch: what timing, energy and profiling repeat."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bench.batches import CLASSES, placed, random_batch
from bench.cells import Task
from etad.config import Config
from etad.data.batch import Batch
from etad.infer import Detecting
from etad.models.etad import Etad
from etad.phases import Listener
from etad.sampling.proposals import dense_grid, proposal_count
from etad.seeding import stream
from etad.step import TrainingStep
from etad.train import build_optimizer


@dataclass(frozen=True)
class Amounts:
    """What one call works through; 0 where there is none of it.

    Attributes:
        snippets: of the videos, each counted once however often it is encoded.
        frames: of these snippets, as the encoder sees them; when data is read, the distinct frames that are decoded.
        proposals: that the detector judges.
    """

    videos: int
    snippets: int = 0
    frames: int = 0
    proposals: int = 0


def amounts_of(config: Config, task: Task) -> Amounts:
    """Return the amounts of a step, or of the detection of one batch, which judges all proposals."""
    videos, data = config.train.batch, config.data
    all_proposals = len(dense_grid(data.length, config.model.detector.max_duration))
    snippets = videos * data.length if data.input == "frames" else 0
    return Amounts(
        videos=videos,
        snippets=snippets,
        frames=snippets * data.frames.clip_frames,
        proposals=videos * (all_proposals if task == "infer" else proposal_count(config)),
    )


class Workload:
    """Calling it runs the step once; the kernels of a GPU may still run afterwards.

    Args:
        config: the experiment; its weight file is not read, as neither time nor memory depends on the weights.
        task: a training step, or the detection of the batch.
        device: where to compute.
        listeners: are told of the phases.
        batches: gives the batch of every call; None: the same random one.
        classes: of the data set.

    Attributes:
        model: the network.
        optimizer: of the training step; None in inference.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        device: torch.device,
        listeners: Sequence[Listener] = (),
        batches: Callable[[], Batch] | None = None,
        classes: int = CLASSES,
    ) -> None:
        torch.manual_seed(0)
        self.device = device
        encoder = config.model.encoder.model_copy(update={"weights": None})
        config = config.model_copy(update={"model": config.model.model_copy(update={"encoder": encoder})})
        self.model = model = Etad(config, classes).to(device)
        self.optimizer: torch.optim.Optimizer | None = None
        self.amounts = amounts_of(config, task)
        self._batches = batches or itertools.repeat(placed(random_batch(config), config, device)).__next__
        self._detecting = Detecting(model, config, listeners) if task == "infer" else None
        if self._detecting is None:
            model.train()
            self.optimizer = build_optimizer(model, config)
            # At its usual first scale the first steps of fp16 overflow, and the optimizer skips them.
            scaler = torch.amp.GradScaler(device.type, init_scale=1.0, enabled=config.step.precision == "fp16")
            self._step = TrainingStep(model, self.optimizer, config, listeners, scaler=scaler)

    def __call__(self) -> None:
        """Run once."""
        batch = self._batches()
        if self._detecting is not None:
            self._detecting(batch)
        else:
            self._step(batch, lambda purpose: [stream("workload", index, purpose) for index in batch.indices])

    def synchronize(self) -> None:
        """Wait until the device has nothing left to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
