"""Frame numbers of snippets, and decoding of sound and awkward files."""

import importlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from hypothesis import given
from hypothesis import strategies as st

from etad.config import FramesConfig
from etad.data import torchcodec_frames, video_files, video_reader, videos
from etad.data.time_line import TimeLine
from etad.errors import ConfigError, DataError, NothingToDoError
from tests.etad import make_videos
from tests.paths import SHARED

REAL_VIDEOS = SHARED / "data" / "videos"
# Frames that decode, counted once by decoding every frame at full size.
REAL_COUNTS = {
    "bbformer_highjump.mp4": 726,
    "cuhk_plastering.avi": 1616,
    "decord_flipping_a_pancake.mkv": 310,
    "torchcodec_nasa_13013.mp4": 390,
    "tv_RATRACE_wave_f_nm_np1_fr_goo_37.avi": 72,
    "tv_hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": 83,
    "untrimmed_120s_15fps.mp4": 1800,
    "v_GGSY1Qvo990.mp4": 355,
}
SMALL = FramesConfig(fps=10, clip_frames=4, resize_height=8, resize_width=12, crop=8)


@given(frames=st.integers(1, 20_000), snippets=st.integers(1, 300), clip=st.integers(1, 64))
def test_snippets_are_runs_from_the_first_frame_to_the_last(frames: int, snippets: int, clip: int) -> None:
    index = videos.snippet_indices(frames, snippets, clip)

    assert index.shape == (snippets, clip)
    assert index.dtype == np.int64
    assert index.min() >= 0
    assert index.max() < frames
    assert index[0, 0] == 0
    assert ((index[:, 1:] - index[:, :-1]) % frames == 1 % frames).all()
    if frames >= clip:
        assert (np.diff(index[:, 0]) >= 0).all()
        assert snippets == 1 or index[-1, -1] == frames - 1


def test_snippet_starts_follow_the_published_formula() -> None:
    index = videos.snippet_indices(1800, 128, 16)

    assert index[:, 0].tolist() == [int(np.round(i * 1784 / 127)) for i in range(128)]


def test_short_video_loops() -> None:
    assert videos.snippet_indices(3, 2, 7).tolist() == [[0, 1, 2, 0, 1, 2, 0]] * 2


def test_probe_and_decode_give_frames_in_order(tmp_path: Path) -> None:
    path = make_videos.write_video(tmp_path / "a.mp4", 23)

    info = video_reader.probe(path)
    frames = videos.decode(path, 16, 20)

    assert (info.frames, info.width, info.height, info.problem) == (23, 48, 32, None)
    assert info.fps == pytest.approx(10)
    assert info.duration_s == pytest.approx(2.3)
    assert frames.shape == (23, 3, 16, 20)
    assert frames.dtype == torch.uint8
    assert make_videos.numbers_of(frames) == list(range(23))


def test_a_title_in_an_unknown_encoding_does_not_matter(tmp_path: Path) -> None:
    path = make_videos.write_video(tmp_path / "a.avi", 12, title="a title")
    content = path.read_bytes()
    assert content.count(b"a title") == 1
    path.write_bytes(content.replace(b"a title", b"a \xe9\xff\xc3\xe9\xff"))

    assert video_reader.probe(path).frames == 12


def test_decode_gives_the_frames_asked_for_in_that_order(tmp_path: Path) -> None:
    path = make_videos.write_video(tmp_path / "a.mp4", 20)

    assert make_videos.numbers_of(videos.decode(path, 8, 8, [7, 0, 19, 7])) == [7, 0, 19, 7]
    assert videos.decode(path, 8, 8, []).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("number", [-1, 20])
def test_decode_of_a_frame_that_is_not_there(tmp_path: Path, number: int) -> None:
    path = make_videos.write_video(tmp_path / "a.mp4", 20)

    with pytest.raises(DataError, match=rf"a\.mp4: frame {number} was asked for.*0\.\.19"):
        videos.decode(path, 8, 8, [number])


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:] = (250, 120, 10)
    path = make_videos.write_video(tmp_path / "a.mp4", 1, pictures=[picture])

    colour = videos.decode(path, 8, 8)[0].float().mean(dim=(1, 2))

    assert colour.tolist() == pytest.approx([250, 120, 10], abs=6)


