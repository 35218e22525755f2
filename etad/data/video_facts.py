"""What the videos of a folder are: length and frame rate, from their packets, without decoding."""

import functools
from collections import defaultdict
from pathlib import Path

from etad.data.annotation_formats.interval import VideoFacts
from etad.data.video_files import find_video, list_videos
from etad.errors import DataError


class VideoFolder:
    """A folder of videos, each looked at when it is first asked for.

    Raises:
        NothingToDoError: on construction, when the folder holds no video.
        DataError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if folder.is_file():
            raise DataError(f"{folder}: is a file; name the folder that holds the videos")
        self.folder = folder
        self.files = list_videos(folder)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in self.files:
            self._by_stem[path.stem].append(path)
        self.unreadable: dict[str, str] = {}
        self.facts_of = functools.cache(self._facts_of)

    def file_of(self, video_id: str) -> Path | None:
        """Return the file of a video, or None.

        Raises:
            DataError: several files bear its name.
        """
        found = find_video(self.folder, "{id}", video_id)
        alike = [] if found is None else self._by_stem[found.stem]
        if len(alike) > 1:
            names = " and ".join(path.name for path in alike)
            raise DataError(f"{self.folder}: two videos are called {video_id}: {names}; rename one, or move it away")
        return found

    def _facts_of(self, video_id: str) -> VideoFacts | None:
        """Return what a video is; None where there is no file, or none that can be opened (then in ``unreadable``).

        Raises:
            DataError: several files bear its name.
        """
        path = self.file_of(video_id)
        if path is None:
            return None
        from etad.data.video_reader import VideoReader  # torch is slow to import, and most files need no video

        try:
            with VideoReader(path) as reader:
                times = reader.packet_times()
        except DataError as error:
            self.unreadable[video_id] = str(error)
            return None
        # Until the picture ends, as a player counts: actions are told in that time.
        return VideoFacts(video_id, str(path), times.end_s, times.mean_rate)
