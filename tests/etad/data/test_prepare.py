"""Re-encoding: rate and size, resuming, failures, interruption."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.cli.prepare import prepare as command
from etad.config import FramesConfig
from etad.data import prepare as preparation
from etad.data import video_reader, videos
from etad.data.time_line import TimeLine
from etad.errors import ConfigError, DataError, NothingToDoError
from tests.etad import make_videos


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    make_videos.write_video(folder / "a.mp4", 20)
    make_videos.write_video(folder / "b.mkv", 10, size=(32, 64))
    return folder


def prepare(source: Path, target: Path, **options: bool | int | float) -> preparation.PrepareReport:
    settings = {"short_side": 48, "workers": 1, **options}
    return preparation.prepare(source, target, **settings)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_rate_size_and_order(source: Path, tmp_path: Path) -> None:
    report = prepare(source, tmp_path / "target")

    assert report == preparation.PrepareReport(done=("a.mp4", "b.mkv"))
    assert names(tmp_path / "target") == ["a.mp4", "b.mp4", "prepare.json"]
    assert json.loads((tmp_path / "target" / "prepare.json").read_text()) == report.as_dict()
    first, second = (video_reader.probe(tmp_path / "target" / name) for name in ("a.mp4", "b.mp4"))
    # 2 s of 10 frames/s become 30 frames; 48x32 is enlarged to 72x48.
    assert (first.frames, first.width, first.height) == (30, 72, 48)
    assert first.fps == pytest.approx(15)
    assert (second.frames, second.width, second.height) == (15, 48, 96)
    shown = make_videos.numbers_of(videos.decode(tmp_path / "target" / "a.mp4", 16, 16))
    assert shown == sorted(shown)
    assert set(shown) == set(range(20))


def test_variable_rate_becomes_constant_by_time(tmp_path: Path) -> None:
    path = make_videos.write_video(tmp_path / "a.mkv", 4, times_ms=[0, 100, 1000, 1100])

    prepare(path, tmp_path / "target", fps=10)

    shown = make_videos.numbers_of(videos.decode(tmp_path / "target" / "a.mp4", 16, 16))
    assert shown[:11] == [0, *[1] * 9, 2]


def test_a_picture_that_is_hours_late_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    make_videos.write_video(tmp_path / "in" / "a.mp4", 5)
    late = TimeLine(5 * 3600.0, np.arange(5), 5, Fraction(1, 15))
    monkeypatch.setattr(video_reader.VideoReader, "packet_times", lambda _: late)
    report = preparation.prepare(tmp_path / "in", tmp_path / "out", workers=0)
    assert "its picture starts 5.0 hours late; its times are damaged" in report.failed["a.mp4"]
    assert not (tmp_path / "out" / "a.mp4").exists()


def test_a_late_picture_is_held_from_the_beginning(tmp_path: Path) -> None:
    times_ms = [1133 + round(1000 * number / 15) for number in range(20)]
    path = make_videos.write_video(tmp_path / "a.mp4", 20, fps=15, times_ms=times_ms, sound_s=3.0)

    assert prepare(path, tmp_path / "target").failed == {}

    shown = make_videos.numbers_of(videos.decode(tmp_path / "target" / "a.mp4", 16, 16))
    assert shown == [0] * 17 + list(range(20))


def test_an_avi_with_b_frames_does_not_jerk(tmp_path: Path) -> None:
    path = make_videos.write_video(tmp_path / "a.avi", 23, fps=15)

    prepare(path, tmp_path / "target")

    assert make_videos.numbers_of(videos.decode(tmp_path / "target" / "a.mp4", 16, 16)) == list(range(23))


def test_snippets_of_the_prepared_video_are_those_of_the_source(tmp_path: Path) -> None:
    times_ms = [0, 30, 66, 140, 400, 433, 467, 900, 1500, 1530]
    path = make_videos.write_video(tmp_path / "a.mkv", 10, times_ms=times_ms)
    config = FramesConfig(clip_frames=3, resize_height=8, resize_width=8, crop=8)

    prepare(path, tmp_path / "target")

    before, after = (videos.read_snippets(file, 7, config) for file in (path, tmp_path / "target" / "a.mp4"))
    shown = [make_videos.numbers_of(found.frames[found.index].flatten(0, 1)) for found in (before, after)]
    assert shown[0] == shown[1]
    assert (before.start_s, before.duration_s) == (after.start_s, after.duration_s)


def test_frames_are_dropped_to_a_lower_rate(source: Path, tmp_path: Path) -> None:
    prepare(source / "a.mp4", tmp_path / "target", fps=2.5)

    assert video_reader.probe(tmp_path / "target" / "a.mp4").frames == 5


def test_rotated_video_is_stored_upright(tmp_path: Path) -> None:
    path = make_videos.write_rotated(tmp_path / "a.mp4")

    prepare(path, tmp_path / "target")

    info = video_reader.probe(tmp_path / "target" / "a.mp4")
    frame = videos.decode(tmp_path / "target" / "a.mp4", 16, 8)[0].float()
    assert (info.width, info.height) == (48, 96)
    assert frame[:, :7].min() > 200
    assert frame[:, 9:].max() < 50


def test_finished_videos_are_skipped_until_something_changes(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    prepare(source, target)
    before = (target / "a.mp4").stat().st_mtime_ns

    assert prepare(source, target) == preparation.PrepareReport(skipped=("a.mp4", "b.mkv"))
    assert (target / "a.mp4").stat().st_mtime_ns == before
    assert prepare(source, target, overwrite=True).done == ("a.mp4", "b.mkv")
    assert prepare(source, target, short_side=32).done == ("a.mp4", "b.mkv")
    assert prepare(source, target, short_side=32, fps=12).done == ("a.mp4", "b.mkv")
    make_videos.write_video(source / "a.mp4", 15)
    assert prepare(source, target, short_side=32, fps=12) == preparation.PrepareReport(("a.mp4",), ("b.mkv",))


def test_damaged_output_is_made_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    prepare(source, target)
    whole = (target / "a.mp4").read_bytes()

    quarter = len(whole) // 4
    for damaged in (b"", whole[: 2 * quarter], whole[:quarter] + bytes(quarter) + whole[2 * quarter :]):
        (target / "a.mp4").write_bytes(damaged)
        assert prepare(source, target).done == ("a.mp4",)
        assert (target / "a.mp4").read_bytes() == whole


def test_failures_are_listed_and_the_rest_is_done(source: Path, tmp_path: Path) -> None:
    make_videos.write_sound(source / "c.mp4")
    (source / "d.avi").touch()
    make_videos.write_video(source / "b.mp4", 3)

    report = prepare(source, tmp_path / "target")

    assert report.done == ("a.mp4", "b.mkv")
    assert list(report.failed) == ["b.mp4", "c.mp4", "d.avi"]
    assert "b.mp4 is the output of b.mkv already; rename one of them" in report.failed["b.mp4"]
    assert "no video stream" in report.failed["c.mp4"]
    assert "cannot be opened" in report.failed["d.avi"]
    assert names(tmp_path / "target") == ["a.mp4", "b.mp4", "prepare.json"]


def test_wrong_frame_count_is_a_failure(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_constant_rate = preparation._at_constant_rate
    monkeypatch.setattr(preparation, "_at_constant_rate", lambda *given: list(at_constant_rate(*given))[:18])

    report = prepare(source / "a.mp4", tmp_path / "target")

    assert "the re-encoded video is faulty (18 frames where 30 were expected)" in report.failed["a.mp4"]
    assert names(tmp_path / "target") == ["prepare.json"]


def test_full_disk_is_one_line_and_keeps_what_is_done(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    encode = preparation._encode

    def encode_first_only(job: preparation._Job, output: Path, times: TimeLine, stopped: object) -> TimeLine:
        if job.source.name != "a.mp4":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return encode(job, output, times, lambda: False)

    monkeypatch.setattr(preparation, "_encode", encode_first_only)
    with pytest.raises(DataError, match="the disk is full; make room and run the same command again"):
        prepare(source, target)

    assert names(target) == ["a.mp4", "prepare.json"]
    assert list(json.loads((target / "prepare.json").read_text())["failed"]) == ["b.mkv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_recognised_in_ffmpegs_own_error(source: Path, tmp_path: Path) -> None:
    job = preparation._Job(source / "a.mp4", tmp_path / "a.mp4", Fraction(15), 48, False)
    times = video_reader.probe(job.source).times

    with pytest.raises(OSError, match="No space left") as caught:
        preparation._encode(job, Path("/dev/full"), times, lambda: False)

    assert caught.value.errno == errno.ENOSPC


def test_interruption_leaves_nothing_unfinished(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "target"
    check = preparation._check

    def interrupt_second(job: preparation._Job, output: Path, times: TimeLine) -> None:
        check(job, output, times)
        if job.source.name == "b.mkv":
            raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "_check", interrupt_second)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, target)

    assert names(target) == ["a.mp4", "prepare.json"]
    assert json.loads((target / "prepare.json").read_text())["done"] == ["a.mp4"]


def test_interrupted_worker_processes_leave_nothing_unfinished(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in ("a.mp4", "b.mp4"):
        # Some seconds of work each: enlarged 16 times.
        make_videos.write_video(source / name, 400)
    script = (
        "import sys; from pathlib import Path; from etad.data.prepare import prepare\n"
        "if __name__ == '__main__': prepare(Path(sys.argv[1]), Path(sys.argv[2]), short_side=512, workers=2)\n"
    )
    (tmp_path / "script.py").write_text(script)
    # Its own process group, as a terminal gives it, so that the signal reaches the workers too.
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", source, target], stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (target.is_dir() and any(path.stat().st_size for path in target.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, messages = process.communicate(timeout=60)

    assert process.returncode != 0
    assert messages.decode().count("Traceback") <= 2, messages.decode()
    assert names(target) == ["prepare.json"]
    assert json.loads((target / "prepare.json").read_text()) == {"done": [], "skipped": [], "failed": {}}


def test_workers_give_the_same_files(source: Path, tmp_path: Path) -> None:
    (source / "c.avi").touch()

    alone = prepare(source, tmp_path / "alone")
    together = prepare(source, tmp_path / "together", workers=2)

    assert alone == together
    for name in ("a.mp4", "b.mp4"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "together" / name).read_bytes()


def test_target_must_not_hold_the_sources(source: Path) -> None:
    with pytest.raises(ConfigError, match="holds the sources"):
        prepare(source, source)
    with pytest.raises(ConfigError, match="must be positive"):
        prepare(source, source / "target", fps=0)


def test_command_prints_the_report(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    arguments = [str(source), str(target), "--short-side", "48", "--workers", "1"]

    result = CliRunner().invoke(command, arguments)

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"done": ["a.mp4", "b.mkv"], "skipped": [], "failed": {}}
    assert result.stderr == f"2 videos encoded, 0 already finished, 0 failed: {target}\n"

    (source / "c.avi").touch()
    result = CliRunner().invoke(command, arguments)

    assert result.exit_code == 3
    assert list(json.loads(result.stdout)["failed"]) == ["c.avi"]


def test_command_without_videos(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path), str(tmp_path / "target")])

    assert isinstance(result.exception, NothingToDoError)
    assert result.exception.exit_code == 5