def test_read_snippets_decodes_each_frame_once(tmp_path: Path) -> None:
    path = make_videos.write_video(tmp_path / "a.mp4", 24)

    found = videos.read_snippets(path, 3, SMALL)

    frames, index = found.frames, found.index
    expected = videos.snippet_indices(24, 3, 4)
    assert (found.start_s, found.duration_s) == (0.0, 2.4)
    assert frames.shape == (12, 3, 8, 12)
    assert index.dtype == torch.int64
    assert make_videos.numbers_of(frames[index].flatten(0, 1)) == expected.flatten().tolist()


def test_read_snippets_recovers_from_a_wrong_packet_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_videos.write_video(tmp_path / "a.mp4", 20)
    expected = videos.read_snippets(path, 5, SMALL)

    for wrong in (1, 12, 22):
        times = TimeLine(0.0, np.arange(wrong), wrong, Fraction(1, 10))
        monkeypatch.setattr(video_reader.VideoReader, "packet_times", lambda self, times=times: times)
        found = videos.read_snippets(path, 5, SMALL)

        assert torch.equal(found.frames, expected.frames)
        assert torch.equal(found.index, expected.index)
        assert (found.start_s, found.duration_s) == (0.0, 2.0)


def test_video_of_one_frame_loops(tmp_path: Path) -> None:
    path = make_videos.write_video(tmp_path / "a.mp4", 1)

    found = videos.read_snippets(path, 3, SMALL)

    assert video_reader.probe(path).duration_s == pytest.approx(0.1)
    assert found.frames.shape[0] == 1
    assert found.index.tolist() == [[0] * 4] * 3
    assert (found.start_s, found.duration_s) == (0.0, 0.1)


def test_variable_rate_counts_frames_and_measures_time(tmp_path: Path) -> None:
    times_ms = [0, 40, 80, 1000, 1040, 3000, 3100]
    path = make_videos.write_video(tmp_path / "a.mkv", 7, times_ms=times_ms)

    info = video_reader.probe(path)

    assert info.frames == 7
    assert info.duration_s == pytest.approx(3.1, abs=0.6)
    assert info.fps == pytest.approx(7 / info.duration_s)
    assert make_videos.numbers_of(videos.decode(path, 8, 8)) == list(range(7))


def test_best_of_several_video_streams_is_read(tmp_path: Path) -> None:
    info = video_reader.probe(make_videos.write_two_streams(tmp_path / "a.mkv"))

    assert (info.width, info.height, info.frames) == (64, 48, 8)


def test_rotation_is_carried_out(tmp_path: Path) -> None:
    path = make_videos.write_rotated(tmp_path / "a.mp4")

    info = video_reader.probe(path)
    frame = videos.decode(path, 16, 8)[0].float()

    assert (info.width, info.height) == (32, 64)
    assert frame.shape == (3, 16, 8)
    assert frame[:, :7].min() > 200
    assert frame[:, 9:].max() < 50


