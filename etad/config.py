"""The experiment configuration: typed, read from YAML, strict.

A file may name a parent with ``extends:`` (a path beside it, or the name of a shipped config); mappings merge,
everything else replaces. An unknown key is an error that names the nearest valid one. A loaded config is frozen;
``resolved()`` gives the plain mapping that goes into checkpoints and records.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin

import pydantic
from pydantic import Field, model_validator

from etad.errors import ConfigError, explained, nearest
from etad.files import kind, read_yaml, yaml_value
from etad.resources import resource_folder
from etad.wanted import below, options

Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
LARGEST = 2**31 - 1
"""Of whole numbers: what torch and FFmpeg take for a size."""
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
NonNegative = Annotated[int, Field(ge=0, le=LARGEST)]
PositiveFloat = Annotated[float, Field(gt=0.0)]

EncoderName = Literal["r2plus1d_34_tsp", "r2plus1d_18", "r3d_18", "mc3_18", "s3d", "mvit_v2_s", "swin3d_t", "tiny"]
ProposalSampler = Literal["random", "grid", "block", "fps", "dpp", "label_guided"]
SnippetSampler = Literal["random", "uniform", "block", "fps", "dpp", "gradient"]
Strategy = Literal["sequential", "joint", "checkpointed", "frozen"]
Precision = Literal["fp32", "bf16", "fp16"]


class Section(pydantic.BaseModel):
    """Base of every section: frozen, no unknown keys. What stands below a key is its meaning, as users read it.

    A single value where a list is wanted is a list of one; true is no number.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, tree: Any) -> Any:
        if not isinstance(tree, Mapping):
            return tree
        result = dict(tree)
        for key, value in tree.items():
            if isinstance(value, str) and "\0" in value:
                raise ValueError(f"{key} holds a nul character, which no name or path can")
            field = cls.model_fields.get(key) if isinstance(key, str) else None
            listed = field is not None and get_origin(field.annotation) is tuple
            if listed and isinstance(value, str | int | float) and not isinstance(value, bool):
                result[key] = (value,)
            elif isinstance(value, bool) and field is not None:
                kinds = {option.kind for option in options(field.annotation)}
                if bool not in kinds and not kinds.isdisjoint({int, float}):
                    # The validator would take it for 1 or 0; the word it refuses.
                    result[key] = str(value).lower()
        return result


class FramesConfig(Section):
    """How frames become snippets (specification, section 1). Sizes in pixels."""

    fps: Annotated[float, Field(ge=0.01, le=1000.0)] = 15.0
    """Frames per second that snippets are cut from, whatever rate a file has: a snippet is a stretch of time. Pictures
    are repeated or left out by the times at which they are shown, as FFmpeg's ``fps`` filter does."""
    clip_frames: Positive = 16
    """Frames of a snippet."""
    resize_height: Positive = 128
    """Height that frames are resized to before the crop; the aspect ratio is not kept."""
    resize_width: Positive = 171
    """Width that frames are resized to before the crop."""
    crop: Positive = 112
    """Side of the square that is cut out: at random in training, at the centre in testing."""
    augment: Literal["none", "flip", "published"] = "published"
    """What training frames go through besides the random crop, one draw for a video. none: nothing. flip: mirrored half
    the time. published: mirrored, RandAugment and colour jitter."""
    decoder: Literal["auto", "pyav", "torchcodec"] = "auto"
    """What decodes the video; the frames are the same. auto: torchcodec where it is installed and works, else PyAV."""


class WindowConfig(Section):
    """Sliding windows over a long feature sequence, ``data.length`` positions each."""

    overlap: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """Part of a window that the next one repeats."""
    min_action_inside: Ratio = 0.75
    """A training window counts an action when this part of it lies inside."""


