"""Re-encoding videos to the published models' input: 15 frames/s, short side 256 (specification, section 1).

Output is H.264 (yuv420p) in mp4 without sound. Pictures are repeated or dropped by the times at which they are shown
to reach the constant rate, as FFmpeg's ``fps`` filter does and as snippets are cut (time_line.py). Its time 0 is the
source's: where the picture starts late, after the sound, the first one is held from 0 on. A file appears under its
final name only after it was decoded and has all its frames. It carries a tag of its source's content and the settings,
by which a later run knows it as finished.
"""

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, repeat
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Literal

import av
from av.container import OutputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from etad.data.time_line import TimeLine, exact_rate
from etad.data.video_files import list_videos
from etad.data.video_reader import VideoReader, probe, quarter_turns
from etad.digests import file_digest
from etad.errors import ConfigError, DataError
from etad.files import replace_atomically, write_json
from etad.progress import progress as progress_bar
from etad.signals import end_with_parent

REPORT_NAME = "prepare.json"
FPS = 15.0
SHORT_SIDE = 256
"""Frames per second and pixels of the shorter side of the output, as published."""
LONGEST_HELD_S = 3600.0
"""A first picture that is held for longer is none that anybody recorded."""
_VERSION = 2
"""Raise it with every change of what an output holds, so that older files are made anew."""

# FFmpeg's own defaults, spelt out so that a new FFmpeg does not change the output. With AVX-512 x264 weighs macroblocks
# (mbtree) by code whose result varies from run to run; cpu-independent leaves that out, at the same size and speed
# (731,165 for 731,927 bytes, 1.62 s for 1.62 s on a clip of 14 s), where mbtree=0 would change the quality.
_ENCODER_OPTIONS = {"crf": "23", "preset": "medium", "x264-params": "cpu-independent=1"}