def test_truncated_file_gives_what_decodes_and_says_so(tmp_path: Path) -> None:
    path = make_videos.write_truncated(tmp_path / "a.mp4", 30, keep=0.6)

    info = video_reader.probe(path)
    found = videos.read_snippets(path, 4, SMALL)

    assert 5 < info.frames < 25
    assert info.problem is not None
    assert "\n" not in info.problem
    assert int(found.index.max()) == found.frames.shape[0] - 1


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (lambda path: path.touch(), "empty.mp4", "cannot be opened"),
        (lambda path: path.write_text("not a video"), "text.mp4", "cannot be opened"),
        (lambda path: path.mkdir(), "folder.mp4", "cannot be opened"),
        (lambda path: None, "absent.mp4", "cannot be opened as a video .No such file"),
        (make_videos.write_sound, "sound.mp4", "no video stream"),
        (make_videos.write_no_frames, "none.avi", "no frame of its video stream decodes"),
        (lambda path: make_videos.write_truncated(path, 30, keep=0.05), "stump.mp4", "no frame|cannot be opened"),
    ],
)
def test_unusable_file_is_one_clear_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path], object], name: str, message: str
) -> None:
    path = tmp_path / name
    make(path)
    capfd.readouterr()

    for read in (
        video_reader.probe,
        lambda file: videos.decode(file, 8, 8),
        lambda file: videos.read_snippets(file, 2, SMALL),
    ):
        with pytest.raises(DataError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mkv"
    make_videos.write_video(path, 1)
    with video_reader.VideoReader(path) as reader:
        reader._stream.disposition = av.stream.Disposition.attached_pic
        with pytest.raises(DataError, match="no video stream"):
            reader._best_stream()


@pytest.mark.parametrize(
    ("stored", "pattern", "found"),
    [
        (["v_x.mp4", "v_x.mkv"], "v_{id}.mp4", "v_x.mp4"),
        (["v_x.mkv"], "v_{id}.mp4", "v_x.mkv"),
        (["v_x.AVI"], "v_{id}.mp4", "v_x.AVI"),
        (["x.webm"], "v_{id}.mp4", "x.webm"),
        (["v_x.mp4"], "{id}.mp4", "v_x.mp4"),
        (["x.mp4"], "{id}", "x.mp4"),
        (["y.mp4", "x.txt"], "{id}.mp4", None),
    ],
)
def test_find_video(tmp_path: Path, stored: list[str], pattern: str, found: str | None) -> None:
    for name in stored:
        (tmp_path / name).touch()

    assert video_files.find_video(tmp_path, pattern, "x") == (tmp_path / found if found else None)


def test_find_video_keeps_dots_in_an_id(tmp_path: Path) -> None:
    (tmp_path / "a.b.mkv").touch()

    assert video_files.find_video(tmp_path, "{id}", "a.b") == tmp_path / "a.b.mkv"
    assert video_files.find_video(tmp_path, "{id}.mp4", "a.b") == tmp_path / "a.b.mkv"
    assert video_files.find_video(tmp_path, "{id}.mp4", "a.c") is None


def test_list_videos(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.AVI", "notes.txt", ".b.mp4.unfinished.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()

    assert [path.name for path in video_files.list_videos(tmp_path)] == ["a.AVI", "b.mp4"]
    assert video_files.list_videos(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(NothingToDoError, match="holds no video"):
        video_files.list_videos(tmp_path / "folder.mp4")
    with pytest.raises(DataError, match="no such file"):
        video_files.list_videos(tmp_path / "absent")


@pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason="the shared real videos are not here")
@pytest.mark.parametrize("path", sorted(REAL_VIDEOS.glob("*")), ids=lambda path: path.stem)
def test_real_video_decodes(path: Path) -> None:
    info = video_reader.probe(path)
    found = videos.read_snippets(path, 4, SMALL)

    assert info.problem is None
    assert info.frames == REAL_COUNTS.get(path.name, info.frames)
    assert 5 < info.fps < 31
    assert found.index.shape == (4, 4)
    assert int(found.index.max()) == found.frames.shape[0] - 1
    assert found.frames.float().std() > 5


class FakeRaw:
    """A stand-in for torchcodec's RawFrame: a frame's planes without padding."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self.pixel_format, self.width, self.height = frame.format.name, frame.width, frame.height
        kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
        self.planes = [
            torch.from_numpy(np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width].copy())
            for plane in frame.planes
        ]


class FakeDemuxer:
    """A stand-in for torchcodec's Demuxer, its stream and its decoder, on top of PyAV."""

    opened = 0

    def __init__(self, path: str, *, streams: int) -> None:
        type(self).opened += 1
        self._container = av.open(path)
        self._stream = self._container.streams[streams]
        self.streams = [self]

    def make_decoder(self, device: str, *, num_ffmpeg_threads: int) -> "FakeDemuxer":
        return self

    def __iter__(self) -> Iterator[av.Packet]:
        return (packet for packet in self._container.demux(self._stream) if packet.size)

    def decode(self, packet: av.Packet | None) -> list[FakeRaw]:
        return [FakeRaw(frame) for frame in self._stream.decode(packet)]

    def drain(self) -> list[FakeRaw]:
        return self.decode(None)


class RefusesFile(FakeDemuxer):
    def __init__(self, path: str, *, streams: int) -> None:
        raise ValueError("no such thing\nwith details")


class RefusesPacket(FakeDemuxer):
    def decode(self, packet: av.Packet | None) -> list[FakeRaw]:
        raise RuntimeError("Failed to send packet")


class LosesFrame(FakeDemuxer):
    def drain(self) -> list[FakeRaw]:
        return super().drain()[:-1]


class DecodesOtherwise(FakeDemuxer):
    def decode(self, packet: av.Packet | None) -> list[FakeRaw]:
        found = super().decode(packet)
        for raw in found:
            raw.planes[0] += 3
        return found


class ChangesSize(FakeDemuxer):
    def drain(self) -> list[FakeRaw]:
        found = super().drain()
        found[-1].width += 2
        return found


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[FakeDemuxer]], None]:
    """Return a function that puts a demuxer class in torchcodec's place."""

    def install(demuxer: type[FakeDemuxer]) -> None:
        demuxer.opened = 0
        monkeypatch.setattr(torchcodec_frames, "_import_torchcodec", lambda: SimpleNamespace(Demuxer=demuxer))

    return install