class DataConfig(Section):
    """What is read. Relative paths start at ``root``; a relative ``root`` starts at the working folder."""

    root: Path = Path("data")
    """Folder that the other paths start at."""
    annotations: Path = Path("annotations.json")
    """Annotation file in ActivityNet's JSON form, plain or gzipped."""
    train_subsets: tuple[str, ...] = ("training",)
    """Subsets of the annotation file to train on, unless ``fold`` says otherwise."""
    test_subsets: tuple[str, ...] = ("validation",)
    """Subsets to test on, unless ``fold`` says otherwise."""
    folds: tuple[str, ...] = ()
    """Subset names of a cross-validation: fold k tests on the k-th and trains on the others."""
    fold: Positive | None = None
    """Which of ``folds`` to test on, from 1. None: all of them in turn, if there are any."""
    blocked: tuple[str, ...] | Path = ()
    """Ids that training and evaluation leave out: a list, or a JSON file that holds one."""
    ignored_classes: tuple[str, ...] = ()
    """Labels whose actions neither training nor evaluation sees, e.g. THUMOS-14's [Ambiguous]."""
    classes: tuple[str, ...] | Path | None = None
    """Names of the classes, in the order of their numbers: a list, or a text file with one name a line. None: the
    labels of the training subsets, sorted."""
    min_action_fraction: Ratio = 0.01
    """A training video needs one action longer than this part of it."""

    input: Literal["features", "frames"] = "features"
    """What the detector is fed from: features that lie in files, or frames, which the encoder turns into features."""
    folder: Path = Path("features")
    """Folder of one file a video, or one npz/h5 file that holds an array a video."""
    pattern: str = "{id}.npy"
    """File name, or key within the npz/h5 file, of video ``{id}``."""
    layout: Literal["time_first", "channels_first"] = "time_first"
    """Order of a feature array's axes: ``[T, C]`` or ``[C, T]``."""
    channels: Positive = 512
    """Width of the features in the files; of no effect with frames."""
    length: Positive = 128
    """Positions the detector sees (N of the paper): snippets of a video, or steps of a window."""
    window: WindowConfig | None = None
    """None: the whole video is resized to ``length`` positions."""
    stride_frames: Positive | None = None
    """Frames between feature steps. None: the steps divide the video's duration evenly."""
    offset_frames: NonNegative = 0
    """Frame at which the first step begins, with ``stride_frames``; half a clip centres a step on its clip."""
    fps: PositiveFloat | None = None
    """Frame rate that ``stride_frames`` counts in. None: the annotation file's own."""
    frames: FramesConfig = FramesConfig()
    """How frames become snippets; of no effect with features."""
    cache: bool = False
    """Decode each video once and keep its frames in memory, in every worker process; for small sets."""
    augment_on: Literal["host", "device"] = "host"
    """Where training frames are cropped and augmented: by the host, or by the device they are sent to."""
    decoded: Path | None = None
    """Folder to keep decoded, resized frames in: a video is decoded once for all epochs and runs. None: nowhere."""
    workers: NonNegative = 0
    """Processes that read data beside the training one. 0: that process reads itself."""

    @model_validator(mode="after")
    def _fold_exists(self) -> Self:
        if self.fold is not None and self.fold > len(self.folds):
            raise ValueError(f"fold is {self.fold}, but folds lists {len(self.folds)}")
        return self

    @property
    def train_selection(self) -> tuple[str, ...]:
        """Subsets to train on, after the fold is taken into account."""
        if self.fold is None:
            return self.train_subsets
        return tuple(name for number, name in enumerate(self.folds, 1) if number != self.fold)

    @property
    def test_selection(self) -> tuple[str, ...]:
        """Subsets to test on, after the fold is taken into account."""
        return self.test_subsets if self.fold is None else (self.folds[self.fold - 1],)

    def path(self, relative: Path) -> Path:
        """Return ``relative`` under ``root``."""
        return self.root / relative