@dataclass(frozen=True)
class PrepareReport:
    """What became of each video, by source file name.

    Attributes:
        done: encoded in this run.
        skipped: finished in an earlier run, and still intact.
        failed: name and, in one line, why.
    """

    done: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values."""
        return {"done": list(self.done), "skipped": list(self.skipped), "failed": dict(self.failed)}


@dataclass(frozen=True)
class _Job:
    source: Path
    target: Path
    fps: Fraction
    short_side: int
    overwrite: bool

    @property
    def tag(self) -> str:
        """What a finished output says of itself."""
        size, content = self.source.stat().st_size, file_digest(self.source)
        settings = f"fps {self.fps}, short side {self.short_side}"
        return f"etad-bench prepare {_VERSION}: {settings}, source of {size} bytes ({content})"


@dataclass(frozen=True)
class _Outcome:
    status: Literal["done", "skipped", "failed"]
    reason: str = ""
    disk_full: bool = False


class _Stopped(Exception):
    """The run was interrupted while this video was being encoded."""


def prepare(
    source: Path,
    target: Path,
    *,
    fps: float = FPS,
    short_side: int = SHORT_SIDE,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> PrepareReport:
    """Re-encode a video, or every video of a folder, into the folder ``target`` as ``<name>.mp4``.

    Videos finished by an earlier run with the same settings are skipped. ``target/prepare.json`` holds the report, also
    after an interruption, which leaves no unfinished file.

    Args:
        source: video file, or folder of video files.
        target: folder; made where absent.
        fps: frames per second of the output.
        short_side: pixels of the shorter side, made even; smaller videos are enlarged, as in the published pipeline.
        workers: processes that encode at the same time. 0 or 1: this process. None: one for each CPU we may use.
        overwrite: encode finished videos again.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        NothingToDoError: ``source`` holds no video.
        DataError: ``source`` is missing, or the disk is full.
        ConfigError: ``target`` is the folder of the sources, or ``fps`` or ``short_side`` is not positive.
        OSError: ``target`` cannot be written.
    """
    rate = exact_rate(fps)
    if rate <= 0 or short_side < 2:
        raise ConfigError(f"fps is {fps} and short_side is {short_side}; both must be positive, short_side at least 2")
    videos = list_videos(source)
    if target.resolve() == videos[0].parent.resolve():
        raise ConfigError(f"{target}: holds the sources; give another folder for the output")
    target.mkdir(parents=True, exist_ok=True)

    outcomes: dict[str, _Outcome] = {}
    jobs: list[_Job] = []
    owners: dict[Path, str] = {}
    for video in videos:
        job = _Job(video, target / f"{video.stem}.mp4", rate, short_side, overwrite)
        if job.target in owners:
            reason = f"{job.target.name} is the output of {owners[job.target]} already; rename one of them"
            outcomes[video.name] = _Outcome("failed", reason)
        else:
            owners[job.target] = video.name
            jobs.append(job)
    try:
        with closing(_run(jobs, _available_cpus() if workers is None else workers)) as finished:
            for job, outcome in progress_bar(finished, "prepare", len(jobs), "video", shown=progress):
                outcomes[job.source.name] = outcome
                if outcome.disk_full:
                    raise DataError(f"{target}: the disk is full; make room and run the same command again")
    except BaseException:
        # On a full disk the report may not fit; the error on its way says why.
        with suppress(OSError):
            write_json(target / REPORT_NAME, _report(outcomes).as_dict())
        raise
    report = _report(outcomes)
    write_json(target / REPORT_NAME, report.as_dict())
    return report


def _report(outcomes: dict[str, _Outcome]) -> PrepareReport:
    names = sorted(outcomes)
    return PrepareReport(
        done=tuple(name for name in names if outcomes[name].status == "done"),
        skipped=tuple(name for name in names if outcomes[name].status == "skipped"),
        failed={name: outcomes[name].reason for name in names if outcomes[name].status == "failed"},
    )


def _run(jobs: list[_Job], workers: int) -> Generator[tuple[_Job, _Outcome], None, None]:
    """Yield each job with its outcome, as they finish. Closing the iterator stops the workers between two frames."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        for job in jobs:
            yield job, _process(job, lambda: False)
        return
    # Spawned, because a fork would copy the threads and locks that torch and FFmpeg may already hold.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(workers, context, _start_worker, (stop,)) as pool:
        try:
            futures = {pool.submit(_process_in_worker, job): job for job in jobs}
            for future in as_completed(futures):
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    outcome = _Outcome("failed", "a worker process died, perhaps of too little memory; run again")
                yield futures[future], outcome
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


_stop_event: Event | None = None
"""Set in a worker process: tells it to abandon its video."""


def _start_worker(stop: Event) -> None:
    global _stop_event
    _stop_event = stop
    # Ctrl-C reaches every process of the terminal; only the parent acts on it, through the event.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _process_in_worker(job: _Job) -> _Outcome:
    assert _stop_event is not None
    return _process(job, _stop_event.is_set)


def _process(job: _Job, stopped: Callable[[], bool]) -> _Outcome:
    """Make one output. Errors become an outcome, because FFmpeg's do not travel between processes."""
    try:
        if not job.overwrite and _is_finished(job):
            return _Outcome("skipped")
        with VideoReader(job.source) as reader:
            planned = reader.packet_times()
        if planned.start_s > LONGEST_HELD_S:
            raise DataError(
                f"{job.source}: its picture starts {planned.start_s / 3600:.1f} hours late; its times are damaged, "
                "re-encode it"
            )
        with replace_atomically(job.target) as temporary:
            found = _encode(job, temporary, planned, stopped)
            if not found.same_as(planned):
                # Some packets gave no frame.
                planned, found = found, _encode(job, temporary, found, stopped)
            if not found.same_as(planned):
                raise DataError(f"{job.source}: gave other frames each time it was read; is it still being written?")
            _check(job, temporary, planned)
    except DataError as error:
        return _Outcome("failed", str(error))
    except _Stopped:
        return _Outcome("failed", "interrupted")
    except (av.error.FFmpegError, OSError) as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return _Outcome("failed", f"{job.source}: cannot be re-encoded ({error.strerror or error})", full)
    return _Outcome("done")


