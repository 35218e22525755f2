"""Named combinations of the efficiency settings, to switch, measure and report beside the published form."""

from etad.config import Config, EfficiencyConfig
from etad.errors import ConfigError

VARIANTS: dict[str, EfficiencyConfig] = {
    "published": EfficiencyConfig(),
    "fast": EfficiencyConfig(roi_align="auto", frozen_prefix="kept", fold_norm=True, optimizer="fused"),
    "lean": EfficiencyConfig(roi_align="auto", frozen_prefix="offloaded", fold_norm=True, frames_on="host"),
}
"""Name -> settings. published: the reference. fast: least time with the same numbers. lean: least memory."""


def with_variant(config: Config, name: str) -> Config:
    """Return ``config`` in the form of a named variant.

    Raises:
        ConfigError: there is no such variant.
    """
    if name not in VARIANTS:
        raise ConfigError(f"variant {name}: not known; choose one of {', '.join(VARIANTS)}")
    return config.model_copy(update={"efficiency": VARIANTS[name]})
