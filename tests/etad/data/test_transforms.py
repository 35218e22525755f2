"""Crops and augmentation: reproducible draws, the same for every frame of a video."""

import pytest
import torch
from torch import Tensor

from etad.config import FramesConfig
from etad.data import transforms
from etad.data.transforms import ColourJitter, Draw, Operation
from etad.errors import ConfigError

CONFIG = FramesConfig(resize_height=32, resize_width=43, crop=28)


@pytest.fixture
def frames() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (7, 3, 32, 43), dtype=torch.uint8, generator=generator)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_test_view_is_the_central_crop(frames: Tensor) -> None:
    result = transforms.transform(frames, CONFIG, None, training=False)

    assert torch.equal(result, frames[:, :, 2:30, 7:35])
    assert result.is_contiguous()


def test_published_size_crops_at_8_and_29() -> None:
    # mmaction2's CenterCrop rounds (171 - 112) / 2 down.
    assert transforms.draw(128, 171, FramesConfig(), None, training=False) == Draw(8, 29, 112)


def test_augment_none_trains_on_the_test_view(frames: Tensor) -> None:
    config = CONFIG.model_copy(update={"augment": "none"})

    assert torch.equal(
        transforms.transform(frames, config, seeded(1), training=True),
        transforms.transform(frames, config, None, training=False),
    )


def test_flip_draws_every_corner_and_both_directions() -> None:
    config = CONFIG.model_copy(update={"augment": "flip"})
    draws = [transforms.draw(32, 43, config, seeded(seed), training=True) for seed in range(400)]

    assert {draw.top for draw in draws} == set(range(5))
    assert {draw.left for draw in draws} == set(range(16))
    assert 150 < sum(draw.flip for draw in draws) < 250
    assert all(draw.operations == () and draw.jitter is None for draw in draws)


def test_published_draws_stay_in_their_ranges() -> None:
    draws = [transforms.draw(32, 43, CONFIG, seeded(seed), training=True) for seed in range(300)]
    names = list(transforms.OPERATIONS)

    assert len(names) == 15
    assert {operation.name for draw in draws for operation in draw.operations} == set(names)
    assert {operation.sign for draw in draws for operation in draw.operations} == {-1, 1}
    for draw in draws:
        first, second = (names.index(operation.name) for operation in draw.operations)
        assert first < second
        assert draw.jitter is not None
        assert sorted(draw.jitter.order) == ["brightness", "contrast", "hue", "saturation"]
        for factor in (draw.jitter.brightness, draw.jitter.contrast, draw.jitter.saturation):
            assert 0.5 <= factor <= 1.5
        assert abs(draw.jitter.hue) <= 0.142


def test_a_draw_depends_on_the_generator_alone(frames: Tensor) -> None:
    torch.manual_seed(1)
    first = transforms.transform(frames, CONFIG, seeded(5), training=True)
    torch.manual_seed(2)
    second = transforms.transform(frames, CONFIG, seeded(5), training=True)

    assert torch.equal(first, second)
    assert not torch.equal(first, transforms.transform(frames, CONFIG, seeded(6), training=True))


EVERY_DRAW = [
    *(Draw(1, 2, 28, True, (Operation(name, sign=-1, centre=(0.1, 0.7)),)) for name in transforms.OPERATIONS),
    Draw(4, 0, 28, jitter=ColourJitter(1.4, 0.6, 1.3, -0.1, ("hue", "contrast", "saturation", "brightness"))),
    Draw(0, 15, 28, True, (Operation("rotate"), Operation("equalize")), ColourJitter(0.7, 1.2, 0.5, 0.1)),
]


@pytest.mark.parametrize("chosen", EVERY_DRAW, ids=lambda draw: "+".join(op.name for op in draw.operations) or "jitter")
def test_every_frame_gets_what_it_would_get_alone(
    frames: Tensor, chosen: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = frames.clone()
    # Seven frames in chunks of three: the last chunk is shorter.
    monkeypatch.setattr(transforms, "_FRAMES_AT_ONCE", 3)

    result = transforms.apply(frames, chosen)

    assert result.dtype == torch.uint8
    assert result.device == frames.device
    assert result.shape == (7, 3, 28, 28)
    assert torch.equal(result, torch.cat([transforms.apply(frame[None], chosen) for frame in frames]))
    assert not torch.equal(result, transforms.apply(frames, Draw(chosen.top, chosen.left, 28, chosen.flip)))
    assert torch.equal(frames, untouched)


def test_equal_frames_stay_equal(frames: Tensor) -> None:
    still = frames[:1].expand(5, -1, -1, -1)

    for seed in range(20):
        result = transforms.transform(still, CONFIG, seeded(seed), training=True)
        assert (result == result[:1]).all()


def test_flip_mirrors_left_and_right(frames: Tensor) -> None:
    assert torch.equal(transforms.apply(frames, Draw(1, 2, 28, True)), frames[:, :, 1:29, 2:30].flip(-1))


def test_geometry_goes_where_it_says() -> None:
    # One white pixel near the centre of a black 50x50 picture.
    picture = torch.zeros(1, 3, 50, 50, dtype=torch.uint8)
    picture[..., 20, 25] = 255

    def moved(name: str, sign: int) -> tuple[int, int]:
        result = transforms.apply(picture, Draw(0, 0, 50, False, (Operation(name, sign),)))
        row, column = divmod(int(result[0, 0].argmax()), 50)
        return row, column

    assert moved("translate_x", 1) == (20, 34)
    assert moved("translate_y", -1) == (11, 25)


def test_cut_out_greys_one_square() -> None:
    picture = torch.zeros(2, 3, 50, 50, dtype=torch.uint8)

    result = transforms.apply(picture, Draw(0, 0, 50, False, (Operation("cut_out", centre=(0.5, 0.5)),)))

    # A side of 0.18 * 50 pixels.
    assert result[..., 20:29, 20:29].eq(128).all()
    assert int(result.ne(0).sum()) == 2 * 3 * 9 * 9


def test_neutral_jitter_changes_nothing(frames: Tensor) -> None:
    result = transforms.apply(frames, Draw(0, 0, 28, jitter=ColourJitter(1.0, 1.0, 1.0, 0.0)))

    assert int((result.int() - frames[..., :28, :28].int()).abs().max()) <= 1


def test_crop_larger_than_the_frames() -> None:
    with pytest.raises(ConfigError, match=r"data\.frames\.crop is 112, but the frames are 43x32"):
        transforms.draw(32, 43, FramesConfig(), None, training=False)


def test_normalisation_constants_are_the_published_ones() -> None:
    assert transforms.PIXEL_MEAN == (110.2008, 100.63983, 95.99475)
    assert transforms.PIXEL_STD == (58.14765, 56.46975, 55.332195)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_nearly_the_same(frames: Tensor) -> None:
    for chosen in EVERY_DRAW:
        result = transforms.apply(frames.cuda(), chosen)
        assert result.is_cuda
        difference = (result.cpu().int() - transforms.apply(frames, chosen).int()).abs().float()
        assert difference.mean() < 0.5
