"""What a cell was set to, in words for a person, and which of these settings tell the cells of a report apart."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from bench.records.flat import flat_cells
from bench.records.record import Record
from bench.report.reading import Setting, show, variant_of
from etad.config import Config

Settings = Mapping[str, Setting]
"""From a setting's name to its value, in the order of importance."""

RATIO = "snippet ratio"
PROPOSAL_RATIO = "proposal ratio"
DEVICE = "device"
VARIANT = "variant"

NAMES = {
    "step.strategy": "strategy",
    "step.snippet_sampler": "snippet sampler",
    "step.proposal_sampler": "proposal sampler",
    "step.snippet_ratio": RATIO,
    "step.proposal_ratio": PROPOSAL_RATIO,
    "step.precision": "precision",
    "train.batch": "batch",
    "step.chunk": "chunk",
    "model.encoder.name": "encoder",
    "model.encoder.frozen_stages": "frozen stages",
    "model.encoder.checkpointing": "recompute stages",
    "data.length": "snippets",
    "data.frames.crop": "frame size",
}
"""Settings that come first, under these names; any other one goes by its key in the config."""

BESIDE_THE_POINT = frozenset(
    {
        "name",
        "train.seed",
        "train.checkpoint_every_s",
        "data.root",
        "data.cache",
        "data.workers",
        "data.frames.resize_height",
        "data.frames.resize_width",
        "model.encoder.weights",
    }
)
"""Keys that change no quantity of a report, or that only follow another setting."""

PLAIN = frozenset({"strategy", "precision", "encoder", DEVICE})
"""Settings whose value says by itself what it is of."""


def settings_of(record: Record) -> dict[str, Setting]:
    """Return every setting of a cell that may tell it from others, the important ones first.

    What a record does not say, since the setting came later, is taken to be the default: defaults keep what was.
    """
    found = _defaults() | flat_cells("", record.config)
    named = {name: found.pop(key) for key, name in NAMES.items() if key in found}
    named[VARIANT] = variant_of(record.config)
    named[DEVICE] = record.device
    rest = {
        key: value
        for key, value in found.items()
        if key not in BESIDE_THE_POINT and not key.startswith(("efficiency.", "evaluate.", "postprocess."))
    }
    return named | rest


def differing(cells: Iterable[Settings]) -> list[str]:
    """Return the settings of which the cells have more than one value, the important ones first."""
    first: dict[str, Setting] = {}
    different: dict[str, None] = {}
    for number, settings in enumerate(cells):
        for name, value in settings.items():
            if number and (name not in first or first[name] != value):
                different[name] = None
            first.setdefault(name, value)
        different |= dict.fromkeys(name for name in first if name not in settings)
    order = {name: number for number, name in enumerate([*NAMES.values(), VARIANT, DEVICE])}
    return sorted(different, key=lambda name: (order.get(name, len(order)), name))


def label(settings: Settings, names: Sequence[str]) -> str:
    """Return the values of some settings: "joint, bf16, batch 4"."""
    return ", ".join(_phrase(name, settings.get(name)) for name in names)


def label_of_several(cells: Sequence[Settings], names: Sequence[str]) -> str:
    """Return the values of some settings that cells share a result in: "joint, snippet ratio 0.1/0.3/1"."""
    phrases = []
    for name in names:
        values = sorted({settings.get(name) for settings in cells}, key=_order)
        if len(values) == 1:
            phrases.append(_phrase(name, values[0]))
        elif len(values) <= 4:
            phrases.append(_phrase(name, "/".join(map(show, values))))
        else:
            phrases.append(f"{len(values)} values of {name}")
    return ", ".join(phrases)


def _order(value: Setting) -> tuple[bool, float, str]:
    """Return a key that sorts numbers by size, before words."""
    if isinstance(value, int | float):
        return False, float(value), ""
    return True, 0.0, str(value)


def _phrase(name: str, value: Setting) -> str:
    if name in PLAIN:
        return show(value)
    if name == "frozen stages":
        return f"{show(value)} frozen"
    if name == "snippet sampler":
        return f"{show(value)} snippets"
    if name == "proposal sampler":
        return f"{show(value)} proposals"
    return f"{name} {show(value)}"


@cache
def _defaults() -> dict[str, Setting]:
    return flat_cells("", Config(name="").resolved())
