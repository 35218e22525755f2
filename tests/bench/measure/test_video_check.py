"""What is said of videos before they are decoded."""

from pathlib import Path

from bench.measure.video_check import content, lines, look_at, prepare_line
from etad.config import FramesConfig
from tests.etad.make_videos import write_video


def test_a_late_picture_and_one_that_prepare_would_make_smaller(tmp_path: Path) -> None:
    late = write_video(
        tmp_path / "late.mp4", 30, fps=30, times_ms=[2000 + round(number / 0.03) for number in range(30)], sound_s=3.0
    )
    large = write_video(tmp_path / "large.mkv", 30, fps=30, size=(768, 512))
    looks, unusable = look_at({"late": late, "large": large}, ["late", "large"])

    assert unusable == []
    assert content(looks[1:], FramesConfig()) == "videos, 1 at 30 frames/s; taken at 15 frames/s"
    # Twice the rate, twice either side.
    hint = "decoding takes 8 times the pixels that the files of 'etad-bench prepare videos TARGET' have"
    assert lines(looks[:1], FramesConfig(), Path("videos")) == [
        "1 pictures start after their sound, by up to 2.0 s (first: late); times count from the start of the file",
    ]
    assert prepare_line(looks[1:], Path("videos")) == f"{hint} (15 frames/s, short side 256)"
    assert prepare_line(looks[:1], Path("videos")) is None