class EncoderConfig(Section):
    """The snippet encoder (specification, section 2); unused when the input is features."""

    name: EncoderName = "r2plus1d_34_tsp"
    """Architecture of the encoder."""
    weights: Path | None = None
    """TSP file, torchvision state dict or ETAD checkpoint to start from. None: random initialisation."""
    weights_key: str | None = None
    """Where in that file the weights are, if it holds several: ``state_dict``, ``ema.module``. None: the moving average
    where there is one, else the weights themselves."""
    frozen_stages: NonNegative = 2
    """The first so many residual stages are frozen, and the stem with them; 0 freezes nothing."""
    norm_eval: bool = True
    """Keep BatchNorm on its stored statistics while training (published); otherwise it takes those of the chunk."""
    checkpointing: bool = False
    """Recompute each encoder stage in the backward pass instead of storing its activations."""


class DetectorConfig(Section):
    """The cascade detector (specification, section 3)."""

    hidden: Positive = 256
    """Width of the features inside the detector, and of its two LSTMs."""
    groups: Positive = 4
    """Groups of the convolutions along time."""
    norm_groups: Positive = 16
    """Groups of the GroupNorms."""
    proposal_channels: Positive = 128
    """Channels that RoIAlign reads for a proposal."""
    proposal_hidden: Positive = 512
    """Width of the first linear layer of a proposal head."""
    head_hidden: Positive = 128
    """Width of the further linear layers of a proposal head."""
    bins: Positive = 24
    """Points in time that RoIAlign gives for a proposal and its context."""
    boundary_bins: Positive = 6
    """Of these, how many at either end the start and end offsets are read from; at most half."""
    extension: Annotated[float, Field(ge=0.0)] = 0.5
    """Context around a proposal, as a part of its length, on each side."""
    stage_tiou: tuple[float, ...] = (0.7, 0.8, 0.9)
    """One cascade stage for each: proposals above this tIoU train the stage's offsets."""
    max_duration: Positive | None = None
    """Longest proposal in positions. None: up to the whole length."""


class ClassifierConfig(Section):
    """The light snippet classifier: class scores per position, trained with the detector (our addition)."""

    hidden: Positive = 64
    """Channels of its convolutions."""
    layers: NonNegative = 6
    """Residual dilated convolutions, dilation 1, 2, 4, ...; 0 judges every position by itself."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.25
    """Part of the activations that training drops."""
    loss_weight: PositiveFloat = 1.0
    """Factor of its loss in the sum with the detector's."""


class ModelConfig(Section):
    """The network."""

    encoder: EncoderConfig = EncoderConfig()
    """The snippet encoder."""
    detector: DetectorConfig = DetectorConfig()
    """The detector."""
    classifier: ClassifierConfig | None = None
    """The snippet classifier, for ``postprocess.classes: snippet``. None: there is none."""


class StepConfig(Section):
    """One training step (specification, sections 4 and 5)."""

    strategy: Strategy = "sequential"
    """How the gradient gets through the encoder. sequential: chunk by chunk (published). joint: all drawn snippets at
    once. checkpointed: all snippets, recomputed. frozen: not at all."""
    precision: Precision = "fp32"
    """Number format of the forward pass under autocast; fp16 scales the loss. Parameters stay fp32."""
    chunk: Positive = 4
    """Snippets per video that the encoder takes at once."""
    snippet_ratio: Ratio = 0.3
    """Part of a video's snippets that the gradient reaches, rounded up to whole chunks; 0 trains the detector only."""
    snippet_sampler: SnippetSampler = "random"
    """How these snippets are drawn (published: random)."""
    proposal_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 0.06
    """Part of all proposals that train the detector; at least one is drawn."""
    proposal_sampler: ProposalSampler = "random"
    """How these proposals are drawn (published: random, grid and block)."""


