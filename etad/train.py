"""The training loop: optimizer, schedule, checkpoints that resume exactly, loss curves.

A run lives in one folder: ``checkpoint.pt`` (the newest), ``losses.csv``, ``tensorboard/``, ``missing.json``. Started
again in the same folder, a run goes on from its checkpoint and ends with the same weights, bit for bit on the same
machine, as one that was never interrupted.
"""

import contextlib
import csv
import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from etad.classes import classes_differ
from etad.config import Config, TrainConfig, parse_config
from etad.data.batch import Batch, ahead
from etad.data.dataset import VideoDataset, epoch_batches, load
from etad.distributed import World
from etad.divergence import DivergenceWatch
from etad.errors import ConfigError, DataError, DivergedError
from etad.files import write_json, write_text
from etad.host_memory import host_rss_peak_bytes
from etad.inputs import ByVideo, changed_videos, training_inputs
from etad.loss_curves import read_losses
from etad.models.checkpoints import load_encoder, load_model, read_checkpoint, save_checkpoint
from etad.models.etad import Etad
from etad.notes import note
from etad.offload.optimizers import Int8Adam, OffloadedAdam
from etad.offload.placement import Placement
from etad.phases import Listener
from etad.progress import progress
from etad.seeding import stream, stream_seed
from etad.step import StepResult, TrainingStep

CHECKPOINT = "checkpoint.pt"
LOSSES = "losses.csv"
FLUSH_STEPS = 10
"""Losses are read from the device, and written, every so many steps; reading one waits for the GPU."""

RESUMABLE_CHANGES = {
    *(("train", "epochs"), ("train", "checkpoint_every_s")),
    *(("data", "workers"), ("data", "root"), ("data", "classes")),
}
"""Settings that a resumed run may change without becoming another run; the classes are compared by their names."""


@dataclass
class Progress:
    """How far a run is: ``epoch`` complete epochs, and ``step`` complete steps of the next one."""

    epoch: int = 0
    step: int = 0


def data_changes(content: Mapping[str, Any], classes: Sequence[str], inputs: ByVideo) -> str:
    """Return what is not as it was when a checkpoint's training began, in words; empty where all is.

    Args:
        content: of the checkpoint.
        classes: those of the data now.
        inputs: what is read now, from :func:`etad.inputs.training_inputs`.
    """
    # Checkpoints of earlier versions do not tell what they were trained on.
    found = changed_videos(content.get("inputs", {}), inputs)
    trained = content.get("classes", list(classes))
    if different := classes_differ(trained, classes):
        found.insert(0, f"classes: {different}")
    elif list(trained) != list(classes):
        found.insert(0, "its classes in another order")
    return "; ".join(found)


def build_model(config: Config, classes: Sequence[str], device: torch.device) -> Etad:
    """Build the network with the configured initial weights, on ``device``; the initialisation is seeded.

    Raises:
        DataError: the encoder's weight file is missing or does not fit.
    """
    torch.manual_seed(stream_seed(config.train.seed, "initialisation") % 2**32)
    model = Etad(config, len(classes))
    weights = config.model.encoder.weights
    if weights is not None and model.feature_extractor is not None:
        load_encoder(model.feature_extractor.model["backbone"], weights, config.model.encoder.weights_key)
    return model.to(device)


def build_optimizer(model: Etad, config: Config, placement: Placement | None = None) -> torch.optim.Optimizer:
    """Return the optimizer with the published groups: encoder, feature module, tem, cascade (and our classifier).

    Args:
        model: on its device.
        config: the experiment; ``efficiency.optimizer`` says in what form.
        placement: moves offloaded state; None: the real one.
    """
    train = config.train
    detector = model.base_detector
    modules: dict[str, Sequence[torch.nn.Module | None]] = {
        "encoder": (model.feature_extractor,),
        "feature": (detector.temporal_enhance,),
        "tem": (detector.tem,),
        "cascade": (detector.stage_conv, detector.stage_pem),
        "classifier": (model.snippet_classifier,),
    }
    groups = []
    for name, parts in modules.items():
        parameters = [p for part in parts if part is not None for p in part.parameters() if p.requires_grad]
        if parameters:
            rate = train.encoder_lr if name == "encoder" else train.detector_lr
            groups.append({"params": parameters, "lr": rate, "name": name})
    decoupled = train.optimizer == "adamw"
    match config.efficiency.optimizer:
        case "published" | "fused" as form:
            kind = torch.optim.AdamW if decoupled else torch.optim.Adam
            return kind(groups, weight_decay=train.weight_decay, fused=True if form == "fused" else None)
        case "offloaded" | "int8" as form:
            stored = OffloadedAdam if form == "offloaded" else Int8Adam
            return stored(groups, decoupled, train.weight_decay, placement or Placement(_device_of(model)))


def rate_factor(config: TrainConfig, epoch: int) -> float:
    """Return what the learning rates are multiplied by in ``epoch`` (counted from 0)."""
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
    return config.lr_drop ** sum(epoch >= drop for drop in config.lr_drop_epochs)


