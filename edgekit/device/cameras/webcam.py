"""`webcam://0?width=1280&height=720&fps=30`: a camera of a Mac or a PC with Windows, by OpenCV.

On Linux the same text opens `v4l2:///dev/video0`, which copies nothing.
"""

import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.device.capture.slots import Slots
from edgekit.device.copies import Copies
from edgekit.device.frame import Camera, Frame, Kind
from edgekit.device.missing import Missing, package
from edgekit.device.packages import opencv
from edgekit.device.picture import bgr
from edgekit.device.uri import Uri, number
from edgekit.errors import SourceUnavailable

_BACKENDS = {"darwin": "CAP_AVFOUNDATION", "win32": "CAP_MSMF"}
_PROPERTIES = {
    "width": "CAP_PROP_FRAME_WIDTH",
    "height": "CAP_PROP_FRAME_HEIGHT",
    "fps": "CAP_PROP_FPS",
}
_STEPS = {
    "darwin": "allow this terminal to use it in System Settings, Privacy & Security, Camera",
    "win32": "allow desktop apps to use it in Settings, Privacy & security, Camera",
}


def open_camera(uri: Uri) -> Camera:
    """Camera 0, 1 ... of this computer; `webcam://` alone is the first.

    Options: `width`, `height` (pixels) and `fps`. A driver that cannot do as asked gives what it
    can.

    Raises:
        SourceUnavailable: no such camera, it may not be opened, or gives no frame.
        MissingPackage: OpenCV is not installed.
    """
    uri.only(*_PROPERTIES)
    index = int(number(uri, "the camera", uri.place or "0", 0, 99))
    if sys.platform.startswith("linux"):
        from edgekit.device.cameras import v4l2

        return v4l2.open_camera(replace(uri, scheme="v4l2", place=f"/dev/video{index}"))
    settings = {
        key: uri.number(option, 0, 1, 16384)
        for option, key in _PROPERTIES.items()
        if option in uri.options
    }
    return Webcam(index, settings)


def missing() -> Missing | None:
    """On Linux, what `v4l2://` lacks; elsewhere OpenCV."""
    if sys.platform.startswith("linux"):
        from edgekit.device.cameras import v4l2

        return v4l2.missing()
    return package("cv2")


class Webcam:
    """A live camera through OpenCV. Memory for three frames is allocated once, and lent in turn.

    OpenCV's wait for a frame cannot be ended from here: who needs that reads the camera in a
    process of its own.
    """

    kind: Kind = "live"
    deadline_s = 10.0

    def __init__(self, index: int, settings: dict[str, float]) -> None:
        """Open a camera.

        Args:
            index: which, from 0.
            settings: properties to ask for, as `CAP_PROP_FPS`.

        Raises:
            SourceUnavailable: it cannot be opened, or gives no first frame.
            MissingPackage: OpenCV is not installed.
        """
        cv2 = opencv("opening a camera")
        self.copies = Copies()
        self._name = f"webcam://{index}"
        self._sequence = 0
        self._first_ns = 0
        backend = getattr(cv2, _BACKENDS.get(sys.platform, "CAP_ANY"))
        self._capture: Any = cv2.VideoCapture(index, backend)
        try:
            self._slots = Slots(self._first_shape(cv2, settings))
        except BaseException:
            self.close()
            raise

    def read(self) -> Frame | None:
        """Wait for the next frame.

        Raises:
            SourceUnavailable: the camera went away or stopped.
        """
        slot, release = self._slots.take()
        there, pixels = self._capture.read(slot)
        captured_ns = time.monotonic_ns()
        if not there or pixels.shape != slot.shape:
            release()
            raise SourceUnavailable(
                f"the camera {self._name} went away or stopped after frame {self._sequence}; "
                "check its cable and power, then start again"
            )
        # A copy of the whole frame: OpenCV converts what the system gives (YUYV, MJPEG) to BGR.
        self.copies.add("frame", "OpenCV: driver's format to BGR", pixels.nbytes)
        if not np.shares_memory(pixels, slot):
            self.copies.add("frame", "OpenCV: into memory of its own", pixels.nbytes)
        sequence, self._sequence = self._sequence, self._sequence + 1
        self._first_ns = self._first_ns or captured_ns
        time_s = (captured_ns - self._first_ns) / 1e9
        return Frame(bgr(pixels), sequence, captured_ns, time_s, release)

    def close(self) -> None:
        """Give the camera back to the system; closing again does nothing."""
        self._capture.release()

    def _first_shape(self, cv2: Any, settings: dict[str, float]) -> tuple[int, ...]:
        """Set it up, and see what it gives."""
        steps = _STEPS.get(sys.platform, "check that it is connected")
        if not self._capture.isOpened():
            raise SourceUnavailable(
                f"the camera {self._name} cannot be opened; is it there, and does no other program "
                f"use it? If so, {steps}"
            )
        for key, value in settings.items():
            self._capture.set(getattr(cv2, key), value)
        there, first = self._capture.read()
        if not there:
            raise SourceUnavailable(
                f"the camera {self._name} is there but gives no frame; close programs that use it, "
                f"and {steps}"
            )
        shape: tuple[int, ...] = first.shape
        return shape
