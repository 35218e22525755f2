"""Reading and writing weights: our checkpoints, the published ETAD and TSP files, torchvision state dicts.

Files are always read with ``weights_only=True``, so that a downloaded file cannot run code.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from etad.errors import DataError
from etad.files import replace_atomically

ENCODER_PREFIX = "feature_extractor.model.backbone."
TSP_PREFIX = "features."
HEAD_PREFIXES = ("fc.", "classifier.", "head.")
"""Classification heads of the encoders' source networks; features do not need them."""
NAMES_SHOWN = 3


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` with torch's format, atomically.

    Raises:
        OSError: the disk is full or the folder cannot be written; the previous file stays.
    """
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:
            # torch reports a failed write as a fault of its archive; the reason is behind it.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file of weights onto the CPU.

    Raises:
        DataError: missing, unreadable, not a mapping, or it needs pickled code to load.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: not loaded, since it holds more than weights ({_first_line(error)})") from None
    except Exception as error:  # whatever the unpickler stumbles over in a damaged file
        raise DataError(f"{path}: not a readable checkpoint, perhaps truncated ({_first_line(error)})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, not a mapping of weights")
    return content


def load_model(model: nn.Module, content: Mapping[str, Any], source: Path) -> None:
    """Load a whole ETAD: our own checkpoint, or a published one (key ``state_dict``, names ``base_detector.*`` ...).

    Raises:
        DataError: the entries do not fit; the message names the missing, unexpected and mis-shaped ones.
    """
    _load_exactly(model, _without_prefix(_state_dict(content, source), "module."), source)


def load_encoder(backbone: nn.Module, path: Path) -> None:
    """Load the encoder's network from a TSP file, a torchvision state dict, or the encoder part of an ETAD checkpoint.

    Args:
        backbone: the network inside the snippet encoder (``encoder.model["backbone"]``).
        path: the file. TSP files have the key ``model`` and names that begin with ``features.``.

    Raises:
        DataError: the entries do not fit; the message names the missing, unexpected and mis-shaped ones.
    """
    content = read_checkpoint(path)
    state = _without_prefix(_state_dict(content, path), "module.")
    if any(name.startswith(ENCODER_PREFIX) for name in state):
        state = {name: value for name, value in state.items() if name.startswith(ENCODER_PREFIX)}
        state = _without_prefix(state, ENCODER_PREFIX)
    elif "model" in content:
        state = _without_prefix({name: value for name, value in state.items() if "fc" not in name}, TSP_PREFIX)
    wanted = backbone.state_dict()
    state = {name: value for name, value in state.items() if name in wanted or not name.startswith(HEAD_PREFIXES)}
    _load_exactly(backbone, state, path)


def _state_dict(content: Mapping[str, Any], source: Path) -> dict[str, Tensor]:
    state = content.get("state_dict", content.get("model", content))
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{source}: has no state dict (expected the key state_dict or model, or a flat mapping)")
    return dict(state)


def _without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _load_exactly(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    misshaped = [
        f"{name} is {list(state[name].shape)}, the model's is {list(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    faults = [
        _listed(kind, names)
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", misshaped))
        if names
    ]
    if faults:
        raise DataError(f"{source}: does not fit the configured model: {'; '.join(faults)}")
    module.load_state_dict(dict(state))


def _listed(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{len(names)} {kind} ({', '.join(names[:NAMES_SHOWN])}{more})"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:200]
