"""Re-encoding videos to the published models' input: 15 frames/s, short side 256 (specification, section 1).

Output is H.264 (yuv420p) in mp4 without sound. Frames are repeated or dropped by their timestamps to reach the constant
rate, as FFmpeg's ``fps`` filter does. A file appears under its final name only after it was decoded and the number of
its frames fits the duration. It carries a tag of its source's size and the settings, by which a later run knows it as
finished.
"""

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Literal

import av
from av.container import OutputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from etad.data.video_files import list_videos
from etad.data.video_reader import VideoInfo, VideoReader, probe, quarter_turns
from etad.errors import ConfigError, DataError
from etad.files import replace_atomically, write_json
from etad.progress import progress as progress_bar
from etad.signals import end_with_parent

REPORT_NAME = "prepare.json"

# FFmpeg's own defaults, spelt out so that a new FFmpeg does not change the output.
_ENCODER_OPTIONS = {"crf": "23", "preset": "medium"}


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
        size = self.source.stat().st_size
        return f"etad-bench prepare: fps {self.fps}, short side {self.short_side}, source of {size} bytes"


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
    fps: float = 15.0,
    short_side: int = 256,
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
    rate = Fraction(fps).limit_denominator(1001)
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
        with replace_atomically(job.target) as temporary:
            _check(job, temporary, _encode(job, temporary, stopped))
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


def _encode(job: _Job, output: Path, stopped: Callable[[], bool]) -> VideoInfo:
    """Write ``output`` and return what the source held."""
    with VideoReader(job.source) as reader, av.open(str(output), "w", format="mp4") as sink:
        sink.metadata["comment"] = job.tag
        stream: VideoStream | None = None
        for number, frame in enumerate(_at_constant_rate(reader, job, stopped)):
            if stream is None:
                stream = _add_stream(sink, frame, job.fps)
            frame.pts, frame.time_base = number, 1 / job.fps
            # Otherwise the encoder repeats the source's choice of key frames.
            frame.pict_type = 0
            sink.mux(stream.encode(frame))
        info = reader.info()
        if stream is not None:
            sink.mux(stream.encode(None))
        return info


def _add_stream(sink: OutputContainer, frame: VideoFrame, fps: Fraction) -> VideoStream:
    stream = sink.add_stream("libx264", rate=fps, options=_ENCODER_OPTIONS)
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
    # One thread: the workers use the other CPUs, and the output does not depend on how many there are.
    stream.codec_context.thread_count = 1
    return stream


def _at_constant_rate(reader: VideoReader, job: _Job, stopped: Callable[[], bool]) -> Iterator[VideoFrame]:
    """Yield the source's frames upright, resized, and repeated or dropped to the constant rate."""
    graph: Graph | None = None
    for frame in _with_timestamps(reader):
        if stopped():
            raise _Stopped
        if graph is None:
            graph = _filters(frame, job)
        graph.vpush(frame)
        yield from _ready(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _ready(graph)


def _with_timestamps(reader: VideoReader) -> Iterable[VideoFrame]:
    """Yield the frames; one without a timestamp follows its predecessor by the nominal frame duration."""
    previous: int | None = None
    for frame in reader:
        if frame.pts is None:
            step = round(1 / (reader.rate * frame.time_base)) if frame.time_base else 1
            frame.pts = 0 if previous is None else previous + max(step, 1)
        previous = frame.pts
        yield frame


def _filters(frame: VideoFrame, job: _Job) -> Graph:
    turns = quarter_turns(frame)
    turned = turns % 2 == 1
    width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
    scale = job.short_side / min(width, height)

    graph = Graph()
    nodes = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
        # First, so that frames that are dropped are not scaled.
        graph.add("fps", fps=str(job.fps)),
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


def _ready(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield frame


def _check(job: _Job, output: Path, source: VideoInfo) -> None:
    """Raise DataError unless ``output`` decodes to as many frames as the duration asks for, one more or less."""
    info = probe(output)
    expected = source.duration_s * float(job.fps)
    # Half a frame more for rounding: the expected number itself is not whole.
    if abs(info.frames - expected) > 1.5 or info.problem is not None:
        detail = info.problem or f"{info.frames} frames where {expected:.1f} were expected"
        raise DataError(f"{job.source}: the re-encoded video is faulty ({detail})")


def _available_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