def train(
    config: Config,
    dataset: VideoDataset,
    folder: Path,
    world: World,
    listeners: Sequence[Listener] = (),
) -> Etad:
    """Train a model, going on from the folder's checkpoint where there is one.

    Args:
        config: the experiment.
        dataset: the training videos.
        folder: where the run lives; made if absent.
        world: the processes that train together; ``config.train.batch`` is divided among them.
        listeners: are told of the phases of every step.

    Returns:
        The trained network, on the world's device, in evaluation mode.

    Raises:
        ConfigError: the folder holds a run of another config.
        DivergedError: a loss or a gradient is not finite; the last checkpoint stays.
        DataError: it holds one of other data (annotations, inputs, classes), or a video, feature or weight file cannot
            be used.
        OSError: the folder cannot be written; the last checkpoint stays.
    """
    run = _Run(config, dataset, folder, world, listeners)
    run.resume()
    if world.is_main and dataset.missing:
        write_json(folder / "missing.json", dataset.missing)
    try:
        for epoch in range(run.progress.epoch, config.train.epochs):
            run.train_epoch(epoch)
    finally:
        run.close()
    return run.model.eval()


class _Run:
    def __init__(
        self, config: Config, dataset: VideoDataset, folder: Path, world: World, listeners: Sequence[Listener]
    ) -> None:
        self.config, self.dataset, self.folder, self.world = config, dataset, folder, world
        self._inputs = world.gather(training_inputs(config, dataset.selected) if world.is_main else {})[0]
        self.model = build_model(config, dataset.classes, world.device).train()
        self.optimizer = build_optimizer(self.model, config)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda e: rate_factor(config.train, e))
        self.step = TrainingStep(self.model, self.optimizer, config, listeners, world.size, world.total)
        self.progress = Progress()
        self._watch = DivergenceWatch(self.model, config)
        self._log: _LossLog | None = None
        self._began_at = self._saved_at = self._counted_at = time.monotonic()
        self._trained_before_s = 0.0
        self._epochs_s: list[float] = []

    def resume(self) -> None:
        """Load the folder's checkpoint, if any, and open the log at that step."""
        path = self.folder / CHECKPOINT
        if path.is_file():
            content = read_checkpoint(path)
            self._check_same_run(content, path)
            load_model(self.model, content, path)
            self.optimizer.load_state_dict(content["optimizer"])
            self.scheduler.load_state_dict(content["scheduler"])
            self.step.scaler.load_state_dict(content["scaler"])
            self.progress = Progress(content["epoch"], content["step"])
            self._trained_before_s = content["trained_s"]
            # Absent in checkpoints of earlier versions.
            self._epochs_s = list(content.get("epochs_s", ()))
            self._restore_random_state(content["random_state"])
        if self.world.is_main:
            self._log = _LossLog(self.folder, self.progress)

    def train_epoch(self, epoch: int) -> None:
        """Train the rest of ``epoch`` and write a checkpoint."""
        train = self.config.train
        first = self.progress.step
        self._counted_at = time.monotonic()
        if first == 0 or not self._epochs_s:
            self._epochs_s.append(0.0)
        self.dataset.set_epoch(epoch)
        batches = epoch_batches(
            len(self.dataset), train.batch, train.seed, epoch, self.world.rank, self.world.size, skip=first
        )
        device = self.world.device
        loaded = load(self.dataset, batches, self.config.data.workers, pin_memory=device.type == "cuda")
        # Otherwise the step moves the batch.
        efficiency = self.config.efficiency
        prefetched = efficiency.prefetch and efficiency.frames_on == "device" and device.type == "cuda"
        bar = progress(
            ahead(loaded, device) if prefetched else loaded,
            f"epoch {epoch + 1}/{train.epochs}",
            total=first + len(batches),
            unit="step",
            done=first,
            shown=self.world.is_main,
        )
        for batch in bar:

            def streams(purpose: str, batch: Batch = batch) -> list[torch.Generator]:
                return [stream(train.seed, epoch, index, purpose) for index in batch.indices]

            try:
                result = self.step(batch, streams)
            except DivergedError as error:
                raise self._watch.error(epoch, self.progress.step + 1, str(error)) from None
            self.progress.step += 1
            self._watch.add(epoch, self.progress.step, result.losses)
            if self.progress.step % FLUSH_STEPS == 0 or not self._watch.waits:
                self._watch.check()
            if self._log is not None:
                self._log.add(Progress(epoch, self.progress.step), result)
                if self.progress.step % FLUSH_STEPS == 0:
                    loss = self._log.flush()
                    bar.set_postfix_str(f"loss {loss:.3f}, {_memory_text(self.world.device)}", refresh=False)
            if self._is_due():
                self._save()
        self.scheduler.step()
        self.progress = Progress(epoch + 1, 0)
        self._save()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def _is_due(self) -> bool:
        # Each process has its own clock, but random states are gathered: all must agree on when to save.
        due = time.monotonic() - self._saved_at >= self.config.train.checkpoint_every_s
        return bool(self.world.gather(due)[0]) if self.world.size > 1 else due

    def _save(self) -> None:
        self._watch.check()
        self._watch.check_weights()
        random_states = self.world.gather(_random_state(self.world.device))
        self._saved_at = now = time.monotonic()
        self._epochs_s[-1] += now - self._counted_at
        self._counted_at = now
        if not self.world.is_main:
            return
        # The log goes first: a checkpoint must never be ahead of it.
        assert self._log is not None
        self._log.flush()
        save_checkpoint(
            self.folder / CHECKPOINT,
            {
                "epoch": self.progress.epoch,
                "step": self.progress.step,
                "trained_s": self._trained_before_s + now - self._began_at,
                # Of every epoch begun, seconds; an interrupted one goes on counting where its checkpoint was.
                "epochs_s": self._epochs_s,
                "state_dict": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "scaler": self.step.scaler.state_dict(),
                "random_state": random_states,
                "config": self.config.resolved(),
                "classes": list(self.dataset.classes),
                # What was trained on, so that a run does not go on with other data.
                "inputs": self._inputs,
            },
        )

    def _check_same_run(self, content: dict[str, Any], path: Path) -> None:
        if "config" not in content or "random_state" not in content:
            raise DataError(f"{path}: not a checkpoint of etad-bench train, so this run cannot go on from it")
        ours, theirs = self.config.resolved(), content["config"]
        with contextlib.suppress(ConfigError):
            # A setting that came after the checkpoint was written gets the default, which is what ran then.
            theirs = parse_config(theirs, path.name).resolved()
        changed = [
            f"{section}.{key}" if isinstance(ours[section], dict) else section
            for section in ours
            for key in (ours[section] if isinstance(ours[section], dict) else [section])
            if (section, key) not in RESUMABLE_CHANGES and _at(ours, section, key) != _at(theirs, section, key)
        ]
        # Detection settings do not touch the training, and forms of a computation only its rounding; but a
        # checkpoint holds the optimizer's state in its form. Older checkpoints know the published one alone.
        changed = [key for key in changed if key.split(".")[0] in ("data", "model", "step", "train")]
        if ours["efficiency"]["optimizer"] != theirs.get("efficiency", {}).get("optimizer", "published"):
            changed.append("efficiency.optimizer")
        if changed:
            raise ConfigError(
                f"{self.folder}: holds a run with another {', '.join(changed)}; "
                f"give another --out, or remove {path.name}"
            )
        if "inputs" not in content and self.world.is_main:
            note(f"{path}: of an earlier version, which does not tell the data; it is taken to be the same")
        if differing := data_changes(content, self.dataset.classes, self._inputs):
            raise DataError(
                f"{self.folder}: holds a run that was trained on other data ({differing}); "
                f"give another --out, or remove {path.name} to train anew"
            )
        if len(content["random_state"]) != self.world.size:
            raise ConfigError(
                f"{self.folder}: this run was started with {len(content['random_state'])} process(es), "
                f"not {self.world.size}; go on with the same number"
            )

    def _restore_random_state(self, states: list[dict[str, Tensor]]) -> None:
        state = states[self.world.rank]
        torch.set_rng_state(state["cpu"])
        if "cuda" in state and self.world.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.world.device)


