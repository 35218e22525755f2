"""Published figures of this and comparable methods: what others reported, from where, and how we know it.

They lie in ``results/published/``, one YAML file a source, each a ``defaults:`` mapping and a list of ``figures:``.
Nothing here was measured by us, and accuracies compare only under the same classifier: with one AdaTAD checkpoint,
three external classifiers give 39.86, 41.85 and 42.90 average mAP.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import pydantic
from pydantic import Field, model_validator

from etad.errors import ConfigError, explained
from etad.files import read_yaml
from etad.resources import resource_folder

Dataset = Literal["activitynet", "thumos", "hacs"]
Mark = Literal["READ", "READ-ABS", "READ-3P", "USERLOG", "2ND"]
"""READ: in the authors' own repository or paper. READ-ABS: in the abstract. READ-3P: in another paper's table.
USERLOG: in a training log that a user pasted in an issue. 2ND: second hand."""

DATASETS: tuple[Dataset, ...] = get_args(Dataset)
TIOU = {"activitynet": "0.5:0.05:0.95", "thumos": "0.3:0.1:0.7", "hacs": "0.5:0.05:0.95"}
"""Over which thresholds the average mAP is taken, by data set."""

Percent = Annotated[float, Field(ge=0.0, le=100.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Cost(_Part):
    """What it takes, as far as it is stated."""

    gpu: str | None = None
    gpus: Annotated[int, Field(ge=1)] | None = None
    memory_gb: Positive | None = None
    """As printed; whether a giga is 10^9 or 2^30 is nowhere said."""
    memory_meaning: str | None = None
    """What the memory is of: a video, the whole run, allocated or reserved."""
    memory_is_per_video: bool = False
    """Of one video, not of a run: it compares with no other figure."""
    training_h: Positive | None = None
    epoch_min: Positive | None = None
    step_s: Positive | None = None
    """Of training: forward and backward."""
    frames_per_s: Positive | None = None
    """Inference, frames of video per second."""
    inference_videos_per_s: Positive | None = None
    compute_tflop: Positive | None = None
    """Floating-point operations of one forward pass, in 10^12."""
    statement: str | None = None
    """What is said besides, in few words."""

    @model_validator(mode="after")
    def _memory_has_a_meaning(self) -> Self:
        if self.memory_gb is not None and not self.memory_meaning:
            raise ValueError("memory_gb needs memory_meaning: of what is it?")
        return self


class Reproduction(_Part):
    """What a run of ours has to share with a published figure before the two compare."""

    config: str
    """Name of the shipped config that repeats the published experiment."""
    train_videos: Annotated[int, Field(ge=1)] | None = None
    """Samples of an epoch, blocked and too short ones left out; None: not counted."""
    test_videos: Annotated[int, Field(ge=1)]
    """Annotated videos that the evaluation counts, blocked ones left out."""
    classifier_file: str
    """Name of the file of video-level class scores."""
    tolerance_percent: Positive
    """The two agree when their average mAPs differ by no more than this, in points of a percent."""
    tolerance_reason: str


class Figure(_Part):
    """One published result."""

    kind: Literal["published"] = "published"
    method: str
    dataset: Dataset | None = None
    """None: a statement on cost alone."""
    input: str
    """Features or encoder and clip, as stated."""
    end_to_end: bool | None
    """Whether the encoder is trained too; None: not said."""
    classifier: str | None = None
    """Where class labels come from; None: not said."""
    tiou: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = ()
    map_percent: tuple[Percent, ...] = ()
    """mAP at each of ``tiou``."""
    average_map_percent: Percent | None = None
    """Average over the data set's thresholds, see :data:`TIOU`."""
    cost: Cost | None = None
    reproduction: Reproduction | None = None
    """How to repeat it with this project; None where it cannot."""
    source: str
    marks: Annotated[tuple[Mark, ...], Field(min_length=1)]
    note: str = ""

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if len(self.tiou) != len(self.map_percent):
            raise ValueError(f"{len(self.map_percent)} values of map_percent for {len(self.tiou)} of tiou")
        if self.dataset is None and (self.map_percent or self.average_map_percent is not None):
            raise ValueError("an accuracy needs a dataset")
        if self.average_map_percent is None and not self.map_percent and self.cost is None:
            raise ValueError("holds neither an accuracy nor a cost")
        return self


class _File(_Part):
    """What a file holds."""

    defaults: dict[str, Any] = {}
    """Fields that its figures share."""
    figures: list[dict[str, Any]]


def load_published(dataset: Dataset | None = None, folder: Path | None = None) -> list[Figure]:
    """Return the figures, by data set and then the best average first.

    Args:
        dataset: only of this one; None: all, statements on cost alone last.
        folder: of the YAML files; None: the shipped one.

    Raises:
        ConfigError: a file is not valid; one line that names the file and the figure.
    """
    paths = sorted((folder or resource_folder("published")).glob("*.yaml"))
    figures = [figure for path in paths for figure in _read(path) if dataset in (None, figure.dataset)]
    return sorted(figures, key=_order)


def find_reproducible(config: str, figures: Sequence[Figure] | None = None) -> Figure | None:
    """Return the figure that the shipped config of this name repeats; None where there is none.

    Args:
        config: its name.
        figures: to look in; None: all that are shipped.

    Raises:
        ConfigError: more than one claims to be it.
    """
    found = [
        figure
        for figure in (load_published() if figures is None else figures)
        if figure.reproduction is not None and figure.reproduction.config == config
    ]
    if len(found) > 1:
        raise ConfigError(f"published figures: {len(found)} name the config {config}: {found[0].source}, ...")
    return found[0] if found else None


def describe_cost(cost: Cost | None) -> str:
    """Return a cost as one line; empty where nothing is stated."""
    if cost is None:
        return ""
    many = f"{cost.gpus} x " if cost.gpus else ""
    parts = [
        f"{many}{cost.gpu or 'GPU'}" if cost.gpu or cost.gpus else "",
        f"{cost.memory_gb:g} GB {cost.memory_meaning}" if cost.memory_gb else "",
        f"{cost.training_h:g} h of training" if cost.training_h else "",
        f"{cost.epoch_min:g} min an epoch" if cost.epoch_min else "",
        f"{cost.step_s:g} s a training step" if cost.step_s else "",
        f"{cost.frames_per_s:g} frames/s" if cost.frames_per_s else "",
        f"{cost.inference_videos_per_s:g} videos/s in inference" if cost.inference_videos_per_s else "",
        f"{cost.compute_tflop:g} TFLOP" if cost.compute_tflop else "",
        cost.statement or "",
    ]
    return "; ".join(part for part in parts if part)


def _order(figure: Figure) -> tuple[int, float, str]:
    place = len(DATASETS) if figure.dataset is None else DATASETS.index(figure.dataset)
    return place, -(figure.average_map_percent or 0.0), figure.method


def _read(path: Path) -> list[Figure]:
    try:
        file = _File.model_validate(read_yaml(path))
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {explained(error, _File)[0]}") from None
    return [_figure(path, number, file.defaults | row) for number, row in enumerate(file.figures, 1)]


def _figure(path: Path, number: int, row: dict[str, Any]) -> Figure:
    # The defaults' columns mean nothing where a figure gives the average only.
    if "map_percent" not in row:
        row.pop("tiou", None)
    try:
        return Figure.model_validate(row)
    except pydantic.ValidationError as error:
        what = f"figure {number} ({row.get('method', 'no method')})"
        raise ConfigError(f"{path}: {what}: {explained(error, Figure)[0]}") from None
