"""`synthetic://640x480@30?frames=100&pace=fast`: a moving pattern, for trying without a camera."""

import re

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.frame import FOREVER, Frame, Kind, nothing
from edgekit.device.pace import Clock, pace_of
from edgekit.device.picture import bgr
from edgekit.device.uri import Uri, number
from edgekit.errors import SpecError


def open_camera(uri: Uri) -> "Synthetic":
    """A camera of the size and rate given; `synthetic://` alone is 640x480 at 30 a second.

    Options: `frames` (end after so many; 0, the default, never ends) and `pace` (`realtime`, the
    default, or `fast`).

    Raises:
        SpecError: the size, the rate or an option is not as above.
    """
    uri.only("frames", "pace")
    match = re.fullmatch(r"(\d+)x(\d+)@([\d.]+)", uri.place or "640x480@30")
    if match is None:
        raise SpecError(f"'{uri.text}' must be synthetic://WIDTHxHEIGHT@FPS, as 640x480@30")
    width = int(number(uri, "the width", match[1], 1, 8192))
    height = int(number(uri, "the height", match[2], 1, 8192))
    fps = number(uri, "the rate", match[3], 0.1, 1000)
    realtime = pace_of(uri, "realtime") == "realtime"
    frames = int(uri.number("frames", 0, 0, 1e9))
    return Synthetic(width, height, fps, frames, realtime)


class Synthetic:
    """A colour gradient that moves a pixel to the left with each frame, and starts over.

    Frame n shows columns n mod width to n mod width + width of one picture drawn beforehand: a
    view, so a frame costs nothing.
    """

    def __init__(self, width: int, height: int, fps: float, frames: int, realtime: bool) -> None:
        self.kind: Kind = "live" if realtime else "clip"
        self.deadline_s = FOREVER
        self.copies = Copies()
        self._width, self._fps, self._frames = width, fps, frames
        self._clock = Clock("realtime" if realtime else "fast")
        self._picture = _pattern(width, height)
        self._next = 0

    def read(self) -> Frame | None:
        """The next frame, when it is due."""
        if self._frames and self._next >= self._frames:
            return None
        sequence, self._next = self._next, self._next + 1
        time_s = sequence / self._fps
        left = sequence % self._width
        pixels = self._picture[:, left : left + self._width]
        return Frame(bgr(pixels), sequence, self._clock.capture(time_s), time_s, nothing)

    def close(self) -> None:
        """Nothing to free."""


def _pattern(width: int, height: int) -> np.ndarray:
    """(height, 2 width, 3) uint8: two equal pictures side by side, so a view may move across."""
    x = np.arange(2 * width) % width * 255 // max(width - 1, 1)
    y = np.arange(height) * 255 // max(height - 1, 1)
    picture = np.empty((height, 2 * width, 3), np.uint8)
    picture[..., 0] = x
    picture[..., 1] = y[:, None]
    picture[..., 2] = 255 - x
    picture.flags.writeable = False
    return picture
