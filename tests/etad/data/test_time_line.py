"""A snippet is a stretch of time: the same pictures are seen however a file stores them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph
from hypothesis import given, settings
from hypothesis import strategies as st

from etad.config import FramesConfig
from etad.data import video_reader, videos
from etad.data.time_line import TimeLine, exact_rate
from tests.etad import make_videos
from tests.paths import SHARED

REAL_VIDEOS = SHARED / "data" / "videos"
FIFTEEN = Fraction(15)
MS = Fraction(1, 1000)
SMALL = FramesConfig(clip_frames=4, resize_height=8, resize_width=12, crop=8)


def line(times: Sequence[int | None], last: int, tick_s: Fraction = MS) -> TimeLine:
    return TimeLine.of_pictures(times, [last] * len(times), tick_s, FIFTEEN)


@st.composite
def variable(draw: st.DrawFn) -> TimeLine:
    gaps = draw(st.lists(st.integers(1, 400), min_size=0, max_size=40))
    return line(np.cumsum([0, *gaps]).tolist(), draw(st.integers(1, 400)))


def fps_filter(times: TimeLine, fps: Fraction) -> list[int]:
    """The pictures that FFmpeg's filter shows."""
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(width=16, height=16, format="gray", time_base=times.tick_s),
        graph.add("fps", fps=str(fps)),
        graph.add("buffersink"),
    ).configure()
    shown: list[int] = []

    def take() -> None:
        try:
            while True:
                shown.append(int(graph.vpull().to_ndarray()[0, 0]))
        except (av.error.BlockingIOError, av.error.EOFError):
            pass

    ends = [*times.ticks[1:].tolist(), times.end]
    for number, (tick, end) in enumerate(zip(times.ticks.tolist(), ends, strict=True)):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16), number, np.uint8), format="gray")
        frame.pts, frame.duration, frame.time_base = tick, end - tick, times.tick_s
        graph.vpush(frame)
        take()
    graph.vpush(None)
    take()
    return shown


@settings(max_examples=60, deadline=None)
@given(times=variable(), fps=st.sampled_from([FIFTEEN, Fraction(10), Fraction(30000, 1001), Fraction(5, 2)]))
def test_pictures_are_those_of_ffmpegs_fps_filter(times: TimeLine, fps: Fraction) -> None:
    expected = fps_filter(times, fps)

    numbers = times.shown(np.arange(times.count(fps)), fps).tolist()
    # A video too short for one frame is shown all the same.
    assert numbers == (expected or [len(times) - 1])
    assert np.repeat(np.arange(len(times)), times.repeats(fps)).tolist() == numbers


@given(times=variable(), fps=st.fractions(Fraction(1, 10), 100, max_denominator=100))
def test_the_mapping_goes_forward_and_covers_the_whole(times: TimeLine, fps: Fraction) -> None:
    shown = times.shown(np.arange(times.count(fps)), fps)

    assert (np.diff(shown) >= 0).all()
    assert abs(times.count(fps) / fps - Fraction(times.end) * times.tick_s) <= max(1 / fps, 0) / 2 or len(shown) == 1
    # What is shown at a time appeared, and had not yet been replaced, within half a frame of it.
    for number, picture in enumerate(shown.tolist()):
        half = 1 / fps / 2
        assert times.ticks[picture] * times.tick_s <= number / fps + half or len(shown) == 1
        if picture + 1 < len(times):
            assert times.ticks[picture + 1] * times.tick_s >= number / fps + half or len(shown) == 1


@given(frames=st.integers(1, 3000), scale=st.sampled_from([1, 7, 1024, 6000]), start=st.integers(0, 10**6))
def test_at_its_own_rate_a_video_gives_its_own_frames(frames: int, scale: int, start: int) -> None:
    tick_s = Fraction(1, 15 * scale)
    times = line([start + scale * number for number in range(frames)], scale, tick_s)

    assert times.count(FIFTEEN) == frames
    assert times.shown(np.arange(frames), FIFTEEN).tolist() == list(range(frames))


@given(frames=st.integers(1, 3000), start_ms=st.integers(0, 1000))
def test_times_rounded_to_milliseconds_do_not_matter(frames: int, start_ms: int) -> None:
    times = line([start_ms + round(1000 * number / 15) for number in range(frames)], 67)

    assert times.shown(np.arange(times.count(FIFTEEN)), FIFTEEN).tolist() == list(range(frames))


def test_times_that_jump_back_or_are_missing() -> None:
    # Times of storage: the k-th picture gets the k-th smallest.
    assert line([1, 4, 3, 5, 2], 1).ticks.tolist() == [0, 1, 2, 3, 4]
    assert line([None, 100, None, None, 400, None], 100).ticks.tolist() == [0, 67, 167, 267, 367, 434]
    without = line([None] * 30, 0)
    assert (without.start_s, without.duration_s, without.mean_rate) == (0.0, 2.0, 15.0)
    # Two recordings joined: the clock starts again, and time goes on.
    joined = line([40 * number for number in range(50)] * 2, 40)
    assert joined.duration_s == pytest.approx(4.0, abs=0.1)
    assert (np.diff(joined.ticks) > 0).all()


def test_absurd_times_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^its times span \d+ days$"):
        line([0, 2**62], 1)


@pytest.mark.parametrize(("fps", "exact"), [(15.0, "15"), (29.97002997, "30000/1001"), (0.01, "1/100")])
def test_a_rate_is_the_fraction_that_is_meant(fps: float, exact: str) -> None:
    assert exact_rate(fps) == Fraction(exact)


# Files