def _is_finished(job: _Job) -> bool:
    if not job.target.is_file():
        return False
    try:
        with VideoReader(job.target) as reader:
            if reader.comment != job.tag:
                return False
            for _ in reader:
                pass
            info = reader.info()
            # Our own header is exact, so a missing frame means damage.
            return info.problem is None and info.frames == reader.promised_frames
    except DataError:
        return False


def _encode(job: _Job, output: Path, times: TimeLine, stopped: Callable[[], bool]) -> TimeLine:
    """Write ``output`` from a source whose pictures are shown at ``times``, and return when they were found to be."""
    with VideoReader(job.source) as reader, av.open(str(output), "w", format="mp4") as sink:
        sink.metadata["comment"] = job.tag
        stream: VideoStream | None = None
        for number, frame in enumerate(_at_constant_rate(reader, job, times, stopped)):
            if stream is None:
                stream = _add_stream(sink, frame, job.fps)
            frame.pts, frame.time_base = number, 1 / job.fps
            # Otherwise the encoder repeats the source's choice of key frames.
            frame.pict_type = 0
            sink.mux(stream.encode(frame))
        found = reader.times()
        if stream is not None:
            sink.mux(stream.encode(None))
        return found


def _add_stream(sink: OutputContainer, frame: VideoFrame, fps: Fraction) -> VideoStream:
    stream = sink.add_stream("libx264", rate=fps, options=_ENCODER_OPTIONS)
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
    # One thread: the workers use the other CPUs, and the output does not depend on how many there are.
    stream.codec_context.thread_count = 1
    return stream


def _frames_of_each(times: TimeLine, fps: Fraction) -> list[int]:
    """Return how many frames of the output show each picture of the source."""
    repeats = times.repeats(fps)
    # The first one shown is held from time 0 on. Halves are rounded up, as everywhere.
    repeats[(repeats > 0).argmax()] += int(Fraction(times.start_s) * fps + Fraction(1, 2))
    return repeats.tolist()


def _at_constant_rate(
    reader: VideoReader, job: _Job, times: TimeLine, stopped: Callable[[], bool]
) -> Iterator[VideoFrame]:
    """Yield the source's frames upright, resized, and repeated or dropped to the constant rate."""
    graph: Graph | None = None
    # More frames than there should be are decoded, so that their times are known, but not used.
    wanted = chain(_frames_of_each(times, job.fps), repeat(0))
    for frame, count in zip(reader, wanted, strict=False):
        if stopped():
            raise _Stopped
        if count:
            graph = graph or _filters(frame, job)
            graph.vpush(frame)
            small = graph.vpull()
            for _ in range(count):
                if stopped():
                    raise _Stopped
                yield small


def _filters(frame: VideoFrame, job: _Job) -> Graph:
    turns = quarter_turns(frame)
    turned = turns % 2 == 1
    width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
    scale = job.short_side / min(width, height)

    graph = Graph()
    nodes = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=1 / job.fps),
        *(graph.add("transpose", dir="cclock") for _ in range(turns)),
        graph.add("scale", w=str(_even(width * scale)), h=str(_even(height * scale)), flags="bicubic"),
        graph.add("format", pix_fmts="yuv420p"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


def _even(length: float) -> int:
    """Return the nearest even number of pixels, at least 2: yuv420p stores colour for 2x2 blocks."""
    return max(2 * round(length / 2), 2)


def _check(job: _Job, output: Path, times: TimeLine) -> None:
    """Raise DataError unless ``output`` decodes to the frames that it should have."""
    info = probe(output)
    expected = sum(_frames_of_each(times, job.fps))
    if info.frames != expected or info.problem is not None:
        detail = info.problem or f"{info.frames} frames where {expected} were expected"
        raise DataError(f"{job.source}: the re-encoded video is faulty ({detail})")


def _available_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
