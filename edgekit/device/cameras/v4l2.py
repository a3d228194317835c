"""`v4l2:///dev/video0?width=1280&height=720&fps=30&format=mjpg`: a Linux camera, by OpenCV."""

import os
import stat
from pathlib import Path

from edgekit.device.cameras._capture import Capture, open_capture
from edgekit.device.uri import Uri
from edgekit.errors import SourceUnavailable

_FORMATS = ("driver", "mjpg", "yuyv")


def open_camera(uri: Uri) -> Capture:
    """A V4L2 device; `v4l2://` alone is /dev/video0.

    Options: `width`, `height` (pixels), `fps`, and `format`: `mjpg` (what most USB cameras need for
    30 frames a second above 640x480), `yuyv`, or `driver` (the default: what the driver is set to).
    A driver that cannot do as asked gives what it can.

    Raises:
        SourceUnavailable: no such device, it may not be opened, is busy, or gives no frame.
    """
    uri.only("width", "height", "fps", "format")
    device = uri.place or "/dev/video0"
    settings: dict[str, float] = {"CAP_PROP_BUFFERSIZE": 1.0}  # the newest frame, not the oldest
    fourcc = uri.choice("format", _FORMATS, "driver")
    if fourcc != "driver":
        settings["CAP_PROP_FOURCC"] = float(int.from_bytes(fourcc.upper().encode(), "little"))
    for option, key, highest in (
        ("width", "CAP_PROP_FRAME_WIDTH", 16384),
        ("height", "CAP_PROP_FRAME_HEIGHT", 16384),
        ("fps", "CAP_PROP_FPS", 1000),
    ):
        if option in uri.options:
            settings[key] = uri.number(option, 0, 1, highest)
    _check(device)
    return open_capture(device, device, "CAP_V4L2", settings)


def _check(device: str) -> None:
    """Say what is wrong with a device before OpenCV says nothing about it."""
    try:
        mode = os.stat(device).st_mode
    except OSError as error:
        there = ", ".join(str(path) for path in sorted(Path("/dev").glob("video*")))
        raise SourceUnavailable(
            f"no camera {device} ({error.strerror}); connect one; "
            f"video devices here: {there or 'none'}"
        ) from error
    if not stat.S_ISCHR(mode):
        raise SourceUnavailable(f"{device} is not a camera device; give one like /dev/video0")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceUnavailable(
            f"no permission to open {device}; add yourself to its group "
            "(`sudo usermod -aG video $USER`) and log in again"
        )
