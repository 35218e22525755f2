"""Noticing that a training diverges, before it costs a checkpoint, the memory or the day.

Losses are looked at where they are read anyway: after every step on a CPU, every few steps on a GPU, where reading one
waits for it, and before every checkpoint. Between the detector's stages a CPU also looks at the proposals: RoIAlign
samples one as often as it is long, so that one of a million lengths of the video takes all memory. A GPU limits them
instead, without waiting.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from etad.config import Config
from etad.errors import DivergedError
from etad.models.etad import Etad

LONGEST = 1000.0
"""A proposal ends no further away than so many lengths of its video; no training that learns comes near it."""
SKIPPED_STEPS = 20
"""fp16 leaves out a step whose loss is not finite. After so many in turn, nothing is learnt any more."""


class DivergenceWatch:
    """Looks at the losses and the weights of one training.

    Args:
        model: the network, on its device.
        config: the experiment.
    """

    def __init__(self, model: Etad, config: Config) -> None:
        self._model, self._config = model, config
        device = next(model.parameters()).device
        self.waits = device.type != "cpu"
        """Whether reading a loss waits for the device."""
        self._skips = config.step.precision == "fp16"
        self._in_turn = 0
        self._last = (0, 0)
        self._pending: list[tuple[int, int, dict[str, Tensor]]] = []
        if not config.efficiency.compile:
            for number, head in enumerate(model.base_detector.stage_pem, 1):
                head.register_forward_pre_hook(_limited if self.waits else _checked(number))

    def add(self, epoch: int, step: int, losses: dict[str, Tensor]) -> None:
        """Take note of a step's losses; nothing is read yet."""
        self._last = (epoch, step)
        self._pending.append((epoch, step, losses))

    def check(self) -> None:
        """Read what was noted.

        Raises:
            DivergedError: a loss is not finite; the first step and its term are named.
        """
        pending, self._pending = self._pending, []
        for epoch, step, losses in pending:
            # The sum comes last to be blamed.
            terms = sorted(losses.items(), key=lambda item: item[0] == "loss")
            found = next(((name, value) for name, loss in terms if not math.isfinite(value := float(loss))), None)
            self._in_turn = 0 if found is None else self._in_turn + 1
            if found is not None and self._in_turn > (SKIPPED_STEPS if self._skips else 0):
                raise self.error(epoch, step, f"the loss term {found[0]} is {found[1]}")

    def check_weights(self) -> None:
        """Look at the weights before they are kept: the gradient of the last step shows in no loss yet.

        Raises:
            DivergedError: a weight is not finite.
        """
        parameters = [(name, one) for name, one in self._model.named_parameters() if one.requires_grad]
        if not parameters or bool(torch.stack([one.detach().isfinite().all() for _, one in parameters]).all()):
            return
        name = next(name for name, one in parameters if not bool(one.detach().isfinite().all()))
        raise self.error(*self._last, f"the gradient is not finite, nor are the weights {name}")

    def error(self, epoch: int, step: int, what: str) -> DivergedError:
        """Return the error that names where the training diverged, and what helps. Epochs count from 0 here."""
        train = self._config.train
        clip = "" if train.clip_norm is not None else ", or set train.clip_norm"
        return DivergedError(
            f"{self._config.name}: training diverged in epoch {epoch + 1}, step {step}: {what}; lower "
            f"train.detector_lr ({train.detector_lr:g}) or train.encoder_lr ({train.encoder_lr:g}){clip}, and begin "
            "anew; a checkpoint written before, if any, is kept"
        )


Inputs = tuple[Any, ...]


def _checked(stage: int) -> Callable[[nn.Module, Inputs], None]:
    def check(_: nn.Module, inputs: Inputs) -> None:
        # Written so that NaN fails the comparison, too.
        if not bool((inputs[1].abs() <= LONGEST).all()):
            raise DivergedError(f"the proposals of stage {stage} are not finite, or too far away")

    return check


def _limited(_: nn.Module, inputs: Inputs) -> Inputs:
    x, segments, *others = inputs
    return (x, segments.clamp(-LONGEST, LONGEST), *others)
