"""`clip.mp4`, `file://clip.mp4?pace=realtime`: a video file, decoded by FFmpeg's libraries (PyAV).

By default every frame is used, as fast as the model goes. `pace=realtime` plays it as a camera
would: by its timestamps, the latest frame wins, drops are counted.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.frame import FOREVER, Frame, Kind, nothing
from edgekit.device.pace import Clock, Pace, pace_of
from edgekit.device.packages import pyav
from edgekit.device.picture import rgb
from edgekit.device.uri import Uri
from edgekit.errors import ImageError

# FFmpeg's AVColorSpace -> swscale's SWS_CS: BT.709, FCC, BT.601 (625 and 525 lines), 240M, BT.2020.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_HD_LINES = 720  # untagged video of so many lines or more is BT.709, below it is BT.601


def open_camera(uri: Uri) -> "Clip":
    """A video file. Option: `pace`, `fast` (the default) or `realtime`.

    Raises:
        ImageError: the file is missing, no video, or has no video in it.
        MissingPackage: PyAV is not installed.
    """
    uri.only("pace")
    return Clip(Path(uri.place), pace_of(uri, "fast"))


class Clip:
    """A video file as a camera."""

    def __init__(self, path: Path, pace: Pace) -> None:
        av = pyav("reading a video file")
        self.kind: Kind = "live" if pace == "realtime" else "clip"
        self.deadline_s = FOREVER
        self.copies = Copies()
        self._path, self._av = path, av
        self._clock = Clock(pace)
        self._container: Any = None
        try:
            self._container = av.open(f"file:{path}")
        except (av.FFmpegError, OSError) as error:
            raise ImageError(f"cannot open the clip {path}: {_reason(error)}") from error
        if not self._container.streams.video:
            self.close()
            raise ImageError(f"{path} has no video in it; give a clip, for instance an MP4")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self._fps = float(stream.average_rate or 30)
        self._decoded: Iterator[Any] = self._container.decode(stream)
        self._sequence = 0
        self._first_s: float | None = None

    def read(self) -> Frame | None:
        """Decode the next frame; its memory is its own until it is released.

        Raises:
            ImageError: the clip is damaged.
        """
        try:
            decoded = next(self._decoded, None)
        except self._av.FFmpegError as error:
            raise ImageError(
                f"the clip {self._path} is damaged after frame {self._sequence}: {_reason(error)}"
            ) from error
        if decoded is None:
            if not self._sequence:
                raise ImageError(f"the clip {self._path} has no frame that can be decoded")
            return None
        pixels = self._rgb(decoded)
        time_s = self._time(decoded)
        sequence, self._sequence = self._sequence, self._sequence + 1
        return Frame(rgb(pixels), sequence, self._clock.capture(time_s), time_s, nothing)

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _rgb(self, decoded: Any) -> np.ndarray:
        """(H, W, 3) uint8: a view of the plane that FFmpeg's converter wrote, upright."""
        # A copy of the whole frame: decoders give YUV planes, and the image contract is RGB.
        converted = decoded.reformat(format="rgb24", src_colorspace=_matrix(decoded))
        plane = converted.planes[0]
        height, width = converted.height, converted.width
        self.copies.add("frame", "YUV to RGB", height * width * 3)
        pixels = np.ndarray(
            (height, width, 3), np.uint8, buffer=plane, strides=(plane.line_size, 3, 1)
        )
        # Phones record sideways and say so in the file.
        turns = round(decoded.rotation / 90) % 4
        return np.rot90(pixels, turns) if turns else pixels

    def _time(self, decoded: Any) -> float:
        """Seconds since the first frame; counted by the average rate where a file tells no time."""
        time_s = self._sequence / self._fps if decoded.time is None else float(decoded.time)
        if self._first_s is None:
            self._first_s = time_s
        return max(time_s - self._first_s, 0.0)


def _matrix(decoded: Any) -> int:
    """The YUV matrix, swscale's number: the file's own, or what its number of lines implies."""
    return _MATRICES.get(int(decoded.colorspace), 1 if decoded.height >= _HD_LINES else 5)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
