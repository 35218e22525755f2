"""Reading and writing weights: our checkpoints, the published ETAD and TSP files, torchvision state dicts.

A downloaded file cannot run code: see :mod:`etad.torch_files`. Where a file holds several sets of weights, the moving
average is taken, as OpenTAD tests ETAD (``solver.ema`` in its config, ``tools/test.py``), and said.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from etad.errors import DataError
from etad.files import replace_atomically
from etad.notes import note
from etad.torch_files import read_torch_file

ENCODER_PREFIX = "feature_extractor.model.backbone."
TSP_PREFIX = "features."
WRAPPER_PREFIX = "module."
"""Of DataParallel, DistributedDataParallel and AveragedModel."""
HEAD_PREFIXES = ("fc.", "classifier.", "head.")
"""Classification heads of the encoders' source networks; features do not need them."""
NAMES_SHOWN = 3
AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "model_state_ema", "ema_state", "ema")
"""Keys under which training scripts keep the moving average of the weights, the likeliest first."""
TRAINED = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
"""Keys under which they keep the weights themselves."""


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
    content = read_torch_file(path, "checkpoint")
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, not a mapping of weights")
    return content


def load_model(model: nn.Module, content: Mapping[str, Any], source: Path, key: str | None = None) -> None:
    """Load a whole ETAD: our own checkpoint, or a published one (key ``state_dict``, names ``base_detector.*`` ...).

    Args:
        model: gets the weights.
        content: of the file, from :func:`read_checkpoint`.
        source: the file, named in errors and in the line that tells which of several sets of weights was taken.
        key: where in the file the weights are; None: see :func:`state_dict_of`.

    Raises:
        DataError: the entries do not fit; the message names the missing, unexpected and mis-shaped ones.
    """
    _load_exactly(model, state_dict_of(content, source, key), source)


def load_encoder(backbone: nn.Module, path: Path, key: str | None = None) -> None:
    """Load the encoder's network from a TSP file, a torchvision state dict, or the encoder part of an ETAD checkpoint.

    Args:
        backbone: the network inside the snippet encoder (``encoder.model["backbone"]``).
        path: the file. TSP files have names that begin with ``features.``.
        key: where in the file the weights are; None: see :func:`state_dict_of`.

    Raises:
        DataError: the entries do not fit; the message names the missing, unexpected and mis-shaped ones.
    """
    state, wanted = state_dict_of(read_checkpoint(path), path, key), backbone.state_dict()
    if any(name.startswith(ENCODER_PREFIX) for name in state):
        state = {name: value for name, value in state.items() if name.startswith(ENCODER_PREFIX)}
        state = _without_prefix(state, ENCODER_PREFIX)
    elif any(name.startswith(TSP_PREFIX) for name in state) and not any(name.startswith(TSP_PREFIX) for name in wanted):
        state = _without_prefix({name: value for name, value in state.items() if "fc" not in name}, TSP_PREFIX)
    state = {name: value for name, value in state.items() if name in wanted or not name.startswith(HEAD_PREFIXES)}
    _load_exactly(backbone, state, path)


def state_dict_of(content: Mapping[str, Any], source: Path, key: str | None = None) -> dict[str, Tensor]:
    """Return the weights that a file holds by their names, without the prefix of torch's wrappers (``module.``).

    Args:
        content: of the file: a flat mapping of weights, or one that holds such mappings under keys.
        source: the file.
        key: the key of the wanted one; one below another is written ``ema.module``. None: the moving average where
            there is one, else the weights themselves; a line says so where there was a choice.

    Raises:
        DataError: there are no weights, or none under ``key``.
    """
    found = dict(_state_dicts(content))
    if key is not None:
        if key not in found:
            there = f"there are: {', '.join(filter(None, found))}" if any(found) else "it has no such keys at all"
            raise DataError(f"{source}: has no weights under the key {key!r}; {there}")
        return _unwrapped(found[key])
    known = [name for wanted in (*AVERAGED, *TRAINED) for name in found if name.partition(".")[0] == wanted]
    chosen = known or list(found)
    if not chosen or (not known and len(found) > 1):
        several = f"; it holds {', '.join(found)}: name one as weights key" if found else ""
        raise DataError(
            f"{source}: has no state dict (expected the key state_dict, state_dict_ema or model, or a flat mapping)"
            f"{several}"
        )
    if len(chosen) > 1:
        what = "the moving average of the weights" if chosen[0].partition(".")[0] in AVERAGED else "the first of them"
        note(f"{source}: holds {' and '.join(chosen)}; {chosen[0]} is loaded, {what} (another one by its weights key)")
    return _unwrapped(found[chosen[0]])


def _state_dicts(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Yield every mapping of names to tensors in a file, up to two keys deep, by its key."""
    if _is_state_dict(content):
        yield "", content
        return
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Mapping):
            continue
        if _is_state_dict(value):
            yield key, value
        elif "optim" not in key:
            for below, state in value.items():
                if _is_state_dict(state):
                    yield f"{key}.{below}", state


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(entry, Tensor) for name, entry in value.items())
    )


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # torch's AveragedModel counts beside the weights.
    named = {name: value for name, value in state.items() if name != "n_averaged"}
    while named and all(name.startswith(WRAPPER_PREFIX) for name in named):
        named = _without_prefix(named, WRAPPER_PREFIX)
    return _without_prefix(named, WRAPPER_PREFIX)


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
