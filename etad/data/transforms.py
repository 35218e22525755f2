"""Cropping and augmenting the frames of a video: one draw for the whole video, applied to all frames at once.

The published recipe (specification, section 1; ``augment: published``) is a random crop, a horizontal flip, RandAugment
with two operations at magnitude 9 of 10 out of the fifteen that mmaction2's ``ImgAug(transforms="default")`` lists
(Cubuk et al., arXiv 1909.13719), and mmaction2's ``ColorJitter`` with its default ranges. The published code draws the
directions of the geometric operations and the order of the colour steps once per process; here every video draws its
own.

``draw`` turns a random generator into plain numbers and ``apply`` carries them out, so that a draw can be logged,
tested and repeated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from etad.config import FramesConfig
from etad.errors import ConfigError


class Rgb(NamedTuple):
    """One number for each colour channel, on the 0-255 scale."""

    red: float
    green: float
    blue: float


PIXEL_MEAN = Rgb(110.2008, 100.63983, 95.99475)
PIXEL_STD = Rgb(58.14765, 56.46975, 55.332195)

RAND_AUGMENT_OPERATIONS = 2
_LEVEL = 0.9
"""RandAugment magnitude 9 of 10."""

COLOUR_STEPS = ("brightness", "contrast", "saturation", "hue")
_JITTER = 0.5
_HUE_JITTER = 0.1 * 255 / 180
"""Of a full turn of the colour circle: the published code adds 0.1 * 255 to OpenCV's hue, which runs from 0 to 179."""

_FRAMES_AT_ONCE = 128
"""Frames that a colour or geometry step takes at once: they need up to 30 times their uint8 size in temporaries."""


@dataclass(frozen=True)
class Operation:
    """One RandAugment operation.

    Attributes:
        name: a key of ``OPERATIONS``.
        sign: 1 or -1: direction of a geometric operation.
        centre: (y, x) of the cut-out square, each as a part 0..1 of the picture.
    """

    name: str
    sign: int = 1
    centre: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True)
