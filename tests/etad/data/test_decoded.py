"""The folder of decoded frames: what it gives back is what decoding gives, and what is out of date is made anew."""

import os
from pathlib import Path

import pytest
import torch

from etad.config import FramesConfig
from etad.data import decoded as decoded_module
from etad.data.decoded import read_through
from etad.data.videos import read_snippets
from etad.errors import DataError
from tests.etad.make_videos import write_video

SMALL = FramesConfig(clip_frames=4, resize_height=8, resize_width=12, crop=8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "videos" / "one.mp4"
    path.parent.mkdir()
    write_video(path, frames=20)
    return path


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npz"))


def test_the_second_reading_decodes_nothing(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "decoded"
    first = read_through(folder, video, 3, SMALL)
    expected = read_snippets(video, 3, SMALL)
    monkeypatch.setattr(decoded_module, "read_snippets", None)
    for again in (first, read_through(folder, video, 3, SMALL)):
        assert torch.equal(again.frames, expected.frames)
        assert torch.equal(again.index, expected.index)
        assert (again.start_s, again.duration_s) == (expected.start_s, expected.duration_s)
    assert len(kept(folder)) == 1


def test_other_settings_and_a_changed_video_are_decoded_anew(video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "decoded"
    read_through(folder, video, 3, SMALL)
    larger = SMALL.model_copy(update={"resize_height": 16})
    assert read_through(folder, video, 3, larger).frames.shape[-2:] == (16, 12)
    assert read_through(folder, video, 5, larger).index.shape == (5, 4)
    write_video(video, frames=30)
    os.utime(video, ns=(1, 1))
    found = read_through(folder, video, 5, larger)
    assert torch.equal(found.frames, read_snippets(video, 5, larger).frames)
    assert int(found.index.max()) == len(found.frames) - 1
    assert len(kept(folder)) == 1
    twice = larger.model_copy(update={"fps": 2 * larger.fps})
    assert torch.equal(read_through(folder, video, 5, twice).index, read_snippets(video, 5, twice).index)


def test_a_video_that_changed_within_size_and_time_is_decoded_anew(video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "decoded"
    read_through(folder, video, 3, SMALL)
    [file] = kept(folder)
    before, status, content = file.read_bytes(), video.stat(), bytearray(video.read_bytes())
    content[content.index(b"mdat") + 60] ^= 0xFF
    video.write_bytes(content)
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert video.stat().st_size == status.st_size
    read_through(folder, video, 3, SMALL)
    assert file.read_bytes() != before


def test_a_damaged_file_is_made_anew(video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "decoded"
    frames = read_through(folder, video, 3, SMALL).frames
    (file,) = kept(folder)
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(read_through(folder, video, 3, SMALL).frames, frames)


def test_videos_of_one_name_do_not_collide(video: Path, tmp_path: Path) -> None:
    other = tmp_path / "others" / "one.mp4"
    other.parent.mkdir()
    write_video(other, frames=9)
    folder = tmp_path / "decoded"
    read_through(folder, video, 3, SMALL)
    assert torch.equal(read_through(folder, other, 3, SMALL).frames, read_snippets(other, 3, SMALL).frames)
    assert len(kept(folder)) == 2


def test_a_folder_that_cannot_be_written_is_named(video: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="decoded frames cannot be kept"):
        read_through(tmp_path / "file", video, 3, SMALL)
