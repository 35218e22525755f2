"""Named combinations of the efficiency settings, to switch, measure and report beside the published form."""

from collections.abc import Iterator

from etad.config import Config, EfficiencyConfig
from etad.errors import ConfigError

FAST = EfficiencyConfig(
    roi_align="auto",
    linear="onednn",
    frozen_prefix="kept",
    fold_norm=True,
    planar_convolutions=True,
    channels_last=True,
    detector_precision="fp32",
    optimizer="fused",
)
LEAN = EfficiencyConfig(
    roi_align="projected", frozen_prefix="offloaded", fold_norm=True, frames_on="host", optimizer="fused"
)
VARIANTS: dict[str, EfficiencyConfig] = {
    "published": EfficiencyConfig(),
    "fast": FAST,
    "lean": LEAN,
    "leanest": LEAN.model_copy(update={"optimizer": "offloaded", "encoder_gradient": "offloaded"}),
}
"""Name -> settings.

published: the reference. fast: least time with the same numbers; with step.precision bf16, the encoder alone is in it.
lean: least memory with all weights, gradients and optimizer state on the device. leanest: gradients and optimizer state
on the host, which costs time.
"""

WITHOUT_BATCH_NORM = ("mvit_v2_s", "swin3d_t", "tiny")
WITHOUT_PLANAR_CONVOLUTIONS = ("r3d_18", "mvit_v2_s", "swin3d_t")
ENCODER_SETTINGS = (
    "frozen_prefix",
    "fold_norm",
    "planar_convolutions",
    "channels_last",
    "frames_on",
    "cuda_graphs",
    "encoder_gradient",
)


def with_variant(config: Config, name: str) -> Config:
    """Return ``config`` in the form of a named variant.

    Raises:
        ConfigError: there is no such variant.
    """
    if name not in VARIANTS:
        raise ConfigError(f"variant {name}: not one of {', '.join(VARIANTS)}")
    return config.model_copy(update={"efficiency": VARIANTS[name]})


def settings_without_effect(config: Config, device: str | None = None) -> Iterator[str]:
    """Yield, for each efficiency setting that was changed and changes nothing here, a line that says why.

    Args:
        config: the experiment.
        device: "cpu" or "cuda"; None: whichever, so that only what has no effect on either is told.
    """
    reasons = dict(_reasons(config))
    if device == "cpu":
        alone = {
            "frames_on": "host",
            "frozen_prefix": "offloaded",
            "optimizer": "offloaded",
            "encoder_gradient": "offloaded",
        }
        for name, value in alone.items():
            if getattr(config.efficiency, name) == value:
                reasons.setdefault(name, "on a CPU, host and device share one memory")
        reasons.setdefault("cuda_graphs", "the device is a CPU")
    published = EfficiencyConfig()
    for name, reason in reasons.items():
        if getattr(config.efficiency, name) != getattr(published, name):
            yield f"efficiency.{name} has no effect: {reason}"


def _reasons(config: Config) -> Iterator[tuple[str, str]]:
    """Yield settings that have no effect on any device, each with one reason."""
    encoder, step = config.model.encoder, config.step
    if config.data.input == "features":
        for name in ENCODER_SETTINGS:
            yield name, f"the input of {config.name} is features, no encoder runs"
        return
    if encoder.name in WITHOUT_BATCH_NORM:
        yield "fold_norm", f"{encoder.name} has no BatchNorm"
    if encoder.name in WITHOUT_PLANAR_CONVOLUTIONS:
        yield "planar_convolutions", f"{encoder.name} has no convolution over space or time alone"
    if encoder.frozen_stages == 0:
        yield "frozen_prefix", "model.encoder.frozen_stages is 0"
    elif step.strategy in ("checkpointed", "frozen"):
        yield "frozen_prefix", f"the strategy is {step.strategy}"
    if step.strategy == "frozen":
        yield "encoder_gradient", "the strategy is frozen"
