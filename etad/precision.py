"""What the network computes in: float32, or half precision under autocast."""

import torch

from etad.config import Config, Precision

AUTOCAST_DTYPE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which the network runs in ``precision``; for fp32 one without effect."""
    return torch.autocast(device.type, dtype=AUTOCAST_DTYPE[precision], enabled=precision != "fp32")


def detector_precision(config: Config) -> Precision:
    """Return what the detector computes in; the encoder computes in ``step.precision``."""
    return "fp32" if config.efficiency.detector_precision == "fp32" else config.step.precision