class EfficiencyConfig(Section):
    """Forms of one and the same computation. The defaults are the published forms, the reference of all others.

    ``etad/variants.py`` names useful combinations.
    """

    roi_align: Literal["published", "matrix", "gather", "projected", "auto"] = "published"
    """published: torchvision's operator. matrix, gather: the same linear map along time. projected: the linear layers
    behind it are applied first, per bin and position. auto: the fastest for device and size."""
    linear: Literal["published", "onednn"] = "published"
    """Linear layers of the proposal heads in float32 on a CPU: by torch's default or by oneDNN; else no effect."""
    frozen_prefix: Literal["recomputed", "kept", "offloaded"] = "recomputed"
    """Output of the frozen stages for the drawn snippets: computed again for the backward pass (published), kept on the
    device from the encode phase, or kept in host memory. The snippet samplers fps, dpp and gradient draw only after
    that phase: for them, that of all snippets is kept."""
    fold_norm: bool = False
    """Fold BatchNorm into the convolution before it, wherever no gradient is wanted."""
    planar_convolutions: bool = False
    """Run convolutions over space alone, or over time alone, as two-dimensional ones; those over space need
    ``channels_last``."""
    channels_last: bool = False
    """Run the encoder in the channels-last-3d memory format."""
    frames_on: Literal["device", "host"] = "device"
    """Where the batch's uint8 frames stay: on the device (published), or on the host, moved chunk by chunk."""
    detector_precision: Literal["step", "fp32"] = "step"
    """step: the detector runs in step.precision; fp32: only the encoder does."""
    compile: bool = False
    """torch.compile the encoder and the detector."""
    prefetch: bool = False
    """Send the next batch to the GPU during the present step: one batch more of memory. Without effect on a CPU."""
    cuda_graphs: bool = False
    """Replay the encoder's forward pass from a CUDA graph; without effect on a CPU."""
    optimizer: Literal["published", "fused", "offloaded", "int8"] = "published"
    """published: torch's default. fused: one kernel. offloaded: state in host memory. int8: quantised state."""
    encoder_gradient: Literal["fp32", "bf16", "offloaded"] = "fp32"
    """How the encoder's gradient is summed over the chunks: in fp32 on the device (published), in bf16 there, or in
    fp32 in host memory."""


