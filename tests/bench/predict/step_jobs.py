"""The steps of ``examples/steps``, for the stand-in."""

import importlib.util
from collections.abc import Callable
from typing import Any

from torch import nn

from tests.bench.predict.any_step import Job
from tests.paths import ROOT

FOLDER = ROOT / "examples" / "steps"


def make_step_of(name: str) -> Callable[..., Callable[[], None]]:
    """Return the function of an example."""
    spec = importlib.util.spec_from_file_location(f"examples_steps_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make: Callable[..., Callable[[], None]] = module.make_step
    return make


def _job(name: str, arguments: dict[str, Any]) -> Job:
    return lambda device: (nn.Module(), make_step_of(name)(**arguments))


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "image_classifier": ("image_classifier", {}),
    "decoder": ("decoder", {}),
    "decoder, reentrant": ("decoder", {"reentrant": True}),
    "tagger": ("tagger", {}),
    "two_networks": ("two_networks", {}),
}
JOBS = {name: _job(*case) for name, case in CASES.items()}
