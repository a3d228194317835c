"""`clip.mp4`, `file://clip.mp4?pace=realtime&loop=1`: a video file, decoded by FFmpeg (PyAV).

By default every frame is used, as fast as the model goes. `pace=realtime` plays it as a camera
would: by its timestamps, the latest frame wins, drops are counted.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit.device.cameras._video import picture, reason
from edgekit.device.copies import Copies
from edgekit.device.frame import FOREVER, Frame, Kind, nothing
from edgekit.device.missing import Missing, package
from edgekit.device.pace import Clock, Pace, pace_of
from edgekit.device.packages import pyav
from edgekit.device.uri import Uri
from edgekit.errors import ImageError


def open_camera(uri: Uri) -> "Clip":
    """A video file.

    Options: `pace`, `fast` (the default) or `realtime`; `loop`, 1 to start over at its end.

    Raises:
        ImageError: the file is missing, no video, or has no video in it.
        MissingPackage: PyAV is not installed.
    """
    uri.only("pace", "loop")
    loops = uri.choice("loop", ("0", "1"), "0") == "1"
    return Clip(Path(uri.place), pace_of(uri, "fast"), loops)


def missing() -> Missing | None:
    """What decodes videos."""
    return package("av")


class Clip:
    """A video file as a camera. A frame's planes are the decoder's own, kept alive by the frame."""

    def __init__(self, path: Path, pace: Pace = "fast", loops: bool = False) -> None:
        self.kind: Kind = "live" if pace == "realtime" else "clip"
        self.deadline_s = FOREVER
        self.copies = Copies()
        self._path, self._loops = path, loops
        self._av = pyav("reading a video file")
        self._clock = Clock(pace)
        self._container: Any = None
        self._sequence = 0
        self._first_s: float | None = None  # in this round of a loop
        self._round = 0  # the number of the first frame of this round
        self._ended_s = 0.0  # when the rounds before ended
        self._last_s = 0.0
        self._decoded = self._open()

    def read(self) -> Frame | None:
        """Decode the next frame; its memory is its own until it is released.

        Raises:
            ImageError: the clip is damaged.
        """
        decoded = self._next()
        if decoded is None:
            return None
        time_s = self._last_s = self._time(decoded)
        sequence, self._sequence = self._sequence, self._sequence + 1
        lent = picture(decoded, self.copies)
        return Frame(lent, sequence, self._clock.capture(time_s), time_s, nothing)

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self) -> Iterator[Any]:
        try:
            self._container = self._av.open(f"file:{self._path}")
        except (self._av.FFmpegError, OSError) as error:
            raise ImageError(f"cannot open the clip {self._path}: {reason(error)}") from error
        if not self._container.streams.video:
            self.close()
            raise ImageError(f"{self._path} has no video in it; give a clip, for instance an MP4")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self._fps = float(stream.average_rate or 30)
        decoded: Iterator[Any] = self._container.decode(stream)
        return decoded

    def _next(self) -> Any:
        """The next decoded frame; None at the end."""
        if self._container is None:
            return None
        try:
            decoded = next(self._decoded, None)
            if decoded is None and self._loops and self._sequence > self._round:
                self._start_over()
                decoded = next(self._decoded, None)
        except self._av.FFmpegError as error:
            raise ImageError(
                f"the clip {self._path} is damaged after frame {self._sequence}: {reason(error)}"
            ) from error
        if decoded is None and not self._sequence:
            raise ImageError(f"the clip {self._path} has no frame that can be decoded")
        return decoded

    def _start_over(self) -> None:
        """Open it anew, which works where seeking does not; its time goes on by one frame."""
        self.close()
        self._decoded = self._open()
        self._first_s, self._round = None, self._sequence
        self._ended_s = self._last_s + 1 / self._fps

    def _time(self, decoded: Any) -> float:
        """Seconds since the first frame; counted by the average rate where a file tells no time."""
        counted_s = (self._sequence - self._round) / self._fps
        time_s = counted_s if decoded.time is None else float(decoded.time)
        if self._first_s is None:
            self._first_s = time_s
        return self._ended_s + max(time_s - self._first_s, 0.0)