class TrainConfig(Section):
    """Optimizer, schedule and bookkeeping."""

    batch: Positive = 4
    """Videos, or windows, of a step, over all processes together."""
    epochs: Positive = 6
    """Passes over the training set."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    """AdamW, or Adam, whose weight decay is part of the gradient."""
    detector_lr: PositiveFloat = 5e-4
    """Learning rate of the detector and the classifier."""
    encoder_lr: PositiveFloat = 5e-7
    """Learning rate of the encoder."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    """Weight decay of all parameters."""
    schedule: Literal["step", "cosine"] = "step"
    """How the learning rates fall. step: times ``lr_drop`` at each of ``lr_drop_epochs``. cosine: half a cosine."""
    lr_drop_epochs: tuple[NonNegative, ...] = (5,)
    """Epochs after which they drop, with ``schedule: step``."""
    lr_drop: PositiveFloat = 0.1
    """Factor of a drop."""
    clip_norm: PositiveFloat | None = None
    """Largest norm of a gradient; the detector's and the encoder's are clipped each by itself. None: no clipping."""
    seed: int = 2023
    """Seed of every random draw."""
    checkpoint_every_s: Annotated[float, Field(ge=0.0)] = 60.0
    """A checkpoint is written at least this often, and after every epoch."""


class PostprocessConfig(Section):
    """From raw outputs to detections (specification, section 7)."""

    classes: Literal["external", "snippet", "agnostic"] = "external"
    """external: a video-level score file. snippet: the trained snippet classifier. agnostic: one class, "action"."""
    class_scores: Path | None = None
    """Score file of ``classes: external``; relative paths start at ``data.root``."""
    classes_per_segment: Positive = 2
    """Classes that a segment is given, the best ones; each makes a detection."""
    boundary_filter: bool = True
    """Keep only proposals whose ends are peaks, or above half the maximum, of the boundary maps."""
    soft_nms_sigma: PositiveFloat = 0.35
    """The decay is exp(-tIoU² / sigma)."""
    max_segments: Positive = 100
    """Segments kept per video, before classes multiply them; with ``windows: each`` per window, and at last as many
    detections per video."""
    min_score: Annotated[float, Field(ge=0.0)] = 0.0
    """Soft-NMS ends below this decayed score."""
    voting_tiou: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """A kept segment moves to the mean, weighted with their scores, of all that overlap it at least so much. None: it
    stays. Not with ``classes: snippet``."""
    windows: Literal["together", "each"] = "together"
    """Soft-NMS of a video's windows. together: one, then the classes. each: one for each window, then the classes, then
    one over all detections of the video whatever their class (OpenTAD). Not with ``classes: snippet``."""


class EvaluateConfig(Section):
    """mAP protocol."""

    tiou: tuple[Ratio, ...] = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    """tIoU thresholds; the average mAP is the mean over them. 0.9 is taken as ActivityNet's evaluator has it,
    0.8999999999999999."""
    remove_duplicates: bool = False
    """Leave out true actions as OpenTAD does: repetitions of one label within a millisecond, and actions without
    length."""


class Config(Section):
    """A whole experiment."""

    name: str
    """Name of the experiment. Default: that of its file."""
    data: DataConfig = DataConfig()
    """What is read."""
    model: ModelConfig = ModelConfig()
    """The network."""
    step: StepConfig = StepConfig()
    """One training step."""
    efficiency: EfficiencyConfig = EfficiencyConfig()
    """Forms of the computation."""
    train: TrainConfig = TrainConfig()
    """Optimizer, schedule and bookkeeping."""
    postprocess: PostprocessConfig = PostprocessConfig()
    """From raw outputs to detections."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """mAP protocol."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.postprocess.classes == "snippet" and self.model.classifier is None:
            raise ValueError("postprocess.classes is 'snippet', which needs the section model.classifier")
        for key, plain in (("voting_tiou", None), ("windows", "together")):
            if self.postprocess.classes == "snippet" and getattr(self.postprocess, key) != plain:
                raise ValueError(
                    f"postprocess.{key} is for one score a segment; leave it out, or set postprocess.classes to "
                    "'external' or 'agnostic'"
                )
        if self.data.window is not None and self.data.input == "frames":
            raise ValueError("data.window works on features only; remove it or set data.input to 'features'")
        detector = self.model.detector
        if 2 * detector.boundary_bins > detector.bins:
            raise ValueError("model.detector.boundary_bins may be at most half of model.detector.bins")
        efficiency = self.efficiency
        if efficiency.frames_on == "host" and self.data.augment_on == "device":
            raise ValueError("efficiency.frames_on is host, so data.augment_on cannot be device; change one of them")
        if not self.model.encoder.norm_eval and (efficiency.fold_norm or efficiency.frozen_prefix != "recomputed"):
            raise ValueError(
                "efficiency.fold_norm and frozen_prefix need model.encoder.norm_eval: with statistics of the chunk, "
                "a snippet has other features in another chunk"
            )
        if efficiency.encoder_gradient != "fp32" and self.step.precision == "fp16":
            raise ValueError(
                "efficiency.encoder_gradient must be fp32 with step.precision fp16, which has to see the whole "
                "gradient to find an overflow; or take bf16"
            )
        return self

    def resolved(self) -> dict[str, Any]:
        """Return the config as plain JSON-able values."""
        return self.model_dump(mode="json")


def load_config(name: str | Path, assignments: Iterable[str] = ()) -> Config:
    """Load a config file with its ``extends:`` chain and apply ``key=value`` assignments.

    Args:
        name: path of a YAML file, or the name of a shipped config such as "anet_e2e".
        assignments: ``"step.snippet_ratio=0.5"`` style overrides; values are parsed as YAML, but for a key that wants
            text, what YAML takes for something else is that text: ``data.pattern={id}.npz``.

    Raises:
        ConfigError: file missing or not a mapping, unknown key, wrong type, ``extends:`` loop, malformed assignment.
    """
    return parse_config(with_assignments(read_config(name), assignments), source=str(name))