class _LossLog:
    """Loss curves, and the ratios used, as CSV and TensorBoard.

    Rows that a killed run wrote after its last checkpoint are dropped.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._path = folder / LOSSES
        kept = self._rows_before(progress)
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows(kept)
        write_text(self._path, buffer.getvalue())
        self._has_header = bool(kept)
        self._step = max(len(kept) - 1, 0)
        self._pending: list[tuple[Progress, StepResult]] = []
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=self._step)

    def add(self, progress: Progress, result: StepResult) -> None:
        self._pending.append((progress, result))

    def flush(self) -> float:
        """Write what is pending; return the last loss (NaN where there is none)."""
        last = math.nan
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            for progress, result in self._pending:
                values = {name: float(value) for name, value in result.losses.items()}
                values |= {"snippet_ratio": result.snippet_ratio, "proposal_ratio": result.proposal_ratio}
                if not self._has_header:
                    writer.writerow(["epoch", "step", *values])
                    self._has_header = True
                writer.writerow([progress.epoch + 1, progress.step, *(f"{value:.6g}" for value in values.values())])
                for name, value in values.items():
                    self._board.add_scalar(f"train/{name}", value, self._step)
                self._step += 1
                last = values["loss"]
        self._pending.clear()
        return last

    def close(self) -> None:
        self._board.close()

    def _rows_before(self, progress: Progress) -> list[list[str]]:
        header, rows = read_losses(self._path)
        reached = (progress.epoch + 1, progress.step)
        kept = [row for row in rows if (int(row[0]), int(row[1])) <= reached]
        return [header, *kept] if kept else []


def _device_of(model: Etad) -> torch.device:
    return next(model.parameters()).device


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _memory_text(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB peak on GPU"
    return f"{host_rss_peak_bytes() / 2**30:.2f} GiB peak RSS"


def _at(tree: dict[str, Any], section: str, key: str) -> Any:
    below = tree.get(section)
    return below.get(key) if isinstance(below, dict) else below