def write_ten_bits(path: Path) -> Path:
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 50, 34, "yuv422p10le"
        for number in range(5):
            sink.mux(stream.encode(make_videos.grey(number, 50, 34).reformat(format="yuv422p10le")))
        sink.mux(stream.encode(None))
    return path


def write_second_of_two(path: Path) -> Path:
    with av.open(str(path), "w") as sink:
        streams = [sink.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, size, flags in zip(streams, (16, 48), (Disposition(0), Disposition.default), strict=True):
            stream.width, stream.height, stream.pix_fmt, stream.disposition = size, size, "yuv420p", flags
        for stream in streams:
            for number in range(stream.width // 8):
                sink.mux(stream.encode(make_videos.grey(number, stream.width, stream.height)))
            sink.mux(stream.encode(None))
    return path


READABLE: list[Callable[[Path], Path]] = [
    lambda folder: make_videos.write_video(folder / "a.mp4", 20),
    lambda folder: make_videos.write_video(folder / "a.mp4", 1),
    lambda folder: make_videos.write_video(folder / "a.mp4", 7, size=(50, 34)),
    lambda folder: make_videos.write_video(folder / "a.mkv", 7, times_ms=[0, 40, 80, 1000, 1040, 3000, 3100]),
    lambda folder: make_videos.write_rotated(folder / "a.mp4"),
    lambda folder: write_second_of_two(folder / "a.mkv"),
    lambda folder: write_ten_bits(folder / "a.mp4"),
]


@pytest.mark.parametrize("make", READABLE)
def test_torchcodec_gives_the_same_frames(
    tmp_path: Path, fake: Callable[[type[FakeDemuxer]], None], make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    count = video_reader.probe(path).frames
    fake(FakeDemuxer)

    for height, width, indices in ((16, 20, None), (9, 7, [count - 1, 0, count - 1]), (8, 8, [])):
        expected = videos.decode(path, height, width, indices, decoder="pyav")
        assert FakeDemuxer.opened == 0
        assert torch.equal(videos.decode(path, height, width, indices, decoder="torchcodec"), expected)
        assert torch.equal(videos.decode(path, height, width, indices), expected)
        assert FakeDemuxer.opened == 2
        FakeDemuxer.opened = 0


def test_read_snippets_with_torchcodec(tmp_path: Path, fake: Callable[[type[FakeDemuxer]], None]) -> None:
    path = make_videos.write_video(tmp_path / "a.mp4", 24)
    expected = videos.read_snippets(path, 3, SMALL.model_copy(update={"decoder": "pyav"}))
    fake(FakeDemuxer)

    for decoder in ("auto", "torchcodec"):
        found = videos.read_snippets(path, 3, SMALL.model_copy(update={"decoder": decoder}))

        assert torch.equal(found.frames, expected.frames)
        assert torch.equal(found.index, expected.index)
    assert FakeDemuxer.opened == 2


@pytest.mark.parametrize(
    ("demuxer", "reason"),
    [
        (RefusesFile, "no such thing"),
        (RefusesPacket, "Failed to send packet"),
        (LosesFrame, "19 frames from 20 packets"),
        (DecodesOtherwise, "its first frame has other pixels"),
        (ChangesSize, "its pictures change their size"),
    ],
)
def test_pyav_decodes_what_torchcodec_refuses(
    tmp_path: Path, fake: Callable[[type[FakeDemuxer]], None], demuxer: type[FakeDemuxer], reason: str
) -> None:
    path = make_videos.write_video(tmp_path / "a.mp4", 20)
    expected = videos.decode(path, 8, 8, decoder="pyav")
    fake(demuxer)

    assert torch.equal(videos.decode(path, 8, 8), expected)
    with pytest.raises(
        DataError, match=rf"a\.mp4: torchcodec does not .*\({reason}.*\); set data\.frames\.decoder"
    ) as caught:
        videos.decode(path, 8, 8, decoder="torchcodec")
    assert "\n" not in str(caught.value)


def test_codec_whose_pixels_depend_on_the_version_is_left_to_pyav(
    tmp_path: Path, fake: Callable[[type[FakeDemuxer]], None]
) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number in range(4):
            sink.mux(stream.encode(make_videos.grey(number, 48, 32)))
        sink.mux(stream.encode(None))
    fake(FakeDemuxer)

    assert make_videos.numbers_of(videos.decode(path, 8, 8)) == list(range(4))
    assert FakeDemuxer.opened == 0
    with pytest.raises(DataError, match="its codec is mpeg4"):
        videos.decode(path, 8, 8, decoder="torchcodec")


@pytest.mark.parametrize("failure", [ImportError("none"), OSError("no libavutil.so"), RuntimeError("no FFmpeg")])
def test_torchcodec_that_does_not_import_is_absent(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def refuse(name: str) -> ModuleType:
        raise failure

    monkeypatch.setattr(importlib, "import_module", refuse)

    assert torchcodec_frames._import_torchcodec.__wrapped__() is None


@pytest.mark.parametrize(
    ("package", "present"),
    [
        (SimpleNamespace(ffmpeg_major_version=8, Demuxer=FakeDemuxer), True),
        (SimpleNamespace(ffmpeg_major_version=None, Demuxer=FakeDemuxer), False),
        (SimpleNamespace(ffmpeg_major_version=8), False),
        (SimpleNamespace(), False),
    ],
)
def test_torchcodec_needs_ffmpeg_and_the_demuxer(
    monkeypatch: pytest.MonkeyPatch, package: SimpleNamespace, present: bool
) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: package)

    assert (torchcodec_frames._import_torchcodec.__wrapped__() is package) == present


def test_torchcodec_asked_for_and_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_videos.write_video(tmp_path / "a.mp4", 20)
    monkeypatch.setattr(torchcodec_frames, "_import_torchcodec", lambda: None)

    assert make_videos.numbers_of(videos.decode(path, 8, 8)) == list(range(20))
    for read in (
        lambda: torchcodec_frames.torchcodec_decoders("torchcodec"),
        lambda: videos.decode(path, 8, 8, decoder="torchcodec"),
        lambda: videos.read_snippets(path, 2, SMALL.model_copy(update={"decoder": "torchcodec"})),
    ):
        with pytest.raises(ConfigError, match=r"^data\.frames\.decoder: .*etad-bench\[torchcodec\]") as caught:
            read()
        assert "\n" not in str(caught.value)


needs_torchcodec = pytest.mark.skipif(
    torchcodec_frames.torchcodec_decoders() is None, reason="torchcodec is not installed"
)


@needs_torchcodec
@pytest.mark.parametrize("make", READABLE)
def test_real_torchcodec_gives_the_same_frames(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)

    for height, width in ((16, 20), (128, 171)):
        expected = videos.decode(path, height, width, decoder="pyav")
        assert torch.equal(videos.decode(path, height, width, decoder="torchcodec"), expected)


@needs_torchcodec
def test_real_torchcodec_and_a_truncated_file(tmp_path: Path) -> None:
    path = make_videos.write_truncated(tmp_path / "a.mp4", 30, keep=0.6)

    assert len(videos.decode(path, 8, 8)) == video_reader.probe(path).frames


@needs_torchcodec
@pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason="the shared real videos are not here")
@pytest.mark.parametrize("path", sorted(REAL_VIDEOS.glob("*")), ids=lambda path: path.stem)
def test_real_torchcodec_decodes_a_real_video_to_the_same_pixels(path: Path) -> None:
    expected = videos.decode(path, 128, 171, decoder="pyav")

    assert torch.equal(videos.decode(path, 128, 171), expected)
    with video_reader.VideoReader(path) as reader:
        exact = reader.codec == "h264"
    if exact:
        assert torch.equal(videos.decode(path, 128, 171, decoder="torchcodec"), expected)