def seen(path: Path, snippets: int = 9) -> tuple[list[int], float, float]:
    """The pictures that the snippets of a file show, and the time that they cover."""
    found = videos.read_snippets(path, snippets, SMALL)
    shown = make_videos.numbers_of(found.frames[found.index].flatten(0, 1))
    return shown, found.start_s, found.duration_s


FILES = {
    "30 a second": ("a.mp4", {"fps": 30, "repeat": 2}),
    "60 a second": ("a.mp4", {"fps": 60, "repeat": 4}),
    "Matroska": ("a.mkv", {"fps": 15}),
    "H.264 in AVI": ("a.avi", {"fps": 15}),
    "transport stream": ("a.ts", {"fps": 15}),
    "longer sound": ("a.mp4", {"fps": 15, "sound_s": 4.0}),
    "hidden beginning": ("a.mp4", {"fps": 15, "hidden": 7}),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_same_pictures_are_seen_however_they_are_stored(tmp_path: Path, kind: str) -> None:
    expected = seen(make_videos.write_video(tmp_path / "original.mp4", 40, fps=15))
    name, options = FILES[kind]
    repeat, hidden = options.pop("repeat", 1), options.get("hidden", 0)
    numbers = [*range(hidden), *np.repeat(np.arange(40), repeat).tolist()]
    pictures = [make_videos.grey(number, 48, 32).to_ndarray(format="rgb24") for number in numbers]
    path = make_videos.write_video(tmp_path / name, len(numbers), pictures=pictures, **options)

    shown, start_s, duration_s = seen(path)
    assert shown == expected[0]
    assert (start_s, duration_s) == (pytest.approx(0.0, abs=1e-5), expected[2])
    assert video_reader.probe(path).problem is None


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_an_avi_with_b_frames_is_shown_in_order(tmp_path: Path, codec: str) -> None:
    rng = np.random.default_rng(0)
    # Something moves, so that B-frames are worth coding.
    noise = rng.integers(0, 255, (64, 64 + 40, 3), np.uint8)
    path = make_videos.write_video(
        tmp_path / "a.avi", 40, fps=15, size=(64, 64), pictures=[noise[:, n : n + 64] for n in range(40)], codec=codec
    )
    with av.open(str(path)) as container:
        guessed = [frame.pts for frame in container.decode(video=0)]
    assert guessed[0] != 0
    assert codec == "mpeg4" or guessed != sorted(guessed)

    info = video_reader.probe(path)
    assert info.problem is None
    assert (info.times.start_s, info.times.ticks.tolist(), info.times.end) == (0.0, list(range(40)), 40)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_standstill_stored_at_one_frame_a_second(tmp_path: Path, name: str) -> None:
    still = range(15, 30)
    pictures = [make_videos.grey(min(number, 15) if number in still else number, 48, 32) for number in range(45)]
    arrays = [picture.to_ndarray(format="rgb24") for picture in pictures]
    constant = make_videos.write_video(tmp_path / "constant.mp4", 45, fps=15, pictures=arrays)
    kept = [number for number in range(45) if number not in still or number == 15]
    times_ms = [round(1000 * number / 15) for number in kept]
    path = make_videos.write_video(
        tmp_path / name, len(kept), fps=15, times_ms=times_ms, pictures=[arrays[number] for number in kept]
    )

    assert seen(path) == seen(constant)
    slowest, fastest = video_reader.probe(path).times.rates
    assert slowest == pytest.approx(1, rel=0.01)
    assert fastest == pytest.approx(15, rel=0.02)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_picture_that_starts_after_the_sound(tmp_path: Path, name: str) -> None:
    times_ms = [5000 + round(1000 * number / 15) for number in range(40)]
    path = make_videos.write_video(tmp_path / name, 40, fps=15, times_ms=times_ms, sound_s=8.0)
    expected = seen(make_videos.write_video(tmp_path / "original.mp4", 40, fps=15))

    assert seen(path) == (expected[0], 5.0, expected[2])
    info = video_reader.probe(path)
    assert info.times.end_s == pytest.approx(5 + 40 / 15, abs=0.002)
    assert [info.times.picture_at(time_s) for time_s in (0.0, 5.0, 5.07, 6.01, 99.0)] == [0, 0, 1, 15, 39]


def test_skipped_frames_of_an_avi_are_neither_damage_nor_lost_time(tmp_path: Path) -> None:
    times_ms = [0, 67, 133, 400, 467, 533, 800]
    path = make_videos.write_video(tmp_path / "a.avi", 7, fps=15, times_ms=times_ms, b_frames=False)

    info = video_reader.probe(path)
    assert info.problem is None
    assert info.frames == 7
    assert info.times.ticks.tolist() == times_ms


def test_a_cut_off_avi_is_damaged(tmp_path: Path) -> None:
    noise = [np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8) for _ in range(30)]
    path = make_videos.write_video(tmp_path / "a.avi", 30, size=(64, 64), pictures=noise, codec="mpeg4")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

    problem = video_reader.probe(path).problem
    assert problem is not None
    assert "of 30 frames decode" in problem or "broke off" in problem


@pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason="the shared real videos are not here")
@pytest.mark.parametrize("path", sorted(REAL_VIDEOS.glob("*")), ids=lambda path: path.stem)
def test_times_of_real_videos(path: Path) -> None:
    info = video_reader.probe(path)
    times = info.times

    assert (np.diff(times.ticks) > 0).all()
    assert times.start_s == 0.0
    with video_reader.VideoReader(path) as reader:
        header = reader.header_times()
    assert abs(len(header) - len(times)) <= 1
    assert header.duration_s == pytest.approx(times.duration_s, abs=0.06)
    # A constant rate between 15 and 30 is sampled without repeating any picture.
    if times.rates[0] == times.rates[1] > 15:
        assert times.repeats(FIFTEEN).max() == 1
