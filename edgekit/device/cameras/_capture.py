"""OpenCV's capture as a camera: what `v4l2` and `csi` share."""

import os
import time
from typing import Any

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.frame import Frame, Kind
from edgekit.device.packages import opencv
from edgekit.device.picture import bgr
from edgekit.device.slots import Slots
from edgekit.errors import SourceUnavailable

_SELECT_TIMEOUT = "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"
_DEADLINE_S = 5


def open_capture(name: str, source: str, backend: str, settings: dict[str, float]) -> "Capture":
    """Open a device or a pipeline.

    Args:
        name: for messages.
        source: the device, or the text of the pipeline.
        backend: OpenCV's name, as `CAP_V4L2`.
        settings: properties to ask for, as `CAP_PROP_FPS`; a driver may give others.

    Raises:
        SourceUnavailable: it cannot be opened, or gives no first frame.
        MissingPackage: OpenCV is not installed.
    """
    # OpenCV waits for a V4L2 frame with select(2); without an end it would hold the thread.
    os.environ.setdefault(_SELECT_TIMEOUT, str(_DEADLINE_S))
    cv2 = opencv("opening a camera")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # our errors say it better
    capture = cv2.VideoCapture(source, getattr(cv2, backend))
    try:
        if not capture.isOpened():
            raise SourceUnavailable(f"the camera {name} cannot be opened; {_BUSY}")
        for key, value in settings.items():
            capture.set(getattr(cv2, key), value)
        there, first = capture.read()
        if not there:
            raise SourceUnavailable(f"the camera {name} is there but gives no frame; {_BUSY}")
    except BaseException:
        capture.release()
        raise
    return Capture(name, capture, first.shape, cv2.CAP_PROP_POS_MSEC)


class Capture:
    """A live camera through OpenCV. Three frames of memory are allocated once and lent in turn."""

    kind: Kind = "live"
    deadline_s = 10.0

    def __init__(
        self, name: str, capture: Any, shape: tuple[int, ...], timestamp_property: int
    ) -> None:
        self.copies = Copies()
        self._name = name
        self._capture = capture
        self._slots = Slots(shape)
        self._timestamp = timestamp_property
        self._sequence = 0
        self._first_ns = 0

    def read(self) -> Frame | None:
        """Wait for the next frame.

        Raises:
            SourceUnavailable: the camera went away, or gave nothing for 5 s.
        """
        slot, release = self._slots.take()
        there, pixels = self._capture.read(slot)
        captured_ns = self._captured_ns()
        if not there or pixels.shape != slot.shape:
            raise SourceUnavailable(
                f"the camera {self._name} went away or stopped after frame {self._sequence}; "
                "check its cable and power, then start again"
            )
        # A copy of the whole frame: OpenCV converts the driver's buffer (YUYV, MJPEG) to BGR.
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

    def _captured_ns(self) -> int:
        """The driver's timestamp where it is on our clock, else now."""
        now = time.monotonic_ns()
        stamp = int(self._capture.get(self._timestamp) * 1e6)
        return stamp if 0 <= now - stamp < 10_000_000_000 else now


_BUSY = (
    "is another program using it? `fuser -v /dev/video*` shows which; close that, or unplug the "
    "camera and plug it in again"
)