class ColourJitter:
    """Factors of the colour steps (1.0 changes nothing), hue shift in turns, and the order of the four steps."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    order: tuple[str, ...] = COLOUR_STEPS


@dataclass(frozen=True)
class Draw:
    """Everything that is random about one view of a video.

    Attributes:
        top, left: upper left corner of the crop, pixels.
        crop: side of the square crop, pixels.
        flip: mirror left and right.
        operations: RandAugment operations, in the order of application.
        jitter: colour jitter, the last step; None for none.
    """

    top: int
    left: int
    crop: int
    flip: bool = False
    operations: tuple[Operation, ...] = ()
    jitter: ColourJitter | None = None


def transform(frames: Tensor, config: FramesConfig, generator: torch.Generator | None, training: bool) -> Tensor:
    """Crop, and in training augment, all frames of a video alike.

    Args:
        frames: uint8 ``[F, 3, H, W]``, on any device.
        config: crop side and augmentation.
        generator: CPU generator of the draw; None takes torch's global one. Unused unless something is drawn.
        training: False crops the centre and changes nothing else.

    Returns:
        uint8 ``[F, 3, crop, crop]``, contiguous, on the same device.

    Raises:
        ConfigError: the crop is larger than the frames.
    """
    height, width = frames.shape[-2:]
    return apply(frames, draw(height, width, config, generator, training))


def draw(height: int, width: int, config: FramesConfig, generator: torch.Generator | None, training: bool) -> Draw:
    """Draw what happens to a video whose frames are ``height`` x ``width`` pixels.

    Testing, and training with ``augment: none``, draw nothing: the crop is central. ``flip`` draws crop and flip only.

    Raises:
        ConfigError: the crop is larger than the frames.
    """
    crop = config.crop
    if crop > min(height, width):
        raise ConfigError(f"data.frames.crop is {crop}, but the frames are {width}x{height} pixels; make it smaller")
    if not training or config.augment == "none":
        return Draw((height - crop) // 2, (width - crop) // 2, crop)
    top = _integer(height - crop + 1, generator)
    left = _integer(width - crop + 1, generator)
    flip = _uniform(0.0, 1.0, generator) < 0.5
    if config.augment == "flip":
        return Draw(top, left, crop, flip)
    return Draw(top, left, crop, flip, _draw_operations(generator), _draw_jitter(generator))


def apply(frames: Tensor, chosen: Draw) -> Tensor:
    """Carry out a draw. Shapes as in ``transform``; every frame gets what it would get alone."""
    bottom, right = chosen.top + chosen.crop, chosen.left + chosen.crop
    cropped = frames[..., chosen.top : bottom, chosen.left : right]
    if chosen.flip:
        cropped = cropped.flip(-1)
    if not chosen.operations and chosen.jitter is None:
        return cropped.contiguous()
    result = torch.empty_like(cropped, memory_format=torch.contiguous_format)
    for target, source in zip(result.split(_FRAMES_AT_ONCE), cropped.split(_FRAMES_AT_ONCE), strict=True):
        target.copy_(_recolour(source.contiguous(), chosen))
    return result


def _recolour(frames: Tensor, chosen: Draw) -> Tensor:
    for operation in chosen.operations:
        frames = OPERATIONS[operation.name](frames, operation)
    return frames if chosen.jitter is None else _jittered(frames, chosen.jitter)


def _jittered(frames: Tensor, jitter: ColourJitter) -> Tensor:
    # In floating point, so that four steps round once.
    image: Tensor = frames.float().div_(255.0)
    steps: dict[str, Callable[[Tensor, float], Tensor]] = {
        "brightness": vision.adjust_brightness,
        "contrast": vision.adjust_contrast,
        "saturation": vision.adjust_saturation,
        "hue": vision.adjust_hue,
    }
    for name in jitter.order:
        image = steps[name](image, getattr(jitter, name))
    return image.mul_(255.0).round_().clamp_(0.0, 255.0).to(torch.uint8)


def _draw_operations(generator: torch.Generator | None) -> tuple[Operation, ...]:
    names = list(OPERATIONS)
    picked = torch.randperm(len(names), generator=generator)[:RAND_AUGMENT_OPERATIONS]
    return tuple(
        Operation(
            names[number],
            sign=2 * _integer(2, generator) - 1,
            centre=(_uniform(0.0, 1.0, generator), _uniform(0.0, 1.0, generator)),
        )
        # In the order of the list, not of the draw, as imgaug's SomeOf does.
        for number in sorted(picked.tolist())
    )


def _draw_jitter(generator: torch.Generator | None) -> ColourJitter:
    return ColourJitter(
        brightness=_uniform(1.0 - _JITTER, 1.0 + _JITTER, generator),
        contrast=_uniform(1.0 - _JITTER, 1.0 + _JITTER, generator),
        saturation=_uniform(1.0 - _JITTER, 1.0 + _JITTER, generator),
        hue=_uniform(-_HUE_JITTER, _HUE_JITTER, generator),
        order=tuple(COLOUR_STEPS[number] for number in torch.randperm(len(COLOUR_STEPS), generator=generator).tolist()),
    )


def _integer(count: int, generator: torch.Generator | None) -> int:
    """Return one of 0..count - 1."""
    return int(torch.randint(count, (), generator=generator))


def _uniform(low: float, high: float, generator: torch.Generator | None) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _affine(
    frames: Tensor, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), shear: tuple[float, float] = (0.0, 0.0)
) -> Tensor:
    """Turn (degrees), shift (x, y, parts of the picture) and shear (x, y, degrees) about the centre; black fills up."""
    height, width = frames.shape[-2:]
    result: Tensor = vision.affine(
        frames,
        angle=angle,
        translate=[shift[0] * width, shift[1] * height],
        scale=1.0,
        shear=list(shear),
        interpolation=InterpolationMode.BILINEAR,
        fill=[0.0],
    )
    return result


def _cut_out(frames: Tensor, operation: Operation) -> Tensor:
    """Grey out a square whose side is a fifth of the picture's, at full magnitude."""
    height, width = frames.shape[-2:]
    side = round(0.2 * _LEVEL * min(height, width))
    top = round(operation.centre[0] * height - side / 2)
    left = round(operation.centre[1] * width - side / 2)
    result = frames.clone()
    # Near the border only a part of the square is inside.
    result[..., max(top, 0) : top + side, max(left, 0) : left + side] = 128
    return result


_FACTOR = 1.8 * _LEVEL + 0.1

OPERATIONS: dict[str, Callable[[Tensor, Operation], Tensor]] = {
    "shear_x": lambda frames, chosen: _affine(frames, shear=(chosen.sign * 17.19 * _LEVEL, 0.0)),
    "shear_y": lambda frames, chosen: _affine(frames, shear=(0.0, chosen.sign * 17.19 * _LEVEL)),
    "translate_x": lambda frames, chosen: _affine(frames, shift=(chosen.sign * 0.2 * _LEVEL, 0.0)),
    "translate_y": lambda frames, chosen: _affine(frames, shift=(0.0, chosen.sign * 0.2 * _LEVEL)),
    "rotate": lambda frames, chosen: _affine(frames, angle=chosen.sign * 30 * _LEVEL),
    "posterize": lambda frames, _: vision.posterize(frames, bits=int(4 * _LEVEL)),
    "solarize": lambda frames, _: vision.solarize(frames, threshold=256 * _LEVEL),
    "colour": lambda frames, _: vision.adjust_saturation(frames, _FACTOR),
    "contrast": lambda frames, _: vision.adjust_contrast(frames, _FACTOR),
    "brightness": lambda frames, _: vision.adjust_brightness(frames, _FACTOR),
    "sharpness": lambda frames, _: vision.adjust_sharpness(frames, _FACTOR),
    "autocontrast": lambda frames, _: vision.autocontrast(frames),
    "equalize": lambda frames, _: vision.equalize(frames),
    "invert": lambda frames, _: vision.invert(frames),
    "cut_out": _cut_out,
}
"""RandAugment's operations at magnitude 9: uint8 ``[F, 3, H, W]`` to the same, each frame on its own."""
