"""Public tables of how fast real GPUs ran networks: a row for each network, with what a batch costs by our counter.

Columns: ``what`` (infer, train), ``run`` (its words tell the form: "nhwc" for channels-last, "dynamo" for compiled),
``gpu`` (a short name of :data:`GPUS`, or a hardware profile's), ``model``, ``family``, ``batch``, ``img`` (pixels),
``samples_per_s``, and of a batch ``flops``, ``bytes`` and ``operators``. Everything ran in half precision.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from etad.errors import DataError, NothingToDoError, nearest

Regime = Literal["inference", "inference_channels_last", "inference_compiled", "training", "training_channels_last"]
REGIMES: tuple[Regime, ...] = get_args(Regime)

GPUS = {
    "3090": "rtx_3090_24g",
    "4090": "rtx_4090_24g",
    "5090": "rtx_5090_32g",
    "pro6000mq": "rtx_pro_6000_blackwell_max_q_96g",
}
"""From the short names of huggingface/pytorch-image-models' result files to hardware profiles."""

NUMBERS = ("batch", "samples_per_s", "flops", "bytes", "operators")
COLUMNS = ("what", "run", "gpu", "model", "family", "img", *NUMBERS)


@dataclass(frozen=True)
class Row:
    """One network that ran on one GPU.

    Attributes:
        regime: how it ran.
        gpu: name of the hardware profile.
        model, family: of the network.
        batch_s: time of a batch.
        flops, moved_bytes, operators: of a batch, as bench/predict/step_costs.py counts them.
    """

    regime: Regime
    gpu: str
    model: str
    family: str
    batch_s: float
    flops: float
    moved_bytes: float
    operators: float


def read_table(path: Path) -> list[Row]:
    """Read a table.

    Raises:
        DataError: unreadable, an unknown or missing column, or a value that makes no sense; one line with its place.
        NothingToDoError: there are no rows.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            _check_columns(path, reader.fieldnames or [])
            rows = [_row(f"{path}, line {number}", row) for number, row in enumerate(reader, 2)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error})") from None
    if not rows:
        raise NothingToDoError(f"{path}: has no rows")
    return rows


def _check_columns(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            hint = nearest(name or "", COLUMNS, f"the columns are {', '.join(COLUMNS)}")
            raise DataError(f"{path}: unknown column {_cut(name)}; {hint}")
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise DataError(f"{path}: lacks the columns {', '.join(missing)}")


def _row(place: str, row: "dict[str | None, str | None]") -> Row:
    if None in row or None in row.values():
        raise DataError(f"{place}: has not {len(COLUMNS)} values")
    texts = {str(key): str(value) for key, value in row.items()}
    numbers = {name: _number(place, name, texts[name]) for name in NUMBERS}
    return Row(
        regime=_regime(place, texts["what"], texts["run"]),
        gpu=GPUS.get(texts["gpu"], texts["gpu"]),
        model=texts["model"],
        family=texts["family"],
        batch_s=numbers["batch"] / numbers["samples_per_s"],
        flops=numbers["flops"],
        moved_bytes=numbers["bytes"],
        operators=numbers["operators"],
    )


def _number(place: str, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise DataError(f"{place}: {name} must be a number above 0, not {_cut(text)}")
    return value


def _regime(place: str, what: str, run: str) -> Regime:
    words = run.split()
    if what not in ("infer", "train"):
        raise DataError(f"{place}: what must be infer or train, not {_cut(what)}")
    task: Literal["inference", "training"] = "inference" if what == "infer" else "training"
    if "dynamo" in words:
        if task == "training":
            raise DataError(f"{place}: compiled training is no regime yet; leave the row out")
        return "inference_compiled"
    if "nhwc" in words:
        return "inference_channels_last" if task == "inference" else "training_channels_last"
    return task


def _cut(text: str, most: int = 60) -> str:
    shown = repr(text)
    return shown if len(shown) <= most else f"{shown[:most]}..."