def read_config(name: str | Path) -> dict[str, Any]:
    """Return a config file as a plain mapping, merged over its ``extends:`` chain; it is not checked yet.

    Raises:
        ConfigError: a file is missing or not a mapping, or the chain is a loop.
    """
    path = find_config(name)
    tree = read_chain(path, find_config)
    tree.setdefault("name", path.stem)
    return tree


def with_assignments(tree: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return a plain mapping with ``key=value`` overrides applied; it is not checked yet.

    Raises:
        ConfigError: an assignment is malformed.
    """
    result = dict(tree)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {assignment}: write it as key=value, e.g. step.snippet_ratio=0.5")
        value = _value(key, text)
        for section in reversed(key.split(".")):
            value = {section: value}
        result = _merged(result, value)
    return result


def _value(key: str, text: str) -> Any:
    """Return what was typed for a key."""
    wanted = list(options(Config))
    for part in key.split("."):
        wanted = [found for option in wanted for found in below(option, part)]
    texts = (str, Path, type(None), tuple[str, ...])
    is_text = bool(wanted) and all(option.kind in texts for option in wanted)
    try:
        value = yaml_value(text, f"--set {key}={text}")
    except ConfigError:
        # A quote that does not end is a slip.
        if not is_text or text[:1] in "\"'" or not text.isprintable():
            raise
        return text
    return value if not is_text or value is None or isinstance(value, str | list) else text


def parse_config(tree: Mapping[str, Any], source: str) -> Config:
    """Check a plain mapping against the schema.

    Raises:
        ConfigError: naming ``source``, the key at fault and, for an unknown key, the nearest valid one.
    """
    try:
        return Config.model_validate(tree)
    except pydantic.ValidationError as error:
        problems = explained(error, Config)
        raise ConfigError("; ".join(f"{source}: {line}" for line in problems), problems) from None


def find_config(name: str | Path) -> Path:
    """Return the file of config ``name``: that path if it exists, otherwise the shipped config of that name.

    Raises:
        ConfigError: there is neither; the message lists the shipped names.
    """
    return find_shipped(name, resource_folder("configs"), "config")


def find_shipped(name: str | Path, shipped: Path, what: str) -> Path:
    """Return the file ``name``: that path if it exists, otherwise the YAML file of that name in a folder.

    Args:
        name: of the file.
        shipped: the folder.
        what: what its files are, for the message: "config".

    Raises:
        ConfigError: there is neither; the message names the nearest shipped one, or all of them.
    """
    for candidate in (Path(name), shipped / str(name), shipped / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    names = [path.stem for path in sorted(shipped.glob("*.yaml"))]
    hint = nearest(Path(name).stem, names, f"shipped {what}s: {', '.join(names)}")
    raise ConfigError(f"{name}: no such {what} file; {hint}")


def read_chain(path: Path, find: Callable[[str], Path], seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a YAML file and merge it over the files that its ``extends:`` chain names.

    Args:
        path: the file.
        find: gives the file of a parent that does not lie beside its child.
        seen: the files that led here.

    Raises:
        ConfigError: a file is missing, not YAML or not a mapping, or the chain is a loop.
    """
    path = path.resolve()
    if path in seen:
        chain = " -> ".join(entry.name for entry in (*seen, path))
        raise ConfigError(f"{path.name}: extends: loop ({chain}); remove one of the extends: lines")
    tree = read_yaml(path)
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: extends: must be one file name, not {kind(parent)}")
    beside = path.parent / parent
    # A child keeps its own name, whatever its parent is called.
    base = read_chain(beside if beside.is_file() else find(parent), find, (*seen, path))
    base.pop("name", None)
    return _merged(base, tree)


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
